//! Keys, certificates and names as an operator meets them: settings that start the binary or stop it, and files that change
//! under it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::support::running::Running;

/// Longer than the time between two looks at a file.
const TWO_LOOKS: Duration = Duration::from_secs(5);

fn samosa(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_samosa"));
    command.env_clear().args(arguments).envs(environment.iter().copied()).output().unwrap()
}

/// The one line that stopped the start.
fn stopped(environment: &[(&str, &str)]) -> String {
    let output = samosa(&["serve"], environment);
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), line.lines().count()), (Some(2), 1), "{environment:?}: {line}");
    line
}

fn tls_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../server/tests/tls").join(name)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The status of `/stats` for a key.
fn status(server: &mut Running, key: &str) -> u16 {
    key.clone_into(&mut server.key);
    server.ask("GET", "/stats", ("", "")).whole().0
}

fn warnings(server: &Running) -> Vec<Value> {
    server.log().into_iter().filter(|line| line["level"] == "WARN").collect()
}

#[test]
fn a_key_file_that_changes_is_in_force_without_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    // As Kubernetes mounts a secret.
    for (version, keys) in [("..1", "first-key\n"), ("..2", "second-key\nthird-key\n")] {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("keys"), keys).unwrap();
    }
    std::os::unix::fs::symlink("..1", at("..data")).unwrap();
    std::os::unix::fs::symlink("..data/keys", at("keys")).unwrap();
    let mut server = Running::start(&[
        ("INTERNAL_API_KEY", "fixed-key"),
        ("INTERNAL_API_KEY_FILE", text(&at("keys"))),
        ("STARTUP_LOAD_ENABLED", "false"),
    ]);
    assert_eq!(["fixed-key", "first-key", "second-key"].map(|key| status(&mut server, key)), [200, 200, 401]);
    std::os::unix::fs::symlink("..2", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    server.wait_for("the second key", |server| status(server, "second-key") == 200);
    let keys = ["fixed-key", "first-key", "third-key"];
    assert_eq!(keys.map(|key| status(&mut server, key)), [200, 401, 200], "the first one is out");
    server.wait_for("its line", |server| server.stdout().contains("3 keys are in force"));
    let said = server.stdout();
    assert!(!said.contains("-key\""), "{said}");
    assert!(warnings(&server).is_empty(), "{said}");
    // A file that is emptied, and then gone, changes nothing; both are said once.
    fs::write(at("..2/keys"), "\n").unwrap();
    server.wait_for("a warning", |server| warnings(server).len() == 1);
    fs::remove_file(at("keys")).unwrap();
    server.wait_for("another warning", |server| warnings(server).len() == 2);
    std::thread::sleep(TWO_LOOKS);
    assert_eq!(["fixed-key", "third-key"].map(|key| status(&mut server, key)), [200, 200]);
    let [empty, gone] = &warnings(&server)[..] else { panic!("{}", server.stdout()) };
    assert!(empty["error"].as_str().unwrap().ends_with("holds no key"), "{empty}");
    assert!(gone["error"].as_str().unwrap().contains("could not be read"), "{gone}");
    assert!([empty, gone].iter().all(|warning| warning["setting"] == "INTERNAL_API_KEY_FILE"));
    for key in ["fixed-key", "first-key", "second-key", "third-key"] {
        assert!(!server.stdout().contains(key) && !server.stderr().contains(key), "{key}");
    }
}

#[test]
fn swaps_take_the_admin_key_and_the_clients_know_it() {
    let directory = tempfile::tempdir().unwrap();
    let (internal, admin) = (directory.path().join("internal"), directory.path().join("admin"));
    fs::write(&internal, "\ncaller,other\n").unwrap();
    fs::write(&admin, "operator\n").unwrap();
    let files = [("INTERNAL_API_KEY_FILE", text(&internal)), ("ADMIN_API_KEY_FILE", text(&admin))];
    let mut server = Running::start(&[files[0], files[1], ("STARTUP_LOAD_ENABLED", "false")]);
    let swap = json!({ "model_tag": "samosa-mini" }).to_string();
    "caller".clone_into(&mut server.key);
    let (status, body) = server.ask("POST", "/models/swap", ("", &swap)).whole();
    assert!(status == 403 && body.contains("\"forbidden\""), "{body}");
    let url = format!("http://{}", server.address);
    let arguments = ["swap", "samosa-mini", "--url", &url];
    let refused = samosa(&arguments, &files[..1]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("it refuses this: This takes an admin key (ADMIN_API_KEY)"), "{said}");
    let done = samosa(&arguments, &files);
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    let done = samosa(&arguments, &[("ADMIN_API_KEY", "operator"), ("INTERNAL_API_KEY", "wrong")]);
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    let bench = ["bench", "--url", &url, "--answer-tokens", "4"];
    let measured = samosa(&bench, &files[..1]);
    assert_eq!(measured.status.code(), Some(0), "{}", String::from_utf8_lossy(&measured.stderr));
    for command in [&arguments[..], &bench] {
        let lost = samosa(command, &[("INTERNAL_API_KEY_FILE", "nowhere")]);
        let said = String::from_utf8(lost.stderr).unwrap();
        assert_eq!(lost.status.code(), Some(2), "{said}");
        assert!(said.starts_with("samosa: INTERNAL_API_KEY_FILE: nowhere could not be read"), "{said}");
    }
}

#[test]
fn settings_of_the_edge_that_cannot_be_stop_the_start_with_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, contents: &str| {
        let path = directory.path().join(name);
        fs::write(&path, contents).unwrap();
        path
    };
    let (keys, empty) = (file("keys", "in-both\n"), file("empty", " \n"));
    let (one, two) = (tls_file("one.cert.pem"), tls_file("two.key.pem"));
    for (environment, expected) in [
        (&[("ALLOWED_HOSTS", "a.example,*")][..], "ALLOWED_HOSTS has \"*\", but must hold names"),
        (&[("ALLOWED_HOSTS", "a.example:80")], "without a port"),
        (&[("CORS_ALLOWED_ORIGINS", "*")], "CORS_ALLOWED_ORIGINS has \"*\", but must hold origins"),
        (
            &[("CORS_ALLOWED_ORIGINS", "https://a.example, b.example")],
            "has \"b.example\", but must hold origins",
        ),
        (&[("ADMIN_API_KEY_FILE", "nowhere")], "ADMIN_API_KEY_FILE: nowhere could not be read"),
        (&[("ADMIN_API_KEY_FILE", text(&empty))], "holds no key"),
        (&[("INTERNAL_API_KEY", "x,in-both"), ("ADMIN_API_KEY", "in-both")], "every caller could swap"),
        (
            &[("INTERNAL_API_KEY", "in-both"), ("ADMIN_API_KEY_FILE", text(&keys))],
            "both an internal and an admin",
        ),
        (
            &[("ADMIN_API_KEY", "in-both"), ("INTERNAL_API_KEY_FILE", text(&keys))],
            "both an internal and an admin",
        ),
        (&[("TLS_CERT", text(&one))], "TLS_CERT and TLS_KEY go together"),
        (&[("TLS_KEY", text(&two))], "TLS_CERT and TLS_KEY go together"),
        (&[("TLS_CERT", text(&one)), ("TLS_KEY", text(&two))], "the key does not belong to the certificate"),
        (&[("TLS_CERT", text(&two)), ("TLS_KEY", text(&two))], "the first holds no certificate"),
        (&[("TLS_CERT", text(&one)), ("TLS_KEY", "nowhere")], "nowhere could not be read"),
    ] {
        let line = stopped(environment);
        assert!(line.contains(expected) && !line.contains("in-both"), "{line}");
        // What serve refuses, config does too.
        assert_eq!(samosa(&["config"], environment).status.code(), Some(2), "{line}");
    }
    let line = stopped(&[("HOST", "0.0.0.0"), ("ADMIN_API_KEY", "operator")]);
    assert!(line.contains("INTERNAL_API_KEY must be set"), "an admin key alone is for nobody: {line}");
}

#[test]
fn names_that_are_listed_are_taken_on_loopback() {
    let server = Running::start(&[("ALLOWED_HOSTS", "inference.example"), ("STARTUP_LOAD_ENABLED", "false")]);
    let ask = |host: &str| {
        let mut socket = TcpStream::connect(&server.address).unwrap();
        write!(socket, "GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(["inference.example:80", "127.0.0.1", "evil.example"].map(ask), ["200", "200", "403"]);
}

/// What a server says over TLS to a client that trusts one certificate.
fn https(address: &str, trusted: &Path, path: &str) -> std::io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(trusted).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connection =
        ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
    let mut stream = StreamOwned::new(connection, TcpStream::connect(address)?);
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn https_takes_a_new_certificate_without_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = (directory.path().join("tls.crt"), directory.path().join("tls.key"));
    let (one, two) = (tls_file("one.cert.pem"), tls_file("two.cert.pem"));
    fs::copy(&one, &certificate).unwrap();
    fs::copy(tls_file("one.key.pem"), &key).unwrap();
    let mut server = Running::start(&[("TLS_CERT", text(&certificate)), ("TLS_KEY", text(&key))]);
    assert!(server.stderr().contains("curl -N https://127.0.0.1:"), "{}", server.stderr());
    let answer = https(&server.address, &one, "/health").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(https(&server.address, &two, "/health").is_err(), "another one is not trusted");
    // Between the two files the pair does not fit, and the old one stays.
    fs::copy(&two, &certificate).unwrap();
    server.wait_for("a warning", |server| warnings(server).len() == 1);
    let warning = warnings(&server).remove(0);
    assert_eq!(warning["error"], "the key does not belong to the certificate", "{warning}");
    assert!(https(&server.address, &one, "/health").is_ok());
    fs::copy(tls_file("two.key.pem"), &key).unwrap();
    server.wait_for("the second certificate", |server| https(&server.address, &two, "/health").is_ok());
    assert!(https(&server.address, &one, "/health").is_err());
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));
}
