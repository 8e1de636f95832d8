//! A Rust file as a flat list of tokens with their lines: comments and strings cannot be mistaken for code.

use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};

use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};

pub(crate) struct RustSource<'a> {
    text_lines: Vec<&'a str>,
    pub(crate) tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Word(String),
    Punct(char),
    /// Opens a group; the index of the token that closes it.
    Open(Delimiter, usize),
    /// Closes a group; the index of the token that opens it.
    Close(Delimiter, usize),
    Literal,
}

#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) lines: RangeInclusive<usize>,
}

impl<'a> RustSource<'a> {
    /// `None` where the text is not Rust.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let mut source = Self { text_lines: text.lines().collect(), tokens: Vec::new() };
        source.push_all(text.parse().ok()?);
        Some(source)
    }

    fn push_all(&mut self, stream: TokenStream) {
        for tree in stream {
            match tree {
                TokenTree::Ident(word) => self.push(Kind::Word(word.to_string()), word.span()),
                TokenTree::Punct(punct) => self.push(Kind::Punct(punct.as_char()), punct.span()),
                TokenTree::Literal(literal) => self.push(Kind::Literal, literal.span()),
                TokenTree::Group(group) => {
                    let open = self.tokens.len();
                    self.push(Kind::Open(group.delimiter(), open), group.span_open());
                    self.push_all(group.stream());
                    let close = self.tokens.len();
                    self.push(Kind::Close(group.delimiter(), open), group.span_close());
                    self.tokens[open].kind = Kind::Open(group.delimiter(), close);
                }
            }
        }
    }

    fn push(&mut self, kind: Kind, span: Span) {
        self.tokens.push(Token { kind, lines: span.start().line..=span.end().line });
    }

    pub(crate) fn word(&self, at: usize) -> Option<&str> {
        match &self.tokens.get(at)?.kind {
            Kind::Word(word) => Some(word),
            _ => None,
        }
    }

    pub(crate) fn is_punct(&self, at: usize, wanted: char) -> bool {
        self.tokens.get(at).is_some_and(|token| token.kind == Kind::Punct(wanted))
    }

    /// The indices inside the group that opens at `at`, if one does.
    pub(crate) fn group(&self, at: usize, wanted: Delimiter) -> Option<Range<usize>> {
        match self.tokens.get(at)?.kind {
            Kind::Open(delimiter, close) if delimiter == wanted => Some(at + 1..close),
            _ => None,
        }
    }

    /// Whether `::` stands there.
    pub(crate) fn is_path(&self, at: usize) -> bool {
        self.is_punct(at, ':') && self.is_punct(at + 1, ':')
    }

    /// What is only built for tests: items after `#[cfg(test)]` and its like.
    pub(crate) fn test_ranges(&self) -> Vec<Range<usize>> {
        let marks = (0..self.tokens.len()).filter(|at| self.is_punct(*at, '#'));
        let test = |at: usize| {
            let attribute = self.group(at + 1, Delimiter::Bracket)?;
            let is_test =
                self.word(attribute.start) == Some("cfg") && self.has_word(attribute.clone(), "test");
            is_test.then(|| attribute.end + 1..self.item_end(attribute.end + 1))
        };
        marks.filter_map(test).collect()
    }

    /// The names of modules of tests in files of their own.
    pub(crate) fn test_modules(&self) -> impl Iterator<Item = &str> {
        self.test_ranges().into_iter().filter_map(|range| {
            let at = range.clone().find(|at| self.word(*at) == Some("mod"))?;
            self.word(at + 1).filter(|_| self.is_punct(at + 2, ';'))
        })
    }

    /// Behind the item that begins here: its semicolon, or the braces of its body.
    fn item_end(&self, from: usize) -> usize {
        let mut at = from;
        while let Some(token) = self.tokens.get(at) {
            at = match token.kind {
                Kind::Punct(';') => return at + 1,
                Kind::Open(Delimiter::Brace, close) => return close + 1,
                Kind::Open(_, close) => close + 1,
                _ => at + 1,
            };
        }
        at
    }

    pub(crate) fn line(&self, at: usize) -> usize {
        self.tokens.get(at).map_or(1, |token| *token.lines.start())
    }

    pub(crate) fn has_word(&self, range: Range<usize>, wanted: &str) -> bool {
        range.into_iter().any(|at| self.word(at) == Some(wanted))
    }

    /// How many lines hold code: no blank ones, no comments. Counts as clippy's `too_many_lines` does.
    pub(crate) fn code_lines(&self, tokens: impl Iterator<Item = usize>) -> usize {
        let lines: BTreeSet<_> = tokens.flat_map(|at| self.tokens[at].lines.clone()).collect();
        lines.into_iter().filter(|line| !self.is_comment(*line)).count()
    }

    // Documentation comments reach the token list as attributes.
    fn is_comment(&self, line: usize) -> bool {
        self.text_lines.get(line - 1).is_some_and(|text| text.trim_start().starts_with("//"))
    }
}
