//! The examples of one page, in order, in a folder of their own that is also their home.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

use super::bash::{Bash, quoted};
use super::console::{self, ConsoleStep};
use super::example::{ExampleKind, HowToRun, way};
use super::markdown::Fence;
use super::server::{KEY, PageServer};
use super::{layout, matching};
use crate::process::Process;
use crate::{isa, shell};

/// The longest time that a check of a file may take.
const LIMIT: Duration = Duration::from_mins(1);
/// Lines of output that a fault shows.
const SHOWN: usize = 40;
/// How pages start the binary from the repository, the longer one first.
const FROM_SOURCE: &[&str] = &["cargo run --release --", "cargo run --release"];
/// Nothing listens there: whatever asks for more than this machine fails.
const NOWHERE: &str = "http://127.0.0.1:9";

/// What examples are run with.
pub(super) struct Tools {
    pub(super) binary: PathBuf,
    /// The Python that has clients of `OpenAI`'s API.
    pub(super) python: PathBuf,
    /// Where pages have their folders.
    pub(super) scratch: PathBuf,
}

/// What came of the examples.
#[derive(Default)]
pub(super) struct PageReport {
    pub(super) commands: usize,
    pub(super) programs: usize,
    /// Files whose contents were checked.
    pub(super) files: usize,
    pub(super) drawings: usize,
    /// Where, and why.
    pub(super) not_run: Vec<(String, String)>,
    /// What is wrong, each with its place.
    pub(super) faults: Vec<String>,
}

impl PageReport {
    /// Adds those of another page.
    pub(super) fn add(&mut self, other: Self) {
        self.commands += other.commands;
        self.programs += other.programs;
        self.files += other.files;
        self.drawings += other.drawings;
        self.not_run.extend(other.not_run);
        self.faults.extend(other.faults);
    }
}

/// Runs and checks the blocks of a page.
pub(super) fn run(tools: &Tools, path: &str, fences: &[Fence]) -> anyhow::Result<PageReport> {
    let folder = tools.scratch.join("pages").join(path.replace('/', "-"));
    let home = folder.join("home");
    let shell_folder = folder.join("shell");
    for folder in [&home, &shell_folder] {
        std::fs::create_dir_all(folder)?;
    }
    let bash = Bash::start(&home, &shell_folder, &environment(tools, &home, &shell_folder)?)?;
    let mut page =
        Page { tools, path, home, folder: shell_folder, bash, server: None, report: PageReport::default() };
    for fence in fences {
        if !page.block(fence)? {
            page.fault(fence.line, "the blocks that follow were not tried");
            break;
        }
    }
    Ok(page.report)
}

/// What the shell of a page knows.
fn environment(tools: &Tools, home: &Path, folder: &Path) -> anyhow::Result<Vec<(&'static str, String)>> {
    let programs = tools.scratch.join("bin");
    let text = |path: &Path| path.to_str().map(str::to_owned).context("a path that is no text");
    let mut environment = vec![
        ("PATH", format!("{}:{}", text(&programs)?, path())),
        ("HOME", text(home)?),
        ("TMPDIR", text(folder)?),
        ("LANG", "C.UTF-8".to_owned()),
        ("TERM", "dumb".to_owned()),
        ("KEY", KEY.to_owned()),
        ("PYTHONPATH", text(&shell::root().join("clients"))?),
        ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
        ("no_proxy", "127.0.0.1,localhost".to_owned()),
        ("NO_PROXY", "127.0.0.1,localhost".to_owned()),
    ];
    environment.extend(["http_proxy", "https_proxy", "HTTPS_PROXY"].map(|name| (name, NOWHERE.to_owned())));
    // What is not set is not shown as set.
    environment.extend(Some(isa::chosen()).filter(|isa| isa != "auto").map(|isa| (isa::VARIABLE, isa)));
    Ok(environment)
}

/// Where programs are found.
fn path() -> String {
    #[expect(clippy::disallowed_methods, reason = "an example is run as this command was")]
    std::env::var("PATH").unwrap_or_default()
}

struct Page<'a> {
    tools: &'a Tools,
    path: &'a str,
    home: PathBuf,
    /// For commands and programs, with what they said.
    folder: PathBuf,
    bash: Bash,
    server: Option<PageServer>,
    report: PageReport,
}

impl Page<'_> {
    fn fault(&mut self, line: usize, text: &str) {
        self.report.faults.push(format!("{}:{line}: {text}", self.path));
    }

    /// Does what a block asks for. Says whether those after it can be tried.
    fn block(&mut self, fence: &Fence) -> anyhow::Result<bool> {
        let is_good = match way(fence) {
            Err(wrong) => Err(wrong),
            Ok(ExampleKind::Run(run)) => return self.example(fence, &run),
            Ok(ExampleKind::Not(reason)) => {
                self.report.not_run.push((format!("{}:{}", self.path, fence.line), reason));
                return Ok(true);
            }
            Ok(ExampleKind::Drawing) => {
                self.report.drawings += 1;
                return Ok(true);
            }
            Ok(ExampleKind::Json) => serde_json::from_str::<serde_json::Value>(&fence.text)
                .map(drop)
                .map_err(|wrong| wrong.to_string()),
            Ok(ExampleKind::Yaml) => serde_yaml_ng::from_str::<serde_yaml_ng::Value>(&fence.text)
                .map(drop)
                .map_err(|wrong| wrong.to_string()),
            Ok(ExampleKind::Settings) => self.accepted("samosa.toml", &fence.text)?,
            Ok(ExampleKind::Models) => self.accepted("models.toml", &fence.text)?,
        };
        match is_good {
            Ok(()) => self.report.files += 1,
            Err(wrong) => self.fault(fence.line, &wrong),
        }
        Ok(true)
    }

    /// Whether the binary takes a file of this name and text.
    fn accepted(&self, name: &str, text: &str) -> anyhow::Result<Result<(), String>> {
        let folder = self.folder.join("checked");
        std::fs::create_dir_all(&folder)?;
        let file = folder.join(name);
        std::fs::write(&file, text)?;
        let log = folder.join("said.txt");
        let mut command = Command::new(&self.tools.binary);
        command.env_clear().current_dir(&folder);
        match name {
            // The models that it names are not here, which is no fault of the file.
            "models.toml" => command
                .args(["models", "list"])
                .env("MODEL_STORAGE_PATH", &folder)
                .env("DEFAULT_MODEL_TAG", "samosa-mini"),
            _ => command.args(["config", "--config"]).arg(&file),
        };
        std::fs::remove_file(&log).or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })?;
        let status = Process::start(&mut command, &log)?.ended(LIMIT)?;
        let said = std::fs::read_to_string(&log)?;
        std::fs::remove_file(&file)?;
        let complaint: Vec<&str> = said.lines().filter(|line| line.starts_with("samosa:")).collect();
        Ok(if status.success() && complaint.is_empty() { Ok(()) } else { Err(complaint.join("\n")) })
    }

    /// Runs a terminal's block or a program.
    fn example(&mut self, fence: &Fence, run: &HowToRun) -> anyhow::Result<bool> {
        if let Some(name) = &run.layout {
            layout::make(&self.home, name).with_context(|| format!("{}:{}", self.path, fence.line))?;
        }
        if let Some(settings) = &run.server
            && !self.server.as_ref().is_some_and(|server| server.has(settings))
        {
            // The old one goes first: both may want the same folder.
            self.server = None;
            let log = self.folder.join(format!("server-{}.log", fence.line));
            let server = PageServer::start(&self.tools.binary, settings, &self.home, &log);
            self.server = Some(server.with_context(|| format!("{}:{}", self.path, fence.line))?);
        }
        let steps = match fence.language.as_str() {
            "python" => vec![self.program(fence)?],
            _ => match console::steps(&fence.text, fence.line + 1) {
                Ok(steps) => steps,
                Err(wrong) => {
                    self.fault(fence.line, &wrong);
                    return Ok(true);
                }
            },
        };
        match fence.language.as_str() {
            "python" => self.report.programs += 1,
            _ => self.report.commands += steps.len(),
        }
        for step in steps {
            if !self.step(&step, run)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A program as the command that runs it.
    fn program(&self, fence: &Fence) -> anyhow::Result<ConsoleStep> {
        let file = self.folder.join(format!("line-{}.py", fence.line));
        let text =
            self.server.as_ref().map_or_else(|| fence.text.clone(), |server| server.asked(&fence.text));
        std::fs::write(&file, text)?;
        let command = format!("{} {}", quoted(&self.tools.python)?, quoted(&file)?);
        Ok(ConsoleStep { line: fence.line, command, output: Vec::new() })
    }

    /// Runs a command and compares what came of it. Says whether the shell is still there.
    fn step(&mut self, step: &ConsoleStep, run: &HowToRun) -> anyhow::Result<bool> {
        let mut command = step.command.clone();
        for from_source in FROM_SOURCE {
            command = command.replace(from_source, "samosa");
        }
        if let Some(server) = &self.server {
            command = server.asked(&command);
        }
        if run.in_background {
            command = format!("(\n{command}\n) &");
        }
        let ended = self.bash.run(&command)?;
        let output = match &self.server {
            Some(server) => server.answered(&ended.output),
            None => ended.output,
        };
        if let Some(fault) = ended.fault {
            self.fault(step.line, &format!("$ {}\n{fault}\n{}", step.command, last_lines(&output)));
            return Ok(false);
        }
        if !step.output.is_empty() && !matching::fits(&step.output, &output, run.figures) {
            let (expected, got) = (step.output.join("\n"), last_lines(&output));
            let text = format!("$ {}\n--- expected\n{expected}\n--- got\n{got}\n---", step.command);
            self.fault(step.line, &text);
        }
        Ok(true)
    }
}

/// The end of an output.
fn last_lines(output: &str) -> String {
    let lines: Vec<&str> = output.trim_end().lines().collect();
    lines[lines.len().saturating_sub(SHOWN)..].join("\n")
}
