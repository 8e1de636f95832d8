//! A page of Markdown as far as it matters here: fenced blocks with the comment before each, links, anchors.

use std::collections::BTreeSet;

use pulldown_cmark::{BrokenLink, CodeBlockKind, CowStr, Event, LinkType, Options, Parser, Tag, TagEnd};

/// What is in a page. Lines count from 1.
#[derive(Default, Debug)]
pub(super) struct Page {
    pub(super) fences: Vec<Fence>,
    pub(super) links: Vec<Link>,
    /// What a link to a part of it may name.
    pub(super) anchors: BTreeSet<String>,
    /// References that are defined nowhere.
    pub(super) undefined: Vec<Link>,
}

/// A block between fences.
#[derive(Debug)]
pub(super) struct Fence {
    /// Of the opening fence.
    pub(super) line: usize,
    pub(super) language: String,
    pub(super) text: String,
    /// What the HTML comment on the line before says.
    pub(super) comment: Option<String>,
}

/// A link or a picture.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) line: usize,
    pub(super) target: String,
}

/// Reads a page.
pub(super) fn read(text: &str) -> Page {
    let mut undefined = Vec::new();
    let mut page = Page::default();
    let mut note = |link: BrokenLink<'_>| -> Option<(CowStr<'_>, CowStr<'_>)> {
        // Of `[a][b]` it is certain that a link was meant.
        if link.link_type == LinkType::Reference {
            undefined.push((link.span.start, link.reference.to_string()));
        }
        None
    };
    let extensions = Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS;
    let parser = Parser::new_with_broken_link_callback(text, extensions, Some(&mut note));
    let mut reading = Reading { text, page: &mut page, heading: None, in_fence: false };
    for (event, range) in parser.into_offset_iter() {
        reading.take(event, range.start);
    }
    page.undefined =
        undefined.into_iter().map(|(at, target)| Link { line: line_of(text, at), target }).collect();
    page
}

struct Reading<'a> {
    text: &'a str,
    page: &'a mut Page,
    /// The text of the heading that is open.
    heading: Option<String>,
    in_fence: bool,
}

impl Reading<'_> {
    fn take(&mut self, event: Event<'_>, at: usize) {
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => self.open(&info, at),
            Event::End(TagEnd::CodeBlock) => self.in_fence = false,
            Event::Start(Tag::Heading { .. }) => self.heading = Some(String::new()),
            Event::End(TagEnd::Heading(_)) => {
                let heading = self.heading.take().unwrap_or_default();
                let anchor = unused(&slug(&heading), &self.page.anchors);
                self.page.anchors.insert(anchor);
            }
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                self.link(&dest_url, at);
            }
            Event::Text(words) if self.in_fence => {
                if let Some(fence) = self.page.fences.last_mut() {
                    fence.text.push_str(&words);
                }
            }
            Event::Text(words) | Event::Code(words) => {
                if let Some(heading) = &mut self.heading {
                    heading.push_str(&words);
                }
            }
            Event::Html(html) | Event::InlineHtml(html) => {
                for target in attributes(&html, &["href", "src"]) {
                    self.link(target, at);
                }
                self.page.anchors.extend(attributes(&html, &["id", "name"]).map(str::to_owned));
            }
            _ => {}
        }
    }

    fn open(&mut self, info: &str, at: usize) {
        self.in_fence = true;
        let line = line_of(self.text, at);
        let language = info.split([' ', ',']).next().unwrap_or_default().to_owned();
        let before = line.checked_sub(2).and_then(|index| self.text.lines().nth(index)).unwrap_or_default();
        let comment = before.trim().strip_prefix("<!--").and_then(|rest| rest.strip_suffix("-->"));
        let comment = comment.map(|comment| comment.trim().to_owned());
        self.page.fences.push(Fence { line, language, text: String::new(), comment });
    }

    fn link(&mut self, target: &str, at: usize) {
        self.page.links.push(Link { line: line_of(self.text, at), target: target.to_owned() });
    }
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text[..at].matches('\n').count()
}

/// The values of these attributes, in HTML as tools write it: lower case and in double quotes.
pub(super) fn attributes<'a>(html: &'a str, names: &'static [&str]) -> impl Iterator<Item = &'a str> {
    names.iter().flat_map(move |name| {
        let values = html.split("=\"").zip(html.split("=\"").skip(1));
        values.filter_map(move |(before, after)| {
            let is_it = before.strip_suffix(name).is_some_and(|rest| rest.ends_with(char::is_whitespace));
            after.split_once('"').filter(|_| is_it).map(|(value, _)| value)
        })
    })
}

/// The anchor of a heading, as mdBook and GitHub make it.
fn slug(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter_map(|letter| match letter {
        _ if letter.is_whitespace() => Some('-'),
        '_' | '-' => Some(letter),
        _ => letter.is_alphanumeric().then_some(letter),
    });
    kept.collect()
}

/// The same with a number, if there is one like it already.
fn unused(slug: &str, known: &BTreeSet<String>) -> String {
    let numbered = (1..).map(|number| format!("{slug}-{number}"));
    let mut candidates = std::iter::once(slug.to_owned()).chain(numbered);
    candidates.find(|candidate| !known.contains(candidate)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# A `code` & *b*: c (d)\n\n## One\n\n## One\n\n[a](b.md#c) and\n![p](p.png) [x][y]\n\n\
                        <!-- run: server -->\n```console\n$ a\nb\n```\n\n- item\n\n  <!-- not run: why -->\n  \
                        ```python\n  c\n  ```\n\n<!-- far away -->\n\n```text\nd\n```\n<img id=\"i\" src=\"q.png\">\n";

    #[test]
    fn fences_have_their_language_their_text_and_the_comment_before_them() {
        let page = read(PAGE);
        let told: Vec<_> = page
            .fences
            .iter()
            .map(|fence| (fence.line, &*fence.language, &*fence.text, fence.comment.as_deref()))
            .collect();
        let expected = [
            (11, "console", "$ a\nb\n", Some("run: server")),
            (19, "python", "c\n", Some("not run: why")),
            (25, "text", "d\n", None),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn links_pictures_and_anchors_are_found_in_markdown_and_in_html() {
        let page = read(PAGE);
        let links: Vec<_> = page.links.iter().map(|link| (link.line, &*link.target)).collect();
        assert_eq!(links, [(7, "b.md#c"), (8, "p.png"), (28, "q.png")]);
        assert_eq!(page.anchors, ["a-code--b-c-d", "i", "one", "one-1"].map(str::to_owned).into());
        assert_eq!(
            page.undefined.iter().map(|link| (link.line, &*link.target)).collect::<Vec<_>>(),
            [(8, "y")]
        );
    }

    #[test]
    fn an_attribute_is_not_the_end_of_another() {
        let html = "<a data-href=\"no\" href=\"yes\" class=\"x\"><img src=\"too\">";
        assert_eq!(attributes(html, &["href", "src"]).collect::<Vec<_>>(), ["yes", "too"]);
    }
}
