//! Whether output is what a page says it is: `…` stands for anything within a line, a line of it for any lines.

/// What varies beside what `…` stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Figures {
    /// Nothing.
    Exact,
    /// Every number is as good as every other.
    Any,
}

const ANYTHING: &str = "…";

/// Whether the lines fit. White space at the ends of lines and empty lines at the end do not count.
pub(super) fn fits(expected: &[String], got: &str, figures: Figures) -> bool {
    let seen = |line: &str| match figures {
        Figures::Exact => line.trim_end().to_owned(),
        Figures::Any => without_figures(line.trim_end()),
    };
    let expected: Vec<String> = expected.iter().map(|line| seen(line)).collect();
    let got: Vec<String> = got.trim_end().lines().map(seen).collect();
    anywhere(&expected, &got, |line| line == ANYTHING, |pattern, line| line_fits(pattern, line))
}

fn line_fits(pattern: &str, line: &str) -> bool {
    let (pattern, line): (Vec<char>, Vec<char>) = (pattern.chars().collect(), line.chars().collect());
    anywhere(&pattern, &line, |letter| *letter == '…', |a, b| a == b)
}

/// Whether a pattern fits, in which some parts stand for any number of items, none included.
fn anywhere<T>(
    pattern: &[T],
    items: &[T],
    is_any: impl Fn(&T) -> bool,
    is_like: impl Fn(&T, &T) -> bool,
) -> bool {
    // `reached[i]`: the part of the pattern before this one can stand for the first i items.
    let mut reached = vec![false; items.len() + 1];
    reached[0] = true;
    for part in pattern {
        let mut next = vec![false; items.len() + 1];
        if is_any(part) {
            let first = reached.iter().position(|is| *is);
            next.iter_mut().skip(first.unwrap_or(items.len() + 1)).for_each(|is| *is = true);
        } else {
            for (i, item) in items.iter().enumerate() {
                next[i + 1] = reached[i] && is_like(part, item);
            }
        }
        reached = next;
    }
    reached[items.len()]
}

/// A line with `#` in place of each number.
fn without_figures(line: &str) -> String {
    let mut out = String::new();
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        if !letter.is_ascii_digit() {
            out.push(letter);
            continue;
        }
        // Points and commas belong to a number where a digit follows.
        loop {
            let mut ahead = letters.clone();
            match (ahead.next(), ahead.next()) {
                (Some(digit), _) if digit.is_ascii_digit() => drop(letters.next()),
                (Some('.' | ','), Some(digit)) if digit.is_ascii_digit() => drop(letters.next()),
                _ => break,
            }
        }
        out.push('#');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(expected: &str, got: &str) -> bool {
        let lines: Vec<String> = expected.lines().map(str::to_owned).collect();
        fits(&lines, got, Figures::Exact)
    }

    #[test]
    fn dots_stand_for_anything_within_a_line_and_a_line_of_them_for_any_lines() {
        assert!(is("a…c…e", "abcde") && is("a…", "a") && is("…", "") && is("…b", "ab  "));
        assert!(!is("a…c", "abcd") && !is("a…c", "a\nc") && !is("a", "ab") && !is("a", ""));
        assert!(is("a\n…\nz", "a\nz") && is("a\n…\nz", "a\nb\nc\nz\n\n") && is("…\nz", "z"));
        assert!(!is("a\n…\nz", "b\na\nz") && !is("a\n…\nz", "a\nb") && !is("a", "a\nb") && !is("a\nb", "a"));
    }

    #[test]
    fn dots_may_have_to_be_tried_in_several_places() {
        assert!(is("…\nb\n…\nc", "b\nx\nb\nc") && is("…ab…b", "aabab"));
        assert!(
            is(&"a…".repeat(40), &"a".repeat(400)) && !is(&format!("{}b", "a…".repeat(40)), &"a".repeat(400))
        );
    }

    #[test]
    fn numbers_count_unless_the_comment_says_otherwise() {
        let lines = ["took 1.5 s, 3,617 tokens.".to_owned()];
        assert!(fits(&lines, "took 12 s, 4 tokens.", Figures::Any));
        assert!(!fits(&lines, "took 12 s, 4 tokens.", Figures::Exact));
        assert!(!fits(&lines, "took x s, 4 tokens.", Figures::Any));
    }
}
