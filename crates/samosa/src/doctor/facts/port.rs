//! Whether an address can be listened on, and who has it if not.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context, Result};
use client::http::{ServerUrl, Trust, probe};
use serde_json::Value;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// An address to listen on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Port {
    Free,
    /// A samosa server listens there, which serves this model.
    Ours(Option<String>),
    /// Another process listens there.
    Taken,
    /// It cannot be listened on, for this reason.
    Unusable(String),
}

impl Port {
    /// Tries to listen, for a moment and taking no connection. If somebody does already, asks who it is.
    pub(crate) fn look(address: SocketAddr) -> Self {
        match TcpListener::bind(address) {
            Ok(_) => Self::Free,
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                let answers = ["http", "https"].into_iter().find_map(|scheme| ask(address, scheme).ok());
                answers.map_or(Self::Taken, Self::Ours)
            }
            Err(error) => Self::Unusable(match error.kind() {
                ErrorKind::PermissionDenied => "this user may not".to_owned(),
                ErrorKind::AddrNotAvailable => "no interface of this machine has it".to_owned(),
                _ => error.to_string(),
            }),
        }
    }
}

/// The model of the server that listens there; an error if that is none of ours.
fn ask(address: SocketAddr, scheme: &str) -> Result<Option<String>> {
    let host = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let url = format!("{scheme}://{}", SocketAddr::new(host, address.port()));
    let url = ServerUrl::parse(&url).map_err(anyhow::Error::msg)?;
    // Nothing that is said is secret, and certificates seldom name an address.
    let (_, answer) = probe(&url, &Trust::Everyone, "/health", PATIENCE)?;
    let health: Value = serde_json::from_slice(&answer)?;
    health.get("total_workers").context("another program")?;
    Ok(health["current_model"].as_str().map(str::to_owned))
}
