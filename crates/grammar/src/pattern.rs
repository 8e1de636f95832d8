//! Regular expressions of schemas (`pattern`, `patternProperties`), made safe for the library's quoting of JSON strings.
//!
//! The library (derivre 0.3.13) takes a character class with all control characters for one with all characters, and
//! lets `\"` and `\\` pass where the class is `[^"]` or `[\x00-\x1f]`. It does so only if U+0000 is among them, so each
//! class loses that character: what is left of the expression matches less, and nothing else.

use llguidance::regex_to_lark;
use regex_syntax::ast::parse::Parser;
use regex_syntax::ast::{self, Ast, Span, Visitor};

use crate::Refusal;

/// What JSON Schema means by `\d` and `\w`, in the library's words: ASCII only.
const ASCII_CLASSES: &str = "dw";

/// The expression without U+0000.
pub(crate) fn prepare(pattern: &str) -> Result<String, Refusal> {
    // Before the rewriting, which drops a backslash at the end.
    parse(pattern)?;
    let pattern = regex_to_lark(pattern, ASCII_CLASSES);
    let ast = parse(&pattern)?;
    let classes = ast::visit(&ast, Classes::default())?;
    let mut prepared = pattern;
    // From the end, so that the places before stay what they are.
    for span in classes.into_iter().rev() {
        let (start, end) = (span.start.offset, span.end.offset);
        let class = format!("[{}&&[^\\x00]]", &prepared[start..end]);
        prepared.replace_range(start..end, &class);
    }
    Ok(prepared)
}

fn parse(pattern: &str) -> Result<Ast, Refusal> {
    Parser::new().parse(pattern).map_err(|error| {
        let place = error.span().start.column;
        Refusal(format!("the regular expression is wrong at character {place}: {}", error.kind()))
    })
}

/// Collects the outermost classes, in order.
#[derive(Default)]
struct Classes(Vec<Span>);

impl Visitor for Classes {
    type Output = Vec<Span>;
    type Err = Refusal;

    fn finish(self) -> Result<Vec<Span>, Refusal> {
        Ok(self.0)
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), Refusal> {
        match ast {
            Ast::ClassBracketed(class) => self.0.push(class.span),
            Ast::ClassPerl(class) => self.0.push(class.span),
            Ast::ClassUnicode(class) => self.0.push(class.span),
            Ast::Literal(literal) if literal.c == '\0' => {
                return Err(Refusal(
                    "the character U+0000 in a regular expression is not supported".to_owned(),
                ));
            }
            // A dot matches quotes and backslashes, so the library is right about it.
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_lose_the_null_character_and_nothing_else_changes() {
        for (pattern, expected) in [
            ("^[^\"]*$", "^[[^\"]&&[^\\x00]]*$"),
            ("a.b", "a.b"),
            ("\\S+\\pL", "[\\S&&[^\\x00]]+[\\pL&&[^\\x00]]"),
            ("\\d", "[[0-9]&&[^\\x00]]"),
            ("é[ü[a-c]]x", "é[[ü[a-c]]&&[^\\x00]]x"),
        ] {
            assert_eq!(prepare(pattern).unwrap(), expected);
        }
        let escaped = prepare("[^\\]\\\\]{2}").unwrap();
        let class = regex_syntax::parse(&escaped).unwrap();
        assert_eq!(class, regex_syntax::parse("[^\\]\\\\\\x00]{2}").unwrap());
    }

    #[test]
    fn an_expression_that_cannot_be_read_is_refused_with_its_place() {
        let says = |pattern: &str| prepare(pattern).unwrap_err().0;
        assert_eq!(says("a(b"), "the regular expression is wrong at character 2: unclosed group");
        assert!(says("a\\").contains("at character 2"), "{}", says("a\\"));
        assert!(says("(?=a)").contains("look-around"), "{}", says("(?=a)"));
        assert!(says("\\x00").contains("U+0000"));
    }
}
