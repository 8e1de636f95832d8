//! The processes that run meanwhile. Each ends with its value.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::web;
use crate::{isa, shell};

/// The key of the server under load.
pub(super) const KEY: &str = "key-of-observe";
/// The model that it swaps to and from.
pub(super) const OTHER_MODEL: &str = "g6";
const LOOK: Duration = Duration::from_millis(50);
/// Looks until something is said never to come: 30 seconds.
const LOOKS: usize = 600;

/// A process that is killed when it is no longer needed.
pub(super) struct Running(Child);

impl Running {
    /// Starts one that writes to `output`.
    pub(super) fn start(command: &mut Command, output: &Path) -> anyhow::Result<Self> {
        let file = File::create(output)?;
        command.stdin(Stdio::null()).stderr(file.try_clone()?).stdout(file);
        let name = command.get_program().to_string_lossy().into_owned();
        Ok(Self(command.spawn().with_context(|| format!("{name} does not start"))?))
    }

    /// Looks until `found` finds what it wants.
    pub(super) fn until<T>(&mut self, what: &str, found: impl Fn() -> Option<T>) -> anyhow::Result<T> {
        for _ in 0..LOOKS {
            if let Some(found) = found() {
                return Ok(found);
            }
            if let Some(status) = self.0.try_wait()? {
                bail!("{what} never came: the process ended, {status}");
            }
            sleep(LOOK);
        }
        bail!("{what} never came")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; nothing is left to do then.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The release binary as a server with the built-in model and a small one beside it.
pub(super) struct Samosa {
    _running: Running,
    binary: PathBuf,
    address: SocketAddr,
}

impl Samosa {
    /// Starts it and waits until it is ready.
    pub(super) fn start(binary: &Path, directory: &Path) -> anyhow::Result<Self> {
        let models = directory.join("models");
        for name in [OTHER_MODEL, "tokenizer"] {
            copy(&shell::root().join("goldens").join(name), &models.join(name))?;
        }
        let log = directory.join("samosa.log");
        let mut command = Command::new(binary);
        command.arg("serve").env_clear().current_dir(directory).env(isa::VARIABLE, isa::chosen());
        command.envs([("PORT", "0"), ("LOG_FORMAT", "json"), ("INTERNAL_API_KEY", KEY)]);
        // Little room, so that some requests wait.
        command.envs([("MAX_RUNNING_REQUESTS", "6"), ("DEFAULT_MODEL_TAG", "samosa-mini")]);
        command.env("MODEL_STORAGE_PATH", &models);
        let mut running = Running::start(&mut command, &log)?;
        let address = running
            .until("the address of the server", || address(&fs::read_to_string(&log).ok()?))
            .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        running.until("its model", || web::get(address, "/readyz").ok())?;
        Ok(Self { _running: running, binary: binary.to_owned(), address })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Runs one of the binary's commands against it; its output is not shown.
    pub(super) fn client(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let url = format!("http://{}", self.address);
        let mut command = Command::new(&self.binary);
        command.args(arguments).args(["--url", &url]).env_clear().env("INTERNAL_API_KEY", KEY);
        let output = command.stdin(Stdio::null()).output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("`samosa {}` failed: {}", arguments.join(" "), said.trim());
        }
        Ok(())
    }
}

/// The address that the log says.
fn address(log: &str) -> Option<SocketAddr> {
    let (address, _) = log.split_once("\"address\":\"")?.1.split_once('"')?;
    address.parse().ok()
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
