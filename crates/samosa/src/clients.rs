//! What the clients get from the settings and the environment: keys, addresses, the terminal, and a model in this process.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, bail};
use clap::ArgMatches;
use client::chat::Environment;
use client::{ServiceSource, bench, chat, generate, healthcheck, swap, top};
use registry::Tag;

use crate::settings::{self, Values};
use crate::{edge, in_process, options};

pub(crate) fn chat(values: &Values, matches: &ArgMatches) -> Result<chat::Options> {
    let (home, state_home) = (settings::home(), settings::state_home());
    let environment = Environment { terminal: settings::terminal(), home, state_home };
    chat::Options::read(source(values, matches)?, matches, environment)
}

pub(crate) fn generate(values: &Values, matches: &ArgMatches) -> Result<generate::Options> {
    generate::Options::read(source(values, matches)?, matches)
}

pub(crate) fn bench(values: &Values, matches: &ArgMatches) -> Result<bench::Options> {
    bench::Options::read(matches, || edge::client_key(values))
}

pub(crate) fn swap(values: &Values, matches: &ArgMatches) -> Result<swap::Options> {
    swap::Options::read(matches, edge::admin_client_key(values)?)
}

pub(crate) fn top(values: &Values, matches: &ArgMatches) -> Result<top::Options> {
    top::Options::read(matches, edge::client_key(values)?, settings::terminal())
}

/// Asks; an error if all is not well.
pub(crate) fn healthcheck(values: &Values, matches: &ArgMatches) -> Result<()> {
    healthcheck::run(matches, || own_url(values))
}

/// A running server, or a model that is loaded into this process as the settings say.
fn source(values: &Values, matches: &ArgMatches) -> Result<ServiceSource> {
    let keys = || Ok((edge::client_key(values)?, edge::admin_client_key(values)?));
    ServiceSource::read(matches, keys, |model| {
        let model = model.map(|tag| Tag::new(&tag).context(client::TAG_RULE)).transpose()?;
        Ok(Box::pin(in_process::start(options::options(values)?, model)))
    })
}

/// Where the server of these settings listens.
fn own_url(values: &Values) -> Result<String> {
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
    Ok(format!("{scheme}://{}", SocketAddr::new(host, port)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_clients_know_the_limits_of_this_server() {
        let limits = server::Limits::default();
        assert_eq!(
            (client::TOP_K, client::MAX_TOKENS, client::MAX_BODY_BYTES),
            (0..=limits.top_k, 1..=limits.max_tokens, limits.body_bytes)
        );
    }
}
