//! `samosa`: the binary. Settings in, one command out. The only place for the environment, arguments and
//! exit codes: 0 done, 1 failed, 2 wrong settings or arguments, 130 or 143 ended at once by a signal.

#![forbid(unsafe_code)]
// They panic where the terminal is gone or the reader of a pipe has seen enough.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod clients;
mod clock;
mod config;
mod doctor;
#[cfg(test)]
mod documents;
mod edge;
mod grammars;
mod in_process;
mod logs;
mod models;
mod options;
mod pull;
mod reload;
mod serve;
mod settings;
mod shell;
mod storage;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches, Command};
use client::{INTERRUPTED, bench, chat, generate, healthcheck, swap, top};

use registry::Tag;
use settings::{Values, Wrong};

/// The exit code where settings or arguments are wrong, as clap has it.
const WRONG: u8 = 2;

fn main() -> ExitCode {
    if grammars::is_worker() {
        return code_of(grammars::run());
    }
    let _flush = logs::FlushAtEnd;
    let matches = command().get_matches();
    let values = Values::collect(&matches);
    match matches.subcommand() {
        Some(("config", matches)) => return show_config(&values, matches),
        Some(("doctor", matches)) => return diagnose(&values, matches),
        Some(("completions", matches)) => return code_of(shell::print_completions(matches, command())),
        Some(("man", matches)) => return code_of(shell::write_manual(matches, command())),
        // Whoever asks knows 0 and 1 only.
        Some(("healthcheck", matches)) => return code_of(clients::healthcheck(&values, matches)),
        _ => {}
    }
    if let Err(error) = values.check_sources() {
        return wrong(&error);
    }
    let outcome = match matches.subcommand() {
        None | Some(("serve", _)) => {
            // Logs first: the settings may have something to say.
            match logs::start(&values).and_then(|()| options::serve(&values)) {
                Ok(settings) => serve::run(settings),
                Err(error) => return wrong(&error),
            }
        }
        Some(("chat", matches)) => match clients::chat(&values, matches) {
            Ok(options) => chat::run(options),
            Err(error) => return wrong(&error),
        },
        Some(("generate", matches)) => match clients::generate(&values, matches) {
            Ok(options) => generate::run(options),
            Err(error) => return wrong(&error),
        },
        Some(("models", matches)) => match options::options(&values) {
            Ok(options) => models::run(&options, matches),
            Err(error) => return wrong(&error),
        },
        Some(("bench", matches)) => match clients::bench(&values, matches) {
            Ok(options) => bench::run(&options),
            Err(error) => return wrong(&error),
        },
        Some(("swap", matches)) => match clients::swap(&values, matches) {
            Ok(options) => swap::run(&options),
            Err(error) => return wrong(&error),
        },
        Some(("top", matches)) => match clients::top(&values, matches) {
            Ok(options) => top::run(options),
            Err(error) => return wrong(&error),
        },
        Some(("pull", matches)) => match pull::Options::read(&values, matches) {
            Ok(options) => pull::run(&options),
            Err(error) => return wrong(&error),
        },
        Some(("openapi", matches)) => show_contract(matches),
        Some(("version", _)) => show_version(),
        Some((other, _)) => unreachable!("clap knows no command {other}"),
    };
    match outcome {
        // A storage without a model is found when the start has begun.
        Err(error) if error.is::<Wrong>() => wrong(&error),
        outcome => code_of(outcome),
    }
}

/// The exit code of a command that was begun; says what went wrong.
fn code_of(outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            let interrupted = error.is::<pull::Interrupted>() || error.is::<client::CtrlC>();
            if interrupted { ExitCode::from(INTERRUPTED) } else { ExitCode::FAILURE }
        }
    }
}

/// Says what went wrong.
fn complain(text: &str) {
    logs::say(format!("samosa: {text}\n"));
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn wrong(error: &anyhow::Error) -> ExitCode {
    complain(&format!("{error:#}"));
    ExitCode::from(WRONG)
}

fn command() -> Command {
    let serve =
        Command::new("serve").about("Serve models over HTTP (what samosa does if no command is named)");
    let openapi = Command::new("openapi").about("Print the API contract, errors included, as JSON").arg(
        Arg::new("openai")
            .long("openai")
            .action(ArgAction::SetTrue)
            .help("The contract of the OpenAI-compatible API instead"),
    );
    let version = Command::new("version").about("Print the version and the instruction sets of this CPU");
    Command::new("samosa")
        .about("Serves nanochat models: streams answers, swaps weights while people chat.")
        .version(env!("CARGO_PKG_VERSION"))
        .after_help("Run `samosa --help` to see every setting.")
        .after_long_help(
            "With no settings at all it serves the built-in model on 127.0.0.1:8003; where MODEL_STORAGE_PATH is set, a \
             model from there.\n\n\
             Exit codes: 0 done; 1 failed; 2 settings or arguments are wrong; 130 interrupted.",
        )
        .args(settings::arguments())
        .subcommands([
            serve,
            chat::command(),
            generate::command(),
            models::command(),
            pull::command(),
            swap::command(),
            bench::command(),
            top::command(),
            healthcheck::command(),
            config::command(),
            doctor::command(),
            shell::completions(),
            shell::man(),
            openapi,
            version,
        ])
}

/// A model's name on the command line.
pub(crate) fn tag(text: &str) -> Result<Tag, String> {
    Tag::new(text).ok_or_else(|| client::TAG_RULE.to_owned())
}

/// What serve would refuse, this refuses too, but it lists all of it.
fn show_config(values: &Values, matches: &ArgMatches) -> ExitCode {
    match config::run(values, matches) {
        Ok(wrong) if wrong.is_empty() => ExitCode::SUCCESS,
        Ok(wrong) => {
            for wrong in wrong {
                complain(&wrong.to_string());
            }
            ExitCode::from(WRONG)
        }
        Err(error) => code_of(Err(error)),
    }
}

/// What is wrong was said, so that only the exit code is left.
fn diagnose(values: &Values, matches: &ArgMatches) -> ExitCode {
    match doctor::run(values, matches) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => code_of(Err(error)),
    }
}

fn show_contract(matches: &ArgMatches) -> Result<()> {
    let document =
        if matches.get_flag("openai") { server::openai_document() } else { server::inference_document() };
    let document = serde_json::to_string_pretty(&document)?;
    Ok(writeln!(std::io::stdout(), "{document}")?)
}

fn show_version() -> Result<()> {
    let sets: Vec<&str> = cpu::Isa::available().iter().map(|isa| isa.name()).collect();
    let version = env!("CARGO_PKG_VERSION");
    Ok(writeln!(std::io::stdout(), "samosa {version}\ninstruction sets: {}", sets.join(", "))?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        super::command().debug_assert();
    }
}
