//! A page as mdBook reads it: with what it includes, and where each line comes from.

use std::path::{Component, Path};

use anyhow::{Context as _, bail};

/// A page with its includes.
#[derive(Default, Debug)]
pub(super) struct Text {
    pub(super) whole: String,
    /// File and line of each line.
    origins: Vec<(String, usize)>,
    /// The files that were included.
    pub(super) included: Vec<String>,
}

impl Text {
    /// Reads a page of the book. `file` finds the text of a path below the repository's root.
    pub(super) fn read<'a>(path: &str, file: impl Fn(&str) -> Option<&'a str>) -> anyhow::Result<Self> {
        let own = file(path).with_context(|| format!("there is no page {path}"))?;
        let mut text = Self::default();
        for (number, line) in (1..).zip(own.lines()) {
            let directive = line.trim().strip_prefix("{{#").and_then(|rest| rest.strip_suffix("}}"));
            let Some(directive) = directive else {
                text.push(line, path, number);
                continue;
            };
            let included = text.include(path, directive, &file);
            included.with_context(|| format!("{path}:{number}: {{{{#{directive}}}}}"))?;
        }
        Ok(text)
    }

    /// Where a line comes from.
    pub(super) fn place(&self, line: usize) -> String {
        match self.origins.get(line - 1) {
            Some((path, number)) => format!("{path}:{number}"),
            None => format!("line {line}"),
        }
    }

    fn push(&mut self, line: &str, path: &str, number: usize) {
        self.whole.push_str(line);
        self.whole.push('\n');
        self.origins.push((path.to_owned(), number));
    }

    fn include<'a>(
        &mut self,
        page: &str,
        directive: &str,
        file: impl Fn(&str) -> Option<&'a str>,
    ) -> anyhow::Result<()> {
        let Some(wanted) = directive.strip_prefix("include ") else {
            bail!("of mdBook's directives only `include` is read here");
        };
        let mut parts = wanted.trim().splitn(3, ':');
        let target =
            resolved(page, parts.next().unwrap_or_default()).context("it leads out of the repository")?;
        let number = |part: Option<&str>, otherwise: usize| match part {
            None | Some("") => Ok(otherwise),
            Some(part) => part.parse().with_context(|| format!("`{part}` is no number of a line")),
        };
        let (from, to) = (parts.next(), parts.next());
        let first = number(from, 1)?;
        // One number alone is that line alone.
        let last = if from.is_some() && to.is_none() { first } else { number(to, usize::MAX)? };
        let text = file(&target).with_context(|| format!("there is no {target}"))?;
        for (number, line) in (1..).zip(text.lines()).filter(|(number, _)| (first..=last).contains(number)) {
            self.push(line, &target, number);
        }
        self.included.push(target);
        Ok(())
    }
}

/// A path that is written in a page, from the repository's root; nothing if it leads out of it.
pub(super) fn resolved(page: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in Path::new(target).components() {
        match part {
            Component::ParentDir => drop(parts.pop()?),
            Component::CurDir => {}
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> Option<&'static str> {
        match path {
            "docs/src/a.md" => Some("one\n{{#include ../../B.md:2:}}\nlast\n"),
            "docs/src/line.md" => {
                Some("{{#include ../../B.md:2}}\n{{#include ../../B.md:1:2}}\n{{#include ../../B.md}}")
            }
            "B.md" => Some("# B\ntwo\nthree\n"),
            "wrong.md" => Some("\n{{#playground x.rs}}\n"),
            "gone.md" => Some("{{#include x.md}}"),
            _ => None,
        }
    }

    #[test]
    fn what_is_included_keeps_its_place() {
        let text = Text::read("docs/src/a.md", file).unwrap();
        assert_eq!(text.whole, "one\ntwo\nthree\nlast\n");
        let places: Vec<String> = (1..=5).map(|line| text.place(line)).collect();
        assert_eq!(places, ["docs/src/a.md:1", "B.md:2", "B.md:3", "docs/src/a.md:3", "line 5"]);
        assert_eq!(text.included, ["B.md"]);
        assert_eq!(Text::read("docs/src/line.md", file).unwrap().whole, "two\n# B\ntwo\n# B\ntwo\nthree\n");
    }

    #[test]
    fn what_cannot_be_included_is_refused_with_its_place() {
        let refusal = |path| format!("{:#}", Text::read(path, file).unwrap_err());
        assert!(
            refusal("wrong.md").starts_with("wrong.md:2: {{#playground x.rs}}: of mdBook's"),
            "{}",
            refusal("wrong.md")
        );
        assert!(refusal("gone.md").ends_with("there is no x.md"));
        assert!(refusal("none.md").contains("no page"));
    }

    #[test]
    fn paths_are_followed_from_their_page() {
        assert_eq!(resolved("docs/src/a/b.md", "../c.md").as_deref(), Some("docs/src/c.md"));
        assert_eq!(resolved("README.md", "./docs/").as_deref(), Some("docs"));
        assert_eq!(resolved("README.md", "../x"), None);
        assert_eq!(resolved("README.md", "/x"), None);
    }
}
