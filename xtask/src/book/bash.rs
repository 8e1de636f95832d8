//! One shell a page: its commands run one after the other in the same `bash -e`, so that variables and the folder they
//! are in go on. What a page started ends with it.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::process;
use crate::shell;

/// The longest time that a command may take.
const LIMIT: Duration = Duration::from_mins(1);
/// KiB of a file that a command may write.
const MOST_WRITTEN: usize = 200 << 10;

/// Reads the names of files, and runs what is in them, in itself.
const DRIVER: &str = "ulimit -f $0; while IFS= read -r script; do \
                      source \"$script\" > \"$script.out\" 2>&1 < /dev/null; echo > \"$script.done\"; done";

/// A shell that waits for commands.
pub(super) struct Bash {
    child: Child,
    stdin: ChildStdin,
    /// Where commands and their output are.
    folder: PathBuf,
    count: usize,
}

/// How a command ended.
pub(super) struct CommandEnd {
    /// Both outputs, as they came.
    pub(super) output: String,
    /// What went wrong with it, if something did. Then the shell is gone.
    pub(super) fault: Option<String>,
}

impl Bash {
    /// Starts one in `home` with this environment and nothing else.
    pub(super) fn start(home: &Path, folder: &Path, environment: &[(&str, String)]) -> anyhow::Result<Self> {
        let mut command = Command::new("bash");
        command.args(["--noprofile", "--norc", "-e", "-c", DRIVER, &MOST_WRITTEN.to_string()]);
        command.env_clear().envs(environment.iter().map(|(name, value)| (name, value))).current_dir(home);
        // A group of its own, so that all it started can be ended.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().context("bash does not start")?;
        let stdin = child.stdin.take().context("bash has no input")?;
        Ok(Self { child, stdin, folder: folder.to_owned(), count: 0 })
    }

    /// Runs a command to its end, or to its limit.
    pub(super) fn run(&mut self, command: &str) -> anyhow::Result<CommandEnd> {
        self.count += 1;
        let script = self.folder.join(format!("{}.sh", self.count));
        let beside = |ending: &str| script.with_extension(format!("sh.{ending}"));
        std::fs::write(&script, format!("{command}\n"))?;
        writeln!(self.stdin, "{}", script.display()).context("the shell has ended")?;
        let mut status = None;
        let ended = process::wait("a command to end", LIMIT, || {
            // In this order: a shell that has ended has written all it had to.
            status = self.child.try_wait().ok().flatten();
            status.is_some() || beside("done").exists()
        });
        let output = String::from_utf8_lossy(&std::fs::read(beside("out")).unwrap_or_default()).into_owned();
        let fault = match (ended, status) {
            (Err(_), _) => {
                self.kill();
                Some(format!("it took longer than {} s", LIMIT.as_secs()))
            }
            (Ok(_), Some(status)) if !beside("done").exists() => Some(format!("it failed: {status}")),
            (Ok(_), _) => None,
        };
        Ok(CommandEnd { output, fault })
    }

    /// Ends everything that was started in it.
    fn kill(&mut self) {
        // The group may be gone already.
        let _ = shell::succeeds("kill", &["-KILL", "--", &format!("-{}", self.child.id())]);
        let _ = self.child.wait();
    }
}

impl Drop for Bash {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A program as a word of a command.
pub(super) fn quoted(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().context("a path that is no text")?;
    if text.contains('\'') {
        bail!("{text} has a quotation mark");
    }
    Ok(format!("'{text}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bash(home: &Path) -> Bash {
        Bash::start(home, home, &[("PATH", "/usr/bin:/bin".to_owned())]).unwrap()
    }

    #[test]
    fn a_shell_keeps_variables_and_folder_and_ends_with_a_command_that_fails() {
        let home = tempfile::tempdir().unwrap();
        let mut bash = bash(home.path());
        assert!(bash.run("mkdir a; cd a\nX='b c'").unwrap().fault.is_none());
        let ended = bash.run("echo \"$X\" >&2; basename \"$PWD\"; read -r line || echo none").unwrap();
        assert_eq!((ended.output.as_str(), ended.fault), ("b c\na\nnone\n", None));
        let ended = bash.run("echo before\nfalse\necho after").unwrap();
        assert_eq!(ended.output, "before\n");
        assert!(ended.fault.unwrap().contains("exit status: 1"));
    }

    #[test]
    fn what_a_page_left_running_ends_with_it() {
        let home = tempfile::tempdir().unwrap();
        let mut shell = bash(home.path());
        let number = shell.run("sleep 600 & echo $!").unwrap().output;
        let alive = || crate::shell::succeeds("kill", &["-0", number.trim()]);
        assert!(alive());
        drop(shell);
        process::wait("its end", Duration::from_secs(10), || !alive()).unwrap();
    }
}
