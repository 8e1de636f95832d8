//! The server that a page asks.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

use crate::deploy::http;
use crate::deploy::process::{self, Process};
use crate::isa;

/// What a page writes in place of the address.
const WRITTEN: &str = "127.0.0.1:8003";
/// The key that `$KEY` is.
pub(super) const KEY: &str = "a-key-of-the-book";
/// Until a server answers.
const START: Duration = Duration::from_secs(30);
/// Settings that are folders below the page's own, by the name that pages have for them.
const FOLDERS: &[(&str, &str)] = &[("STORAGE", "MODEL_STORAGE_PATH")];

/// A server that is killed when this goes.
pub(super) struct Server {
    settings: Vec<(String, String)>,
    address: SocketAddr,
    _process: Process,
}

impl Server {
    /// Starts one with these settings and waits until it is ready.
    pub(super) fn start(
        binary: &Path,
        settings: &[(String, String)],
        home: &Path,
        log: &Path,
    ) -> anyhow::Result<Self> {
        let address = http::free_address()?;
        let mut command = Command::new(binary);
        command.arg("serve").env_clear().current_dir(home).env("HOME", home).env("HF_HUB_OFFLINE", "true");
        command.env("PORT", address.port().to_string()).env("INTERNAL_API_KEY", KEY);
        command.env(isa::VARIABLE, isa::chosen());
        for (name, value) in settings {
            match FOLDERS.iter().find(|(short, _)| short == name) {
                Some((_, variable)) => command.env(variable, home.join(value)),
                None => command.env(name, value),
            };
        }
        let process = Process::start(&mut command, log)?;
        let is_ready = || http::get(address, "/readyz").is_ok_and(|reply| reply.status == 200);
        process::wait("a server to be ready", START, is_ready).with_context(|| process.said())?;
        Ok(Self { settings: settings.to_vec(), address, _process: process })
    }

    /// Whether it has these settings and no others.
    pub(super) fn has(&self, settings: &[(String, String)]) -> bool {
        self.settings == settings
    }

    /// A command of a page, with the server's own address.
    pub(super) fn asked(&self, command: &str) -> String {
        command.replace(WRITTEN, &self.address.to_string())
    }

    /// Output, with the address as pages have it.
    pub(super) fn answered(&self, output: &str) -> String {
        output.replace(&self.address.to_string(), WRITTEN)
    }
}
