//! What begins with a slash.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::ask::{SamplingOptions, temperature};
use crate::{MAX_TOKENS, TOP_K};

/// Names this alike are taken for the same one, mistyped (1 is equal).
const ALIKE: f64 = 0.75;

/// Every command, what follows it, and what it does.
pub(super) const COMMANDS: [(&str, &str, &str); 13] = [
    ("help", "", "this list"),
    ("model", "[TAG]", "swap to another model; alone it lists them"),
    ("models", "", "list the models"),
    ("set", "[NAME VALUE]", "set temperature, top_k, max_tokens or seed; alone it shows them"),
    ("system", "[TEXT]", "instructions before the conversation; - removes them"),
    ("reset", "", "begin a new conversation"),
    ("undo", "", "drop the last exchange"),
    ("retry", "", "answer again, with a new seed"),
    ("save", "FILE [json|md]", "write the conversation to a new file"),
    ("save!", "FILE [json|md]", "the same, even if the file exists"),
    ("load", "FILE", "go on with a saved conversation"),
    ("stats", "", "what the service does"),
    ("quit", "", "leave, as Ctrl-D does"),
];

/// What may be set.
pub(super) const SETTABLE: [&str; 4] = ["temperature", "top_k", "max_tokens", "seed"];

/// How a conversation is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SaveFormat {
    Json,
    Markdown,
}

/// What becomes of a file that is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Existing {
    Kept,
    Replaced,
}

/// The file of a conversation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SaveAs {
    /// As it was typed.
    pub(super) file: String,
    pub(super) format: SaveFormat,
    pub(super) existing: Existing,
}

/// A checked command.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum ChatCommand {
    Help,
    Models,
    Model(String),
    Show,
    /// What `/set` made of the sampling, and what it set.
    Set(SamplingOptions, String),
    System(Option<String>),
    Reset,
    Undo,
    Retry,
    Save(SaveAs),
    /// The name of a file, as it was typed.
    Load(String),
    Stats,
    Quit,
}

impl ChatCommand {
    /// Reads a command without its slash; the error is a sentence.
    pub(super) fn parse(text: &str, sampling: &SamplingOptions) -> Result<Self, String> {
        let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim();
        let alone = |command: Self| match rest {
            "" => Ok(command),
            rest => Err(format!("/{name} takes nothing after it, but there is \"{rest}\".")),
        };
        match name {
            "help" | "?" => alone(Self::Help),
            "models" => alone(Self::Models),
            "model" if rest.is_empty() => Ok(Self::Models),
            "model" => {
                crate::tag(rest).map(Self::Model).map_err(|rule| format!("No model is called that: {rule}."))
            }
            "set" if rest.is_empty() => Ok(Self::Show),
            "set" => set(rest, sampling),
            "system" => Ok(Self::System(Some(rest.to_owned()).filter(|text| !text.is_empty()))),
            "reset" => alone(Self::Reset),
            "undo" => alone(Self::Undo),
            "retry" => alone(Self::Retry),
            "save" => save(rest, Existing::Kept),
            "save!" => save(rest, Existing::Replaced),
            "load" if rest.is_empty() => Err("/load takes the name of a file.".to_owned()),
            "load" => Ok(Self::Load(rest.to_owned())),
            "stats" => alone(Self::Stats),
            "quit" | "exit" => alone(Self::Quit),
            _ => Err(unknown(name)),
        }
    }
}

fn unknown(name: &str) -> String {
    let likeness = |known: &str| strsim::jaro_winkler(known, name);
    let names = COMMANDS.iter().map(|(name, ..)| *name);
    let best = names.max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let hint = match best.filter(|best| likeness(best) >= ALIKE) {
        Some(best) => format!("did you mean /{best}?"),
        None => "/help lists them.".to_owned(),
    };
    format!("There is no command /{name}; {hint} A message that begins with / is written with two.")
}

/// `temperature 0.5`, `seed random`, `top_k default`.
fn set(text: &str, sampling: &SamplingOptions) -> Result<ChatCommand, String> {
    let (name, value) = text.split_once([' ', '=']).unwrap_or((text, ""));
    let name = name.trim().replace('-', "_");
    let value = value.trim();
    let mut changed = sampling.clone();
    if !SETTABLE.contains(&name.as_str()) {
        return Err(format!("\"{name}\" cannot be set; {} can.", SETTABLE.join(", ")));
    }
    let is_free = value == "default" || value == "random" && name == "seed";
    let wrong = |rule: String| format!("{name} {rule}, but \"{value}\" was given.");
    let whole = |bounds: RangeInclusive<u64>| {
        let rule = format!("must be a whole number from {} to {}, or default", bounds.start(), bounds.end());
        value.parse().ok().filter(|n| bounds.contains(n)).ok_or_else(|| wrong(rule))
    };
    match name.as_str() {
        "temperature" if is_free => changed.temperature = None,
        "temperature" => {
            let rule = |_| wrong("must be a number from 0 to 2, or default".to_owned());
            changed.temperature = Some(temperature(value).map_err(rule)?);
        }
        "top_k" if is_free => changed.top_k = None,
        "top_k" => changed.top_k = Some(whole(TOP_K)?),
        "max_tokens" if is_free => changed.max_tokens = None,
        "max_tokens" => changed.max_tokens = Some(whole(MAX_TOKENS)?),
        _ if is_free => changed.seed = None,
        _ => {
            let rule = format!("must be random or a whole number from 0 to {}", u64::MAX);
            changed.seed = Some(value.parse().map_err(|_| wrong(rule))?);
        }
    }
    Ok(ChatCommand::Set(changed, format!("{name} {value}")))
}

/// A name that may have spaces, and how to write it: as it is said, else as the name's end has it.
fn save(text: &str, existing: Existing) -> Result<ChatCommand, String> {
    let (file, format) = match text.rsplit_once(char::is_whitespace) {
        Some((file, "json")) => (file.trim_end(), SaveFormat::Json),
        Some((file, "md")) => (file.trim_end(), SaveFormat::Markdown),
        _ if Path::new(text).extension().is_some_and(|end| end.eq_ignore_ascii_case("md")) => {
            (text, SaveFormat::Markdown)
        }
        _ => (text, SaveFormat::Json),
    };
    if file.is_empty() {
        return Err("/save takes the name of a file, and then json or md.".to_owned());
    }
    Ok(ChatCommand::Save(SaveAs { file: file.to_owned(), format, existing }))
}

/// The directory that shells call `~`.
#[derive(Clone, Default, Debug)]
pub(super) struct Home(pub(super) Option<PathBuf>);

impl Home {
    /// A path as shells have it.
    pub(super) fn path(&self, text: &str) -> PathBuf {
        match text.strip_prefix("~/").zip(self.0.as_ref()) {
            Some((rest, home)) => home.join(rest),
            None => PathBuf::from(text),
        }
    }
}

/// All commands, a line each, for a terminal of this width.
pub(super) fn help(width: usize) -> String {
    /// Columns of a command with what follows it.
    const LEFT: usize = 23;
    let mut lines = Vec::new();
    for (name, takes, does) in COMMANDS {
        let left = format!("/{name} {takes}");
        let room = width.saturating_sub(LEFT);
        if room < LEFT {
            lines.push(left);
            lines.extend(crate::text::wrap(does, width - 4).iter().map(|line| format!("    {line}")));
            continue;
        }
        for (i, line) in crate::text::wrap(does, room).iter().enumerate() {
            lines.push(format!("{:LEFT$}{line}", if i == 0 { left.as_str() } else { "" }));
        }
    }
    let more = "Alt-Enter begins a new line, \\ at the end of a line goes on, \"\"\" opens and closes a longer text. \
                Ctrl-C stops an answer, Tab completes, // begins a message with /.";
    lines.push(String::new());
    lines.extend(crate::text::wrap(more, width));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ChatCommand, String> {
        ChatCommand::parse(text, &SamplingOptions { seed: Some(7), ..SamplingOptions::default() })
    }

    #[test]
    fn every_command_that_is_listed_is_known() {
        for (name, takes, _) in COMMANDS {
            let text = if takes.is_empty() || takes.starts_with('[') {
                name.to_owned()
            } else {
                format!("{name} x")
            };
            assert!(parse(&text).is_ok(), "{text}: {:?}", parse(&text));
        }
        assert_eq!((parse("?"), parse("exit")), (Ok(ChatCommand::Help), Ok(ChatCommand::Quit)));
        for width in [40, 80] {
            assert!(help(width).lines().all(|line| line.chars().count() <= width), "{}", help(width));
        }
    }

    #[test]
    fn unknown_commands_name_the_nearest() {
        assert!(parse("modle d20").unwrap_err().contains("did you mean /model?"));
        assert!(parse("zzz").unwrap_err().contains("/help lists them"));
        assert!(parse("reset now").unwrap_err().contains("\"now\""));
        assert!(parse("model ../x").unwrap_err().contains("a tag has"));
    }

    #[test]
    fn settings_have_bounds_and_defaults() {
        let set = |text: &str| match parse(&format!("set {text}")) {
            Ok(ChatCommand::Set(sampling, _)) => Ok(sampling),
            other => Err(format!("{other:?}")),
        };
        assert_eq!(set("temperature 0.5").unwrap().temperature, Some(0.5));
        assert_eq!(set("top-k=3").unwrap().top_k, Some(3));
        assert_eq!(
            set("max_tokens default").unwrap(),
            SamplingOptions { seed: Some(7), ..SamplingOptions::default() }
        );
        assert_eq!((set("seed random").unwrap().seed, set("seed 9").unwrap().seed), (None, Some(9)));
        for wrong in [
            "temperature 3",
            "temperature",
            "top_k 201",
            "top_k random",
            "max_tokens 0",
            "seed -1",
            "width 3",
        ] {
            let said = set(wrong).unwrap_err();
            let value = wrong.rsplit(' ').next().unwrap();
            assert!(
                said.contains(&format!(
                    "\\\"{}\\\"",
                    if wrong == "temperature" {
                        ""
                    } else if value == "3" && wrong.starts_with('w') {
                        "width"
                    } else {
                        value
                    }
                )),
                "{wrong}: {said}"
            );
        }
    }

    #[test]
    fn files_are_written_as_their_name_or_a_word_says() {
        let save = |text: &str| match parse(text) {
            Ok(ChatCommand::Save(SaveAs { file, format, existing })) => (file, format, existing),
            other => panic!("{other:?}"),
        };
        let (json, markdown) = (SaveFormat::Json, SaveFormat::Markdown);
        assert_eq!(save("save a.json"), ("a.json".to_owned(), json, Existing::Kept));
        assert_eq!(save("save! my talk.md"), ("my talk.md".to_owned(), markdown, Existing::Replaced));
        assert_eq!(save("save talk md"), ("talk".to_owned(), markdown, Existing::Kept));
        assert!(parse("save ").is_err() && parse("load").is_err());
    }

    #[test]
    fn only_a_tilde_at_the_beginning_is_the_home() {
        let home = Home(Some(PathBuf::from("/me")));
        assert_eq!(home.path("~/a"), Path::new("/me/a"));
        assert_eq!(
            (home.path("a/~/b"), Home(None).path("~/a")),
            (PathBuf::from("a/~/b"), PathBuf::from("~/a"))
        );
    }
}
