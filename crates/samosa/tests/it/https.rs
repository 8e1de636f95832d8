//! The commands that are clients, against a server behind TLS and against sockets that are none; and `healthcheck`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

use crate::support::running::Running;

/// Connections that a front takes before the test must be over.
const CONNECTIONS: usize = 32;

/// What ends TLS in front of a server, with a certificate of its own for these names.
struct Front {
    url: String,
    directory: TempDir,
}

impl Front {
    fn start(behind: &str, names: &[&str], expired: Option<()>) -> Self {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut parameters = CertificateParams::new(names).unwrap();
        if expired.is_some() {
            parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
            parameters.not_after = rcgen::date_time_ymd(2020, 1, 2);
        }
        let certificate = parameters.self_signed(&key).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), certificate.pem()).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let (config, behind) = (Arc::new(config), behind.to_owned());
        thread::Builder::new()
            .spawn(move || {
                for socket in listener.incoming().take(CONNECTIONS) {
                    let tls = ServerConnection::new(Arc::clone(&config)).unwrap();
                    // Clients that do not trust it leave in the middle.
                    let _ = pass_on(StreamOwned::new(tls, socket.unwrap()), &behind);
                }
            })
            .unwrap();
        Self { url, directory }
    }

    fn certificate(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }
}

/// One request and its answer: both ends close after it.
fn pass_on(mut near: StreamOwned<ServerConnection, TcpStream>, behind: &str) -> std::io::Result<()> {
    near.sock.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut far = TcpStream::connect(behind)?;
    let mut buffer = [0; 16 << 10];
    // The requests of these tests fit one record.
    let length = near.read(&mut buffer)?;
    far.write_all(&buffer[..length])?;
    loop {
        let length = far.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        near.write_all(&buffer[..length])?;
    }
    near.conn.send_close_notify();
    near.flush()
}

/// A command with this environment and nothing else.
fn samosa(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_samosa"));
    command.args(arguments).env_clear().envs(environment.iter().copied()).output().unwrap()
}

/// The one line on standard error of a command that failed with 1.
fn failed(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let output = samosa(arguments, environment);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{arguments:?}: {said}");
    said
}

fn done(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let output = samosa(arguments, environment);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_client_speaks_tls_with_whom_it_trusts() {
    let running = Running::start(&[]);
    let front = Front::start(&running.address, &["127.0.0.1", "localhost"], None);
    let certificate = front.certificate();
    let trusted = ["--url", front.url.as_str(), "--ca-cert", certificate.to_str().unwrap()];
    let key = [("INTERNAL_API_KEY", running.key.as_str())];
    done(&[&["healthcheck"], &trusted[..]].concat(), &[]);
    let said = done(&[&["swap", "samosa-mini"], &trusted[..]].concat(), &key);
    assert_eq!(said, "samosa-mini serves already\n");
    let load = ["bench", "--requests", "3", "--streams", "1", "--answer-tokens", "4", "--json"];
    let report: serde_json::Value =
        serde_json::from_str(&done(&[&load[..], &trusted[..]].concat(), &key)).unwrap();
    assert_eq!(report["ended"]["length"], 3, "{report}");
    let by_name = front.url.replace("127.0.0.1", "localhost");
    done(&["healthcheck", "--url", &by_name, "--ca-cert", certificate.to_str().unwrap()], &[]);
}

#[test]
fn whoever_is_not_trusted_gets_no_request() {
    let running = Running::start(&[("STARTUP_LOAD_ENABLED", "false")]);
    let front = Front::start(&running.address, &["other.example"], None);
    let certificate = front.certificate();
    let certificate = certificate.to_str().unwrap();
    let said = failed(&["healthcheck", "--live", "--url", &front.url, "--ca-cert", certificate], &[]);
    assert!(said.contains("its certificate is for another name"), "{said}");
    let expired = Front::start(&running.address, &["127.0.0.1"], Some(()));
    let path = expired.certificate();
    let ask = ["healthcheck", "--live", "--url", &expired.url, "--ca-cert", path.to_str().unwrap()];
    let said = failed(&ask, &[]);
    assert!(said.contains("its certificate has expired"), "{said}");
    let stranger = Front::start(&running.address, &["127.0.0.1"], None);
    let said = failed(&["healthcheck", "--live", "--url", &stranger.url, "--ca-cert", certificate], &[]);
    assert!(said.contains("not signed by a trusted CA (--ca-cert"), "{said}");
    let plain = format!("https://{}", running.address);
    let said = failed(&["healthcheck", "--live", "--url", &plain, "--ca-cert", certificate], &[]);
    assert!(said.contains("is it plain http?"), "{said}");
    let empty = front.directory.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let ask = ["healthcheck", "--url", &front.url, "--ca-cert", empty.to_str().unwrap()];
    assert!(failed(&ask, &[]).contains("holds no certificate"));
    assert!(!running.stdout().contains("\"path\""), "no request came through: {}", running.stdout());
}

#[test]
fn a_health_check_takes_the_address_from_the_settings() {
    let running = Running::start(&[("STARTUP_LOAD_ENABLED", "false")]);
    let (_, port) = running.address.rsplit_once(':').unwrap();
    for host in ["127.0.0.1", "0.0.0.0", "localhost"] {
        done(&["healthcheck", "--live"], &[("HOST", host), ("PORT", port)]);
    }
    let said = failed(&["healthcheck"], &[("PORT", port)]);
    assert!(said.contains("/readyz: 503") && said.contains("No model is loaded."), "{said}");
    let said = failed(&["healthcheck"], &[("PORT", "0")]);
    assert!(said.contains("--url"), "{said}");
    let said = failed(&["healthcheck"], &[("PORT", "many")]);
    assert!(said.contains("PORT is \"many\""), "{said}");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let free = listener.local_addr().unwrap().port().to_string();
    drop(listener);
    let said = failed(&["healthcheck"], &[("HOST", "::"), ("PORT", &free)]);
    assert!(said.contains(&format!("http://[::1]:{free}/readyz: ")), "{said}");
}

#[test]
fn a_health_check_waits_three_seconds_and_no_longer() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    #[expect(clippy::disallowed_methods, reason = "how long it waits is what is tested")]
    let begun = Instant::now();
    let said = failed(&["healthcheck", "--url", &url], &[]);
    assert!(said.contains("no answer came within 3 s"), "{said}");
    assert!((2..20).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}
