//! A block of a terminal as steps: a command as a person types it, and what came of it.

/// A command and its output.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct ConsoleStep {
    /// Where it begins, from 1, in the page.
    pub(super) line: usize,
    pub(super) command: String,
    /// The lines below; none if there are none.
    pub(super) output: Vec<String>,
}

/// The steps of a block whose first line is this one of its page. A line that begins with `$ ` is a command; it goes on
/// where it is not closed (`\`, an open quotation mark), and in lines that begin with `> `.
pub(super) fn steps(text: &str, first: usize) -> Result<Vec<ConsoleStep>, String> {
    let mut steps: Vec<ConsoleStep> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let here = first + at;
        if let Some(command) = line.strip_prefix("$ ") {
            if let Some(open) = steps.last().filter(|step| is_open(&step.command)) {
                return Err(open.unclosed());
            }
            steps.push(ConsoleStep { line: here, command: command.to_owned(), output: Vec::new() });
            continue;
        }
        let Some(step) = steps.last_mut() else {
            return Err(format!("line {here}: a block begins with `$ ` and a command"));
        };
        let typed = step.output.is_empty().then(|| line.strip_prefix("> ")).flatten();
        match typed {
            Some(more) => step.go_on(more),
            None if is_open(&step.command) && line.starts_with("    ") => step.go_on(line),
            None if is_open(&step.command) => return Err(step.unclosed()),
            None => step.output.push(line.to_owned()),
        }
    }
    if let Some(open) = steps.last().filter(|step| is_open(&step.command)) {
        return Err(open.unclosed());
    }
    for step in &mut steps {
        while step.output.last().is_some_and(|line| line.trim().is_empty()) {
            step.output.pop();
        }
    }
    Ok(steps)
}

impl ConsoleStep {
    fn go_on(&mut self, more: &str) {
        self.command.push('\n');
        self.command.push_str(more);
    }

    fn unclosed(&self) -> String {
        format!("line {}: the command is not closed; further lines begin with `> ` or four spaces", self.line)
    }
}

/// Whether a shell would wait for another line: a backslash at the end, or a quotation mark that is not closed.
fn is_open(command: &str) -> bool {
    let mut quote = None;
    let mut begins_word = true;
    let mut letters = command.chars().peekable();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (None | Some('"'), '\\') => {
                let escaped = letters.next();
                if escaped.is_none() {
                    return true;
                }
            }
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), _) if open == letter => quote = None,
            // A comment, to the end of its line.
            (None, '#') if begins_word => while letters.next_if(|&letter| letter != '\n').is_some() {},
            _ => {}
        }
        begins_word = letter.is_whitespace();
    }
    quote.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<(usize, String, Vec<String>)> {
        let steps = steps(text, 5).unwrap();
        steps.into_iter().map(|step| (step.line, step.command, step.output)).collect()
    }

    fn lines(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn commands_have_the_lines_below_as_output() {
        let told = told("$ one\na\n\n    b\n> c\n$ two\n$ three\n\n");
        let expected = [
            (5, "one".to_owned(), lines(&["a", "", "    b", "> c"])),
            (10, "two".to_owned(), vec![]),
            (11, "three".to_owned(), vec![]),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_command_goes_on_after_a_backslash_and_within_quotation_marks() {
        assert_eq!(told("$ a \\\n    b\nc")[0], (5, "a \\\n    b".to_owned(), lines(&["c"])));
        assert_eq!(told("$ a '\n> b\n> c'\nd")[0], (5, "a '\nb\nc'".to_owned(), lines(&["d"])));
        assert_eq!(told("$ for a in b; do\n>   c\n> done\nd")[0].1, "for a in b; do\n  c\ndone");
        assert_eq!(told("$ echo \"it's\" \\' # don't\nout")[0].2, lines(&["out"]));
    }

    #[test]
    fn a_block_that_makes_no_sense_is_refused_with_its_line() {
        assert!(steps("out\n$ a", 5).unwrap_err().starts_with("line 5: a block begins"));
        for open in ["$ a \\\nb", "$ a '\n$ b", "$ b 'c"] {
            assert!(steps(open, 5).unwrap_err().starts_with("line 5: the command is not closed"), "{open}");
        }
    }
}
