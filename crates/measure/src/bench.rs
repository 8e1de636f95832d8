//! `cargo xtask bench`: what this machine can do, and how much of it the kernels, the engine and the files take.
//!
//! Always optimised, as `cargo xtask bench` builds it. Nothing here passes or fails; every figure is the
//! median of several runs beside the limit that it was measured against in the same run. Reading order:
//! `report` (a figure and how it is shown), `setup` (what is measured), `limits` (the machine), `kernels`
//! (products alone), `checkpoint` (a model to measure with), `streams` (an engine and its callers), then one
//! file a group of engine figures.

mod report;
mod targets;

mod setup;

mod clock;
mod machine;

mod formats;

mod limits;

mod kernels;

mod checkpoint;
mod streams;

mod decode;
mod latency;
mod neighbour;
mod start;
mod wishes;

mod child;

use clap::{Args, ValueEnum};

use self::formats::Format;
use self::limits::Limits;
use self::report::{Figure, Report};
use self::setup::Setup;
use self::streams::Service;

/// What to measure and how.
#[derive(Args)]
pub(crate) struct Options {
    /// Groups to measure, instead of all; the machine's limits are measured always
    #[arg(long, value_delimiter = ',', value_name = "GROUP,…")]
    only: Vec<Group>,
    /// How weights are held, instead of every way there is
    #[arg(long, value_delimiter = ',', value_name = "FORMAT,…")]
    format: Vec<String>,
    /// Layers of the model, of 64 numbers of width each
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(2..=48))]
    depth: u16,
    /// Compute threads, instead of one a core
    #[arg(long)]
    threads: Option<usize>,
    /// Instruction set, instead of the fastest of this CPU
    #[arg(long)]
    isa: Option<String>,
    /// Fewer and shorter runs: a look within 90 seconds
    #[arg(long)]
    quick: bool,
    /// What a process does that a run of this command started
    #[arg(long, hide = true)]
    child: Option<child::ChildTask>,
    /// Writes the figures as JSON; - is standard output, and the table then goes to standard error
    #[arg(long, value_name = "FILE")]
    json: Option<String>,
}

/// Figures that are measured together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Group {
    /// What the machine can do
    Limits,
    /// Matrix products alone
    Kernels,
    /// Tokens per second and between tokens, by number of streams
    Decode,
    /// One stream whose text repeats itself, with guesses and without
    Speculation,
    /// Answers that ask for more: other sampling, log probabilities, a form
    Wishes,
    /// Tokens of a long prompt per second
    Prefill,
    /// First tokens, and what callers cost each other
    Latency,
    /// Decoding beside a process that keeps one core busy
    Busy,
    /// An engine that has nothing to do
    Idle,
    /// From files to an engine that answers, in a process of its own
    Load,
    /// The binary's start with the model inside it
    Builtin,
}

/// Groups that need a model and an engine in this process.
const WITH_ENGINE: [Group; 7] = [
    Group::Decode,
    Group::Speculation,
    Group::Wishes,
    Group::Prefill,
    Group::Latency,
    Group::Busy,
    Group::Idle,
];

/// Measures and shows.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let setup = Setup::new(options)?;
    if let Some(task) = options.child {
        return child::run(task, &setup);
    }
    let mut report = Report::new(options.json.as_deref());
    report.title(&machine::describe(&setup));
    let others = machine::Others::watch();
    let limits = limits::measure(&setup, &mut report);
    for format in &setup.formats {
        if setup.wants(Group::Kernels) {
            kernels::measure(&setup, limits.now(&setup, format, &mut report), format, &mut report);
        }
        if WITH_ENGINE.into_iter().any(|group| setup.wants(group)) {
            engine(&setup, limits, format, &mut report)?;
        }
        if setup.wants(Group::Load) {
            start::load(&setup, format, &mut report)?;
        }
    }
    if setup.wants(Group::Builtin) {
        start::builtin(&setup, &mut report)?;
    }
    if let Some(share) = others.share() {
        report.add(Figure::new("other processes meanwhile", "", share, "% of a core"));
    }
    report.finish(&setup)
}

/// The figures that need a model and an engine.
fn engine(setup: &Setup, limits: Limits, format: &Format, report: &mut Report) -> anyhow::Result<()> {
    let model = checkpoint::load(setup, format)?;
    let service = Service::start(setup, &model, 0)?;
    let limits = limits.now(setup, format, report);
    if setup.wants(Group::Decode) {
        decode::measure(setup, limits, format, &service, report)?;
    }
    if setup.wants(Group::Speculation) {
        decode::speculation(setup, format, &service, &model, report)?;
    }
    if setup.wants(Group::Wishes) {
        wishes::measure(setup, format, &service, &model, report)?;
    }
    if setup.wants(Group::Prefill) {
        latency::prefill(setup, limits, format, &service, report)?;
    }
    if setup.wants(Group::Latency) {
        latency::measure(setup, format, &service, report)?;
    }
    if setup.wants(Group::Busy) {
        neighbour::busy(setup, format, &service, report)?;
    }
    if setup.wants(Group::Idle) {
        neighbour::idle(setup, format, report);
    }
    Ok(())
}
