//! What this machine, the kernels, the engine and the weight formats come to in figures: `cargo xtask bench` and
//! `cargo xtask quality`, which build it optimised.
//!
//! A crate of its own, so that the other developer commands do not wait for the engine to be built.

#![forbid(unsafe_code)]

mod bench;
mod place;
mod quality;

use std::os::fd::AsFd;
use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Measure this machine's limits, and how much of them the kernels and the engine reach
    Bench(bench::Options),
    /// Measure what each weight format costs the built-in model, on text it was not trained on
    Quality(quality::Arguments),
    /// Read grammars for the benchmark, which starts this itself
    #[command(name = GRAMMAR_WORKER, hide = true)]
    GrammarWorker,
}

/// The command of the process that reads grammars.
const GRAMMAR_WORKER: &str = "grammar-worker";

fn main() -> ExitCode {
    let measured = match Command::parse() {
        Command::Bench(options) => bench::run(&options),
        Command::Quality(arguments) => quality::run(&arguments),
        Command::GrammarWorker => read_grammars(),
    };
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn read_grammars() -> anyhow::Result<()> {
    Ok(guides::worker::run(std::io::stdin().as_fd().try_clone_to_owned()?)?)
}
