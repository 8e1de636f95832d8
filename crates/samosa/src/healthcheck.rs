//! `samosa healthcheck`: whether a server answers as it should, for containers without a shell. Nothing is loaded and no
//! key is needed, so it is over in milliseconds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Arg, ArgAction, ArgMatches, Command};
use http_body_util::Full;
use hyper::body::Bytes;
use tokio::time::timeout;

use crate::http::{self, Place, Trust, Way};
use crate::settings::Values;

/// Longest time for all of it.
const PATIENCE: Duration = Duration::from_secs(3);
/// Bytes of an answer that are read.
const MAX_ANSWER: usize = 16 << 10;

/// The command line of `healthcheck`.
pub(crate) fn command() -> Command {
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

/// Asks; an error if all is not well.
pub(crate) fn run(values: &Values, matches: &ArgMatches) -> Result<()> {
    let way = match matches.get_one::<Place>("url") {
        Some(_) => http::way(matches)?,
        None => own(values)?,
    };
    let endpoint = if matches.get_flag("live") { "/livez" } else { "/readyz" };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime could not be started")?;
    let answer = runtime.block_on(async { timeout(PATIENCE, ask(&way, endpoint)).await });
    let answer = answer.unwrap_or_else(|_| Err(anyhow!("no answer came within {} s", PATIENCE.as_secs())));
    answer.with_context(|| way.place.url(endpoint))
}

async fn ask(way: &Way, endpoint: &str) -> Result<()> {
    let request = way.place.request(endpoint)?.body(Full::new(Bytes::new()))?;
    let (response, connection) = way.send(request).await.map_err(|lost| anyhow!("{lost}"))?;
    let status = response.status();
    if status.is_success() {
        if let Some(connection) = connection {
            connection.closed().await;
        }
        return Ok(());
    }
    let said = http::read(response.into_body(), MAX_ANSWER).await;
    bail!("{status}: {}", http::message(&said))
}

/// The way to the server of these settings.
fn own(values: &Values) -> Result<Way> {
    values.check_sources()?;
    let host = match values.host.get()? {
        IpAddr::V4(address) if address.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(address) if address.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        address => address,
    };
    let port = values.port.get()?;
    if port == 0 {
        bail!("PORT is 0, so the port is not known: name the server with --url");
    }
    let scheme = if values.tls_cert.get()?.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}", SocketAddr::new(host, port));
    let place = Place::parse(&url).map_err(|error| anyhow!("{url}: {error}"))?;
    // It asks itself, nothing that is said is secret, and certificates seldom name a loopback address.
    Way::new(place, &Trust::Anybody)
}
