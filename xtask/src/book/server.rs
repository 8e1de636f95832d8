//! The server that a page asks.

use std::path::Path;

use crate::process::ServerProcess;
use crate::shell::text;

/// What a page writes in place of the address.
const WRITTEN: &str = "127.0.0.1:8003";
/// The key that `$KEY` is.
pub(super) const KEY: &str = "a-key-of-the-book";
/// Settings that are folders below the page's own, by the name that pages have for them.
const FOLDERS: &[(&str, &str)] = &[("STORAGE", "MODEL_STORAGE_PATH")];

/// A server that is killed when this goes.
pub(super) struct PageServer {
    settings: Vec<(String, String)>,
    server: ServerProcess,
}

impl PageServer {
    /// Starts one with these settings and waits until it is ready.
    pub(super) fn start(
        binary: &Path,
        settings: &[(String, String)],
        home: &Path,
        log: &Path,
    ) -> anyhow::Result<Self> {
        let folder = |value: &str| text(&home.join(value)).map(str::to_owned);
        let named =
            settings.iter().map(|(name, value)| match FOLDERS.iter().find(|(short, _)| short == name) {
                Some((_, variable)) => Ok((*variable, folder(value)?)),
                None => Ok((name.as_str(), value.clone())),
            });
        let named = named.collect::<anyhow::Result<Vec<_>>>()?;
        let mut all = vec![("HOME", text(home)?), ("HF_HUB_OFFLINE", "true"), ("INTERNAL_API_KEY", KEY)];
        all.extend(named.iter().map(|(name, value)| (*name, value.as_str())));
        let server = ServerProcess::start(binary, home, log, &all)?;
        Ok(Self { settings: settings.to_vec(), server })
    }

    /// Whether it has these settings and no others.
    pub(super) fn has(&self, settings: &[(String, String)]) -> bool {
        self.settings == settings
    }

    /// A command of a page, with the server's own address.
    pub(super) fn asked(&self, command: &str) -> String {
        command.replace(WRITTEN, &self.server.address.to_string())
    }

    /// Output, with the address as pages have it.
    pub(super) fn answered(&self, output: &str) -> String {
        output.replace(&self.server.address.to_string(), WRITTEN)
    }
}
