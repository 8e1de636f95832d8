//! The server that is watched, and the commands that ask it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::bail;

use crate::process::ServerProcess;
use crate::shell::{self, text};

/// The key of the server under load.
pub(super) const KEY: &str = "key-of-observe";
/// The model that it swaps to and from.
pub(super) const OTHER_MODEL: &str = "g6";

/// The binary as a server with the built-in model and a small one beside it.
pub(super) struct Samosa {
    server: ServerProcess,
    binary: PathBuf,
}

impl Samosa {
    /// Starts it and waits until it is ready.
    pub(super) fn start(binary: PathBuf, directory: &Path) -> anyhow::Result<Self> {
        let models = directory.join("models");
        for name in [OTHER_MODEL, "tokenizer"] {
            copy(&shell::root().join("goldens").join(name), &models.join(name))?;
        }
        // Little room, so that some requests wait.
        let settings = [
            ("LOG_FORMAT", "json"),
            ("INTERNAL_API_KEY", KEY),
            ("MAX_RUNNING_REQUESTS", "6"),
            ("DEFAULT_MODEL_TAG", "samosa-mini"),
            ("MODEL_STORAGE_PATH", text(&models)?),
        ];
        let server = ServerProcess::start(&binary, directory, &directory.join("samosa.log"), &settings)?;
        Ok(Self { server, binary })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Runs one of the binary's commands against it; its output is not shown.
    pub(super) fn client(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let url = format!("http://{}", self.server.address);
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

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
