//! `samosa chat`: a conversation at the terminal, with the engine in this process or a running server.
//!
//! Reading order: [`input`] (what was typed, from lines to messages), [`command`] (what begins with a slash),
//! [`conversation`] (what was said, and files of it), [`turn`] (a question and its answer), [`talk`] (what commands do),
//! [`writer`] (answers on the screen), [`editor`] (the prompt), then this: a terminal, or lines from elsewhere.

mod command;
mod conversation;
mod editor;
mod input;
mod say;
mod table;
mod talk;
mod turn;
mod writer;

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use tokio::runtime::Runtime;

use self::command::Home;
use self::conversation::Transcript;
use self::editor::{Editor, Typed};
use self::input::InputLines;
use self::say::{Audience, Say};
use self::talk::Talk;
use crate::ask::{self, SamplingOptions, ServiceSource};
use crate::text::{Palette, Terminal};

/// The parts of the environment that a chat uses.
pub struct Environment {
    /// What the terminal may get.
    pub terminal: Terminal,
    /// The directory that shells call `~`.
    pub home: Option<PathBuf>,
    /// Where programs keep what they remember of a person.
    pub state_home: Option<PathBuf>,
}

/// What `chat` was asked to do.
pub struct Options {
    source: ServiceSource,
    conversation: Transcript,
    sampling: SamplingOptions,
    home: Home,
    /// Where lines that were typed are kept.
    history: Option<PathBuf>,
    palette: Palette,
    /// Whether lines can be edited; else they come from elsewhere, or the terminal cannot do it.
    audience: Audience,
}

/// The command line of `chat`.
pub fn command() -> Command {
    let flag = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    Command::new("chat")
        .about("Talk to a model at the terminal")
        .after_help(
            "Enter sends; Alt-Enter, a \\ at the end of a line, or \"\"\" before and after make a message of several lines. \
             Ctrl-C stops an answer, Ctrl-D leaves, /help lists the commands. If standard input is no terminal, each of its \
             lines is a message, and the exit code is 1 if one of them failed. With --url the key is the first of \
             INTERNAL_API_KEY, and ADMIN_API_KEY's where /model swaps.",
        )
        .args(ask::arguments())
        .arg(
            Arg::new("resume")
                .long("resume")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Go on with a conversation that /save wrote"),
        )
        .arg(flag("plain").help("No colours"))
        .arg(flag("no-history").help("Keep no history of what is typed"))
}

impl Options {
    /// Reads the arguments.
    pub fn read(source: ServiceSource, matches: &ArgMatches, environment: Environment) -> Result<Self> {
        let Environment { terminal, home, state_home } = environment;
        let is_terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        let is_coloured = terminal == Terminal::Coloured && !matches.get_flag("plain");
        let mut conversation = match matches.get_one::<PathBuf>("resume") {
            Some(path) => Transcript::load(path).map_err(anyhow::Error::msg)?,
            None => Transcript::default(),
        };
        if let Some(system) = matches.get_one::<String>("system") {
            conversation.system = Some(system.clone());
        }
        let history = state_home.filter(|_| !matches.get_flag("no-history"));
        Ok(Self {
            source,
            conversation,
            sampling: SamplingOptions::read(matches),
            home: Home(home),
            history: history.map(|home| home.join("samosa").join("chat_history")),
            palette: if is_coloured { Palette::Coloured } else { Palette::Monochrome },
            audience: if is_terminal && terminal != Terminal::Dumb {
                Audience::Person
            } else {
                Audience::Anything
            },
        })
    }
}

/// Talks until somebody has had enough.
pub fn run(options: Options) -> Result<()> {
    let runtime = ask::runtime()?;
    let outcome = talk(&runtime, options);
    // Whatever the engine still does is of use to nobody.
    runtime.shutdown_background();
    outcome
}

fn talk(runtime: &Runtime, options: Options) -> Result<()> {
    let Options { source, conversation, sampling, home, history, palette, audience } = options;
    let service = runtime.block_on(ask::unless_interrupted(source.open()))?;
    let say = Say::new(palette, audience);
    let mut talk = Talk::new(service, conversation, sampling, say, home.clone());
    runtime.block_on(talk.greet())?;
    if audience == Audience::Person {
        runtime.spawn(editor::guard_terminal());
        let editor = Editor::new(history, palette, talk.tags(), home);
        return at_terminal(runtime, &mut talk, editor);
    }
    // Whoever pipes lines in wants Ctrl-C to end it all.
    runtime.spawn(async {
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(i32::from(crate::INTERRUPTED));
        }
    });
    of_lines(runtime, &mut talk)
}

fn at_terminal(runtime: &Runtime, talk: &mut Talk, mut editor: Editor) -> Result<()> {
    loop {
        match editor.read()? {
            Typed::Text(text) => {
                if runtime.block_on(talk.take(&text))?.is_break() {
                    return Ok(());
                }
            }
            Typed::Cleared => {}
            Typed::End => return Ok(()),
        }
    }
}

/// Takes every line, whatever became of those before it; an error if one failed.
fn of_lines(runtime: &Runtime, talk: &mut Talk) -> Result<()> {
    let mut lines = InputLines::new(std::io::stdin().lock());
    while let Some(text) = lines.next()? {
        if runtime.block_on(talk.take(&text))?.is_break() {
            break;
        }
    }
    match talk.failures {
        0 => Ok(()),
        1 => bail!("one line failed"),
        n => bail!("{n} lines failed"),
    }
}
