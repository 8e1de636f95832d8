//! A TLS handshake with a source of models, as the system trusts it.

use std::sync::Arc;

use client::http::why_untrusted;
use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Shakes hands with a server whose name is `host`; the error is a clause.
pub(super) async fn shake_hands(host: &str, socket: TcpStream) -> Result<(), String> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| format!("{host} is no name that a certificate could be for"))?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(BuilderVerifierExt::with_platform_verifier)
        .map_err(|error| format!("this machine trusts no certificates: {error}"))?
        .with_no_client_auth();
    let connected = TlsConnector::from(Arc::new(config)).connect(name, socket).await;
    connected.map(drop).map_err(|error| match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(error) => why_untrusted(error),
        None => "the connection was closed while TLS began; does it speak plain http?".to_owned(),
    })
}
