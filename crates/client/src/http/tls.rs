//! TLS for commands that ask servers: whose certificates are believed, and what went wrong in a person's words.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_platform_verifier::Verifier;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How others are trusted, by commands that have the flag.
pub(super) const OTHERS: &str = " (--ca-cert FILE trusts others)";

/// Whose certificates are believed.
#[derive(Clone, Debug)]
pub(crate) enum Trust {
    /// Those that the system trusts.
    System,
    /// Those of this file alone.
    File(PathBuf),
    /// Anybody's: for a question without a secret to this very machine.
    Anybody,
}

/// How to speak TLS with one server.
#[derive(Clone)]
pub(super) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    /// Reads the certificates that are believed.
    pub(super) fn new(host: &str, trust: &Trust) -> Result<Self> {
        let name = ServerName::try_from(host.to_owned())
            .with_context(|| format!("{host} is no name that a certificate could be for"))?;
        let provider = Arc::new(ring::default_provider());
        let verifier = verifier(trust, &provider)?;
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }

    /// Shakes hands; the error is a sentence.
    pub(super) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        socket: S,
    ) -> Result<TlsStream<S>, String> {
        let connected = self.connector.connect(self.name.clone(), socket).await;
        connected.map_err(|error| match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(error) => said(error),
            None => "the connection was closed while TLS began; does it speak plain http?".to_owned(),
        })
    }
}

fn verifier(trust: &Trust, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>> {
    Ok(match trust {
        Trust::System => {
            let verifier = Verifier::new(Arc::clone(provider));
            Arc::new(verifier.context("this machine trusts no certificates; --ca-cert names some")?)
        }
        Trust::File(path) => {
            let roots = Arc::new(roots(path)?);
            WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider)).build()?
        }
        Trust::Anybody => Arc::new(Unverified(Arc::clone(provider))),
    })
}

fn roots(path: &Path) -> Result<RootCertStore> {
    let shown = path.display();
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| anyhow!("{shown}: {error}"))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| anyhow!("{shown} is no PEM file: {error}"))?;
        roots.add(certificate).map_err(|error| anyhow!("{shown} holds a broken certificate: {error}"))?;
    }
    if roots.is_empty() {
        bail!("{shown} holds no certificate");
    }
    Ok(roots)
}

fn said(error: &Error) -> String {
    match error {
        // A signature is bad where somebody calls himself like one who is trusted.
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            format!("its certificate is from nobody who is trusted here{OTHERS}")
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "its certificate is for another name".to_owned(),
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "its certificate has expired".to_owned()
        }
        Error::InvalidMessage(_) => "what answers does not speak TLS; is it plain http?".to_owned(),
        error => error.to_string(),
    }
}

/// Believes every certificate; whoever holds it must still prove to hold its key.
struct Unverified(Arc<CryptoProvider>);

impl fmt::Debug for Unverified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unverified")
    }
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use rustls::ServerConfig;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// Shakes hands with a server whose certificate is for another name, signed by itself.
    fn shake_hands(trust: &Trust) -> Result<(), String> {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(["other.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let tls = Tls::new("127.0.0.1", trust).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let serve = async { acceptor.accept(listener.accept().await.unwrap().0).await.is_ok() };
            let ask = async { tls.connect(TcpStream::connect(address).await.unwrap()).await.map(drop) };
            tokio::join!(ask, serve).0
        })
    }

    #[test]
    fn a_question_to_this_machine_believes_anybody_and_no_other_does() {
        assert_eq!(shake_hands(&Trust::Anybody), Ok(()));
        let refused = shake_hands(&Trust::System).unwrap_err();
        assert!(refused.starts_with("its certificate is "), "{refused}");
    }
}
