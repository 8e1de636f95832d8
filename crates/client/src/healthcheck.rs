//! `samosa healthcheck`: whether a server answers as it should, for containers without a shell. Nothing is loaded and no
//! key is needed, so it is over in milliseconds.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::http::{self, ServerUrl, Trust};

/// Longest time for all of it.
const PATIENCE: Duration = Duration::from_secs(3);

/// The command line of `healthcheck`.
pub fn command() -> Command {
    let flag = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
    };
    Command::new("healthcheck")
        .about("Ask whether the server is ready or alive, for containers without a shell")
        .after_help(
            "Without --url it asks the server of these settings: HOST and PORT, on a loopback address if HOST is every \
             address, and over https if TLS_CERT is set, whosever certificate that is. The exit code is 0 if all is well, \
             else 1, with a line on standard error that says why; an answer is waited for 3 s at most.",
        )
        .arg(http::url().conflicts_with_all(["host", "port"]))
        .arg(http::ca_cert().requires("url"))
        .arg(flag("ready", "Ask whether requests should come: /readyz (the default)").conflicts_with("live"))
        .arg(flag("live", "Ask whether it is alive, so that no restart would help: /livez"))
}

/// Asks; an error if all is not well. Without `--url` it asks the server at `own`.
pub fn run(matches: &ArgMatches, own: impl FnOnce() -> Result<String>) -> Result<()> {
    let (url, trust) = if matches.get_one::<ServerUrl>("url").is_some() {
        http::server_of(matches)?
    } else {
        let own = own()?;
        let url = ServerUrl::parse(&own).map_err(|error| anyhow!("{own}: {error}"))?;
        // It asks itself, nothing that is said is secret, and certificates seldom name a loopback address.
        (url, Trust::Everyone)
    };
    let endpoint = if matches.get_flag("live") { "/livez" } else { "/readyz" };
    let answer = http::probe(&url, &trust, endpoint, PATIENCE);
    let (status, said) = answer.with_context(|| url.shown(endpoint))?;
    if !status.is_success() {
        bail!("{}: {status}: {}", url.shown(endpoint), http::message(&said));
    }
    Ok(())
}
