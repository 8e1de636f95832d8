//! Regular expressions of schemas (`pattern`, `patternProperties`), from ECMA-262's dialect to the library's.
//!
//! What the two read differently is refused or rewritten: `\d`, `\w` and `\s`, the dot, and brackets, operators and flags that
//! ECMA-262 does not have. The library (derivre 0.3.13) also takes a character class with all control characters for one
//! with all characters when it quotes a JSON string, and lets `\"` and `\\` pass where the class is `[^"]` or `[\x00-\x1f]`.
//! It does so only if U+0000 is among them, so each class loses that character: what is left of the expression matches less,
//! and nothing else.

use regex_syntax::ast::parse::Parser;
use regex_syntax::ast::{
    self, AssertionKind, Ast, ClassPerl, ClassPerlKind, ClassSetBinaryOp, ClassSetItem, Literal, LiteralKind,
    Span, SpecialLiteralKind, Visitor,
};
use regex_syntax::hir::literal::Extractor;
use regex_syntax::hir::{Hir, Look};

use crate::error::GrammarRefusal;

/// ECMA-262's white space and line ends.
const SPACES: &str =
    "\\t-\\r \\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}\\x{feff}";
/// What a dot matches in ECMA-262.
const DOT: &str = "[^\\n\\r\\x{2028}\\x{2029}]";

/// What is read otherwise, or not at all.
const BRACKET: &str = "a bracket within brackets, without a backslash,";

/// The expression for the library, or why not.
pub(crate) fn prepare(pattern: &str) -> Result<String, GrammarRefusal> {
    // The library's parser takes it for a range that begins with 0, ECMA-262 for text.
    if pattern.contains("{,") {
        return Err(GrammarRefusal("\"{,\" in a regular expression is not supported".to_owned()));
    }
    let mut prepared = pattern.to_owned();
    for (span, text) in ast::visit(&parse(pattern)?, Dialect::default())?.into_iter().rev() {
        // From the end, so that the places before stay what they are.
        prepared.replace_range(span.start.offset..span.end.offset, &text);
    }
    for span in ast::visit(&parse(&prepared)?, Classes::default())?.into_iter().rev() {
        let (start, end) = (span.start.offset, span.end.offset);
        let class = format!("[{}&&[^\\x00]]", &prepared[start..end]);
        prepared.replace_range(start..end, &class);
    }
    Ok(prepared)
}

/// The texts that a prepared expression matches, if they are few and it is anchored at both ends.
pub(crate) fn finite(prepared: &str) -> Option<Vec<String>> {
    let expression: Hir = regex_syntax::parse(prepared).ok()?;
    let properties = expression.properties();
    let is_anchored = properties.look_set_prefix().contains(Look::Start)
        && properties.look_set_suffix().contains(Look::End);
    let texts = Extractor::new().extract(&expression);
    let texts = texts.literals().filter(|_| is_anchored && texts.is_exact())?;
    texts.iter().map(|text| String::from_utf8(text.as_bytes().to_vec()).ok()).collect()
}

/// Reads an expression.
pub(crate) fn parse(pattern: &str) -> Result<Ast, GrammarRefusal> {
    Parser::new().parse(pattern).map_err(|error| {
        let place = error.span().start.column;
        GrammarRefusal(format!("the regular expression is wrong at character {place}: {}", error.kind()))
    })
}

/// Collects what is written otherwise for the library, in order, and refuses what is none of ECMA-262.
#[derive(Default)]
struct Dialect(Vec<(Span, String)>);

impl Dialect {
    fn class(&mut self, class: &ClassPerl) {
        let inside = match class.kind {
            ClassPerlKind::Digit => "0-9",
            ClassPerlKind::Word => "0-9A-Za-z_",
            ClassPerlKind::Space => SPACES,
        };
        let not = if class.negated { "^" } else { "" };
        self.0.push((class.span, format!("[{not}{inside}]")));
    }
}

fn unsupported(what: &str) -> Result<(), GrammarRefusal> {
    Err(GrammarRefusal(format!("{what} in a regular expression is not supported")))
}

fn check_literal(literal: &Literal) -> Result<(), GrammarRefusal> {
    match literal.kind {
        LiteralKind::Special(SpecialLiteralKind::Bell) => unsupported("\\a"),
        LiteralKind::HexBrace(_) => unsupported("an escape with braces"),
        _ => Ok(()),
    }
}

fn check_in_class(literal: &Literal) -> Result<(), GrammarRefusal> {
    // At the beginning it is one of the class here, and ends the class in ECMA-262.
    let is_bracket = literal.c == ']' && literal.kind == LiteralKind::Verbatim;
    if is_bracket { unsupported(BRACKET) } else { check_literal(literal) }
}

impl Visitor for Dialect {
    type Output = Vec<(Span, String)>;
    type Err = GrammarRefusal;

    fn finish(self) -> Result<Self::Output, GrammarRefusal> {
        Ok(self.0)
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), GrammarRefusal> {
        match ast {
            Ast::Flags(_) => unsupported("a flag"),
            Ast::Group(group) if group.flags().is_some_and(|flags| !flags.items.is_empty()) => {
                unsupported("a flag")
            }
            Ast::Assertion(assertion) => match assertion.kind {
                AssertionKind::StartLine | AssertionKind::EndLine => Ok(()),
                _ => unsupported("an assertion other than ^ and $"),
            },
            Ast::Literal(literal) if literal.c == '\0' => unsupported("the character U+0000"),
            Ast::Literal(literal) => check_literal(literal),
            Ast::Dot(span) => {
                self.0.push((**span, DOT.to_owned()));
                Ok(())
            }
            Ast::ClassPerl(class) => {
                self.class(class);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), GrammarRefusal> {
        match item {
            ClassSetItem::Perl(class) => self.class(class),
            ClassSetItem::Literal(literal) => check_in_class(literal)?,
            ClassSetItem::Range(range) => {
                check_in_class(&range.start)?;
                check_in_class(&range.end)?;
            }
            ClassSetItem::Ascii(_) | ClassSetItem::Bracketed(_) => {
                return unsupported("a bracket within brackets, without a backslash,");
            }
            ClassSetItem::Empty(_) | ClassSetItem::Unicode(_) | ClassSetItem::Union(_) => {}
        }
        Ok(())
    }

    fn visit_class_set_binary_op_pre(&mut self, _: &ClassSetBinaryOp) -> Result<(), GrammarRefusal> {
        unsupported("&&, -- or ~~ within brackets")
    }
}

/// Collects the outermost classes, in order.
#[derive(Default)]
struct Classes(Vec<Span>);

impl Visitor for Classes {
    type Output = Vec<Span>;
    type Err = GrammarRefusal;

    fn finish(self) -> Result<Vec<Span>, GrammarRefusal> {
        Ok(self.0)
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), GrammarRefusal> {
        match ast {
            Ast::ClassBracketed(class) => self.0.push(class.span),
            Ast::ClassUnicode(class) => self.0.push(class.span),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an expression means, in the library's dialect.
    fn meaning(pattern: &str) -> Hir {
        regex_syntax::parse(pattern).unwrap()
    }

    #[test]
    fn expressions_keep_their_meaning_without_the_null_character() {
        for (pattern, expected) in [
            ("^[^\"]*$", "^[^\"\\x00]*$"),
            ("a.b", "a[^\\n\\r\\x{2028}\\x{2029}\\x00]b"),
            ("\\D+\\pL", "[^0-9\\x00]+\\pL"),
            ("\\d{2}", "[0-9]{2}"),
            ("[\\w-]", "[0-9A-Za-z_-]"),
            ("é[ü\\[a-c]x", "é[ü\\[a-c]x"),
            ("[^\\]\\\\]{2}", "[^\\]\\\\\\x00]{2}"),
            (
                "\\S",
                "[^\\t-\\r \\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}\\x{feff}\\x00]",
            ),
        ] {
            assert_eq!(meaning(&prepare(pattern).unwrap()), meaning(expected), "{pattern}");
        }
    }

    #[test]
    fn an_expression_that_cannot_be_read_is_refused_with_its_place() {
        let says = |pattern: &str| prepare(pattern).unwrap_err().0;
        assert_eq!(says("a(b"), "the regular expression is wrong at character 2: unclosed group");
        assert!(says("a\\").contains("at character 2"), "{}", says("a\\"));
        assert!(says("(?=a)").contains("look-around"), "{}", says("(?=a)"));
        for other in [
            "\\x00",
            "[[:alpha:]]",
            "[^[a]]",
            "[a-z&&[aeiou]]",
            "[a-z--b]",
            "(?x)^a #c",
            "(?i:a)",
            "a{,3}",
            "\\Aa",
            "a\\z",
            "\\a",
            "\\x{41}",
            "\\bword",
        ] {
            assert!(
                says(other).ends_with("in a regular expression is not supported"),
                "{other}: {}",
                says(other)
            );
        }
    }

    #[test]
    fn texts_are_told_where_they_are_few() {
        let texts = |pattern: &str| finite(&prepare(pattern).unwrap());
        assert_eq!(texts("^(a|bc)$").unwrap(), ["a", "bc"]);
        assert_eq!(texts("^[ab]$").unwrap(), ["a", "b"]);
        for more in ["a", "^a", "^a|b$", "^a*$", "^[a-z]{9}$"] {
            assert_eq!(texts(more), None, "{more}");
        }
    }
}
