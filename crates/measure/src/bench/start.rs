//! From files to an engine that answers, and from nothing to the first token of the built-in model.

use std::io::Read;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::formats::Format;
use super::report::{Figure, Report};
use super::setup::Setup;
use super::{checkpoint, child, clock};
use crate::place;

/// Loads in a process of its own: how long, and how much memory at most.
pub(crate) fn load(setup: &Setup, format: &Format, report: &mut Report) -> anyhow::Result<()> {
    checkpoint::make_once(&checkpoint::root()?, setup.depth)?;
    // The first run only brings the file into the system's cache.
    child::loaded(setup, format)?;
    let runs = (0..setup.runs()).map(|_| child::loaded(setup, format)).collect::<Result<Vec<_>, _>>()?;
    let median = |key: &str| {
        let values: Vec<f64> = runs.iter().filter_map(|run| run.get(key).and_then(Value::as_f64)).collect();
        clock::median(&values)
    };
    let mut add = |name: &str, value, unit| report.add(Figure::new(name, format.name, value, unit));
    add("load from file cache to ready", median("ready_seconds"), "s");
    add("load, files to weights", median("read_seconds"), "s");
    add("load, self-test", median("self_test_seconds"), "s");
    let (held, peak) = (median("weights_bytes"), median("peak_bytes"));
    add("weights held", held / 1e9, "GB");
    if peak > 0.0 {
        add("peak resident at load", peak / 1e9, "GB");
        // The self-test's keys and values are the only ones in use by then: less than a megabyte.
        add("peak resident beyond weights and cache", (peak - held) / 1e6, "MB");
    }
    Ok(())
}

/// Runs the binary until it writes the first piece of an answer.
pub(crate) fn builtin(setup: &Setup, report: &mut Report) -> anyhow::Result<()> {
    // What cargo writes is not ours to show between figures.
    let built =
        Command::new("cargo").args(["build", "--release", "--quiet", "--package", "samosa"]).output()?;
    if !built.status.success() {
        bail!("the binary was not built: {}", String::from_utf8_lossy(&built.stderr).trim());
    }
    let binary = place::target_dir()?.join("release/samosa").with_extension(std::env::consts::EXE_EXTENSION);
    let mut taken = Vec::new();
    // The first brings the binary into the system's cache.
    for _ in 0..=setup.runs() {
        let begun = clock::now();
        let mut answering = Command::new(&binary)
            .args(["generate", "Hello!", "--model", "samosa-mini", "--temperature", "0"])
            .args(["--max-tokens", "16"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{} does not start", binary.display()))?;
        let mut first = [0];
        let read = answering.stdout.take().map(|mut out| out.read(&mut first));
        taken.push(begun.elapsed().as_secs_f64());
        answering.wait()?;
        if !matches!(read, Some(Ok(1))) {
            bail!("the built-in model does not answer");
        }
    }
    let seconds = clock::median(&taken[1..]);
    report.add(Figure::new("built-in model, start to first token", "", seconds, "s"));
    Ok(())
}
