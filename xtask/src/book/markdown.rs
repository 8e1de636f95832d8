//! The fenced blocks of a page of Markdown, each with the comment before it.

use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};

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

/// Finds the blocks of a page.
pub(super) fn fences(text: &str) -> Vec<Fence> {
    let mut fences: Vec<Fence> = Vec::new();
    let mut in_fence = false;
    for (event, range) in Parser::new(text).into_offset_iter() {
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                fences.push(open(text, &info, range.start));
                in_fence = true;
            }
            Event::End(TagEnd::CodeBlock) => in_fence = false,
            Event::Text(words) if in_fence => {
                if let Some(fence) = fences.last_mut() {
                    fence.text.push_str(&words);
                }
            }
            _ => {}
        }
    }
    fences
}

fn open(text: &str, info: &str, at: usize) -> Fence {
    let line = 1 + text[..at].matches('\n').count();
    let language = info.split([' ', ',']).next().unwrap_or_default().to_owned();
    let before = line.checked_sub(2).and_then(|index| text.lines().nth(index)).unwrap_or_default();
    let comment = before.trim().strip_prefix("<!--").and_then(|rest| rest.strip_suffix("-->"));
    let comment = comment.map(|comment| comment.trim().to_owned());
    Fence { line, language, text: String::new(), comment }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# A `code`\n\n<!-- run: server -->\n```console\n$ a\nb\n```\n\n- item\n\n  <!-- not run: why -->\n  \
                        ```python\n  c\n  ```\n\n<!-- far away -->\n\n```text\nd\n```\n";

    #[test]
    fn fences_have_their_language_their_text_and_the_comment_before_them() {
        let found = fences(PAGE);
        let told: Vec<_> = found
            .iter()
            .map(|fence| (fence.line, &*fence.language, &*fence.text, fence.comment.as_deref()))
            .collect();
        let expected = [
            (4, "console", "$ a\nb\n", Some("run: server")),
            (12, "python", "c\n", Some("not run: why")),
            (18, "text", "d\n", None),
        ];
        assert_eq!(told, expected);
    }
}
