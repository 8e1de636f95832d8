//! `samosa generate`: one answer to standard output, of the engine in this process or of a running server.
//!
//! Made for scripts: the answer is all that standard output gets. Reading order: [`message`] (what is asked), then this.

mod message;

use std::io::{IsTerminal, Write};

use anyhow::{Result, anyhow};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::{Value, json};

use self::message::MessageSource;
use crate::ask::{self, AnswerFailure, Done, ModelService, Question, SamplingOptions, ServiceSource};
use crate::text::harmless;

/// What `generate` was asked to do.
pub struct Options {
    source: ServiceSource,
    message: MessageSource,
    system: Option<String>,
    sampling: SamplingOptions,
    format: AnswerFormat,
}

/// What is printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum AnswerFormat {
    Text,
    /// One object at the end.
    Json,
    /// One object for each event.
    Events,
}

/// The command line of `generate`.
pub fn command() -> Command {
    let flag = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    let file = |name: &'static str| {
        Arg::new(name).long(name).value_name("FILE").value_parser(value_parser!(std::path::PathBuf))
    };
    Command::new("generate")
        .about("Answer one message, for the terminal and for scripts")
        .after_help(
            "Without MESSAGE, --file and --messages it reads standard input, unless that is a terminal. The answer is all \
             that goes to standard output. With --url the key is the first of INTERNAL_API_KEY. Exit codes: 0 done, 1 \
             failed, 2 wrong arguments, 130 interrupted.",
        )
        .arg(Arg::new("message").help("What the user says; - reads it from standard input"))
        .arg(file("file").action(ArgAction::Append).help("Text that follows the message; may be repeated"))
        .arg(
            file("messages")
                .conflicts_with_all(["message", "file", "system"])
                .help("A whole conversation: a JSON array of objects with role and content"),
        )
        .args(ask::arguments())
        .arg(flag("json").help("Print one JSON object at the end: text, finish_reason, seed, usage, …"))
        .arg(flag("stream-json").conflicts_with("json").help("Print one JSON object for each event"))
}

impl Options {
    /// Reads the arguments; an error if they ask nothing.
    pub fn read(source: ServiceSource, matches: &ArgMatches) -> Result<Self> {
        let format = match (matches.get_flag("json"), matches.get_flag("stream-json")) {
            (true, _) => AnswerFormat::Json,
            (_, true) => AnswerFormat::Events,
            _ => AnswerFormat::Text,
        };
        Ok(Self {
            source,
            message: MessageSource::read(matches)?,
            system: matches.get_one::<String>("system").cloned(),
            sampling: SamplingOptions::read(matches),
            format,
        })
    }
}

/// Asks and prints; an error if there is no whole answer.
pub fn run(options: Options) -> Result<()> {
    let Options { source, message, system, sampling, format } = options;
    let messages = message.messages(system.as_deref())?;
    let question = Question { messages, sampling };
    let runtime = ask::runtime()?;
    let answered = runtime.block_on(ask::unless_interrupted(answer(source, &question, format)));
    // Whatever the engine still does is of use to nobody.
    runtime.shutdown_background();
    answered
}

async fn answer(source: ServiceSource, question: &Question, format: AnswerFormat) -> Result<()> {
    let service = source.open().await?;
    let asked = service.ask(question).await;
    let mut answer = asked.map_err(|failure| anyhow!("{}{failure}", service.prefix()))?;
    let done = loop {
        let event = match answer.next().await {
            Ok(event) => event,
            Err(failure) => return Err(broken(&service, &failure, format)?),
        };
        match (format, event.text()) {
            (AnswerFormat::Text, Some(token)) => write_token(token)?,
            (AnswerFormat::Events, _) => write_line(&event.0)?,
            _ => {}
        }
        if let Some(done) = event.done() {
            break done;
        }
    };
    finish(&done, &answer.text, format)?;
    if format == AnswerFormat::Text && std::io::stderr().is_terminal() {
        // The answer is out; whoever does not see this has lost nothing.
        let _ = writeln!(std::io::stderr(), "[{}]", done.summary(answer.first).join(" · "));
    }
    answer.close().await;
    Ok(())
}

/// Text as it comes. A terminal must not obey it.
fn write_token(token: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if out.is_terminal() {
        out.write_all(harmless(token).as_bytes())?;
    } else {
        out.write_all(token.as_bytes())?;
    }
    Ok(out.flush()?)
}

fn write_line(value: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    Ok(out.flush()?)
}

/// The answer broke off. Whoever reads events reads that one too.
fn broken(service: &ModelService, failure: &AnswerFailure, format: AnswerFormat) -> Result<anyhow::Error> {
    match failure {
        AnswerFailure::Ended(event) if format == AnswerFormat::Events => write_line(event)?,
        // What comes next is not part of the text.
        _ if format == AnswerFormat::Text && std::io::stdout().is_terminal() => writeln!(std::io::stdout())?,
        _ => {}
    }
    Ok(anyhow!("{}{failure}", service.prefix()))
}

/// What follows the last event.
fn finish(done: &Done, text: &str, format: AnswerFormat) -> Result<()> {
    match format {
        AnswerFormat::Events => Ok(()),
        AnswerFormat::Text => Ok(writeln!(std::io::stdout())?),
        AnswerFormat::Json => {
            let names = ["finish_reason", "model_tag", "weights", "seed", "usage", "timings_ms"];
            let mut object = json!({ "text": text });
            for name in names {
                object[name] = done.0[name].clone();
            }
            object["dropped_messages"] = done.dropped_messages().into();
            write_line(&object)
        }
    }
}
