//! Processes of their own: one that keeps a core busy, and one that loads a model, since only a fresh process
//! tells how much memory that took.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use serde_json::{Value, json};
use serving::self_test;

use super::formats::Format;
use super::setup::Setup;
use super::streams::Service;
use super::{checkpoint, clock, machine};

/// What a child does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum ChildTask {
    /// Loads the model and says how that went
    Load,
    /// Keeps a core busy
    Spin,
}

/// The longest that a child spins, should nobody end it.
const SPIN: Duration = Duration::from_mins(2);
/// The core that is kept busy, where there is a way to choose one.
const CORE: &str = "1";

/// Does a child's work.
pub(crate) fn run(task: ChildTask, setup: &Setup) -> anyhow::Result<()> {
    match task {
        ChildTask::Spin => {
            let begun = clock::now();
            while begun.elapsed() < SPIN {
                std::hint::spin_loop();
            }
            Ok(())
        }
        ChildTask::Load => {
            println!("{}", load(setup, setup.formats[0])?);
            Ok(())
        }
    }
}

/// Loads as a server does at its start: files to weights, the self-test, an engine.
fn load(setup: &Setup, format: &Format) -> anyhow::Result<Value> {
    let begun = clock::now();
    let model = checkpoint::read(&setup.compute(), &checkpoint::root()?, setup.depth, format.held)?;
    let read = begun.elapsed().as_secs_f64();
    self_test::run(&model, &setup.compute())?;
    let tested = begun.elapsed().as_secs_f64();
    let _service = Service::start(setup, &model, 0)?;
    let ready = begun.elapsed().as_secs_f64();
    Ok(json!({
        "read_seconds": read,
        "self_test_seconds": tested - read,
        "ready_seconds": ready,
        "weights_bytes": model.weights.bytes(),
        "peak_bytes": machine::peak_resident(),
    }))
}

/// A child that runs; it ends with this value.
pub(crate) struct Child(std::process::Child);

impl Child {
    /// Keeps a core busy; the second one, if the system lets choose.
    pub(crate) fn spin(setup: &Setup) -> anyhow::Result<Self> {
        let own = std::env::current_exe()?;
        let pinned =
            Command::new("taskset").args(["-c", CORE, "true"]).output().is_ok_and(|o| o.status.success());
        let mut command = if pinned { Command::new("taskset") } else { Command::new(&own) };
        if pinned {
            command.args(["-c", CORE]).arg(&own);
        }
        command.args(arguments(setup, ChildTask::Spin, None)).stdin(Stdio::null());
        Ok(Self(command.spawn().context("a process that keeps a core busy does not start")?))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself; nothing is left to do then.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lets a fresh process load the model, and returns what it says.
pub(crate) fn loaded(setup: &Setup, format: &Format) -> anyhow::Result<Value> {
    let own = std::env::current_exe()?;
    let output = Command::new(own)
        .args(arguments(setup, ChildTask::Load, Some(format)))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        bail!("the process that loads the model failed: {}", output.status);
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn arguments(setup: &Setup, task: ChildTask, format: Option<&Format>) -> Vec<String> {
    let task = match task {
        ChildTask::Load => "load",
        ChildTask::Spin => "spin",
    };
    let mut arguments = vec!["bench".to_owned(), format!("--child={task}")];
    arguments.extend([
        format!("--depth={}", setup.depth),
        format!("--threads={}", setup.threads),
        format!("--isa={}", setup.isa.name()),
    ]);
    arguments.extend(format.map(|format| format!("--format={}", format.name)));
    arguments
}
