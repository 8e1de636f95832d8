//! TLS on accepted connections, with a certificate that can be exchanged while the service runs.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{Error, ServerConfig};
use tokio_rustls::server::TlsStream;

use super::certificate::Validity;

/// The one protocol that is spoken.
const ALPN: &[u8] = b"http/1.1";

/// Certificate and key. Clones are handles on the same pair: whoever replaces it replaces it for all of them, from the
/// next connection on.
#[derive(Clone)]
pub struct Tls(Arc<ArcSwap<Pair>>);

struct Pair {
    config: Arc<ServerConfig>,
    validity: Option<Validity>,
}

/// Why certificate and key cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TlsError {
    /// The first file holds no certificate in PEM.
    NoCertificate,
    /// The second file holds no private key in PEM.
    NoKey,
    /// Key and certificate are not made for each other.
    Mismatch,
    /// A certificate or a key of a kind that is not known, or damaged.
    Unusable(String),
}

impl std::fmt::Display for TlsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoCertificate => f.write_str("the first holds no certificate in PEM"),
            Self::NoKey => f.write_str("the second holds no private key in PEM"),
            Self::Mismatch => f.write_str("the key does not belong to the certificate"),
            Self::Unusable(why) => write!(f, "they cannot be used: {why}"),
        }
    }
}

impl std::error::Error for TlsError {}

impl Tls {
    /// From PEM: a chain that begins with the server's certificate, and its private key.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificates)
            .collect::<Result<_, _>>()
            .map_err(|_| TlsError::NoCertificate)?;
        if chain.is_empty() {
            return Err(TlsError::NoCertificate);
        }
        let validity = Validity::of_chain(&chain);
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::NoKey)?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
        let mut config = config.map_err(|error| match error {
            Error::InconsistentKeys(_) => TlsError::Mismatch,
            other => TlsError::Unusable(other.to_string()),
        })?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        let pair = Pair { config: Arc::new(config), validity };
        Ok(Self(Arc::new(ArcSwap::from_pointee(pair))))
    }

    /// When the certificates are valid, if that can be read.
    pub fn validity(&self) -> Option<Validity> {
        self.0.load().validity
    }

    /// Takes the pair of `other` in place of this one.
    pub fn replace(&self, other: &Self) {
        self.0.store(other.0.load_full());
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

/// A connection as HTTP sees it.
pub(crate) enum EdgeStream<S> {
    Plain(S),
    Tls(Box<TlsStream<S>>),
}

/// Shakes hands on an accepted socket, if there is TLS, within `patience`.
pub(crate) async fn open<S>(socket: S, tls: Option<&Tls>, patience: Duration) -> io::Result<EdgeStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Some(tls) = tls else { return Ok(EdgeStream::Plain(socket)) };
    let handshake = TlsAcceptor::from(Arc::clone(&tls.0.load().config)).accept(socket);
    let stream = tokio::time::timeout(patience, handshake).await.map_err(|_| io::ErrorKind::TimedOut)??;
    Ok(EdgeStream::Tls(Box::new(stream)))
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for EdgeStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for EdgeStream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(context, parts),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
