//! Developer commands: `cargo xtask <command>`, one file each.
//!
//! Nothing here is shipped. `ci` runs exactly what continuous integration runs; the other commands are its
//! steps, to be run alone.

#![forbid(unsafe_code)]

mod book;
mod ci;
mod clients;
mod contract;
mod deploy;
mod golden;
mod http;
mod isa;
mod node;
mod observe;
mod page;
mod process;
mod python;
mod shell;
mod tidy;

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Parser;

/// Developer commands of the samosaChaat inference server.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Set up what is missing and run every check and test, as continuous integration does
    Ci,
    /// Fetch and install what the checks need beside Rust, and check nothing
    Prepare,
    /// Check the rules that neither the compiler nor clippy knows: layers, imports, names, sizes, words, paths
    Tidy,
    /// Compare every model generation with the recorded logits and tokens, optimised
    Golden,
    /// Drive the built binary over HTTP and hold it to contract/inference-api.yaml
    Contract,
    /// Hold conversations with the built binary by the OpenAI clients that people have
    Clients,
    /// Build the page anew, compare it with what is committed, and drive it in a real Chromium
    Page(page::Options),
    /// Build the book, follow its links and run its examples with the built binary
    Book(book::Options),
    /// Ask every query of the dashboards and rules of a real Prometheus that watches the built binary
    Observe,
    /// Prove what deploy/ promises: manifests, the image, and a rolling restart behind a real HAProxy
    Deploy(deploy::Options),
    /// Measure what each weight format costs the built-in model, on text it was not trained on
    #[command(disable_help_flag = true)]
    Quality(Measure),
    /// Measure this machine's limits, and how much of them the kernels and the engine reach
    #[command(disable_help_flag = true)]
    Bench(Measure),
}

fn main() -> ExitCode {
    let command = Task::parse();
    match std::env::set_current_dir(shell::root()).map_err(Into::into).and_then(|()| run(&command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Task) -> anyhow::Result<()> {
    match command {
        Task::Ci => ci::run(),
        Task::Prepare => ci::prepare(),
        Task::Tidy => tidy::run(),
        Task::Golden => golden::run(),
        Task::Contract => contract::run(&[isa::chosen()]),
        Task::Clients => clients::run(&isa::chosen()),
        Task::Page(options) => page::run(options, &isa::chosen()),
        Task::Book(options) => book::run(options),
        Task::Observe => observe::run(),
        Task::Deploy(options) => deploy::run(options),
        Task::Quality(options) => options.run("quality"),
        Task::Bench(options) => options.run("bench"),
    }
}

/// What `crates/measure` is asked; it says what there is with --help.
#[derive(clap::Args)]
struct Measure {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
    options: Vec<String>,
}

impl Measure {
    fn run(&self, what: &str) -> anyhow::Result<()> {
        let cargo = ["run", "--release", "--quiet", "--package", "measure", "--", what];
        let status = std::process::Command::new("cargo").args(cargo).args(&self.options).status();
        if !status.context("cargo does not start")?.success() {
            bail!("it was not measured");
        }
        Ok(())
    }
}
