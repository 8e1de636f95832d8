//! No secret is ever shown: a server that was given recognisable ones in every way there is, at the most talkative level,
//! asked well and badly, and made to fetch from a source that says everything back.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use serde_json::json;
use tempfile::TempDir;

use crate::support::running::Running;

/// What every secret of these tests holds.
const SECRET: &str = "hush";

/// A source of weights that answers everything with 500 and the request it got; and all that was ever sent to it.
fn echo() -> (String, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let heard = Arc::new(Mutex::new(String::new()));
    let hears = Arc::clone(&heard);
    let answer = move || {
        for socket in listener.incoming().map_while(Result::ok) {
            if let Some(head) = echo_one(socket) {
                hears.lock().unwrap().push_str(&head);
            }
        }
    };
    std::thread::Builder::new().name("echo".to_owned()).spawn(answer).unwrap();
    (url, heard)
}

fn echo_one(mut socket: TcpStream) -> Option<String> {
    let mut bytes = vec![0; 16 << 10];
    let read = socket.read(&mut bytes).ok()?;
    let head = String::from_utf8_lossy(&bytes[..read]).into_owned();
    let length = head.len();
    // A status that is worth no second try.
    write!(
        socket,
        "HTTP/1.1 403 Forbidden\r\nContent-Length: {length}\r\nX-Error-Message: {}\r\nConnection: close\r\n\r\n{head}",
        head.replace("\r\n", " ")
    )
    .ok()?;
    Some(head)
}

/// Files with secrets, and a configuration that has some too.
struct Secrets {
    directory: TempDir,
    source: String,
}

impl Secrets {
    fn new(source: &str) -> Self {
        let secrets = Self { directory: tempfile::tempdir().unwrap(), source: source.to_owned() };
        fs::write(secrets.path("internal"), "hush-internal-file\n").unwrap();
        fs::write(secrets.path("admin"), "hush-admin-file\n").unwrap();
        fs::write(secrets.path("samosa.toml"), "hf_token = \"hush-hf-token\"\nlog_level = \"trace\"\n")
            .unwrap();
        fs::create_dir(secrets.path("models")).unwrap();
        let models = "[[model]]\ntag = \"bucket\"\nsource = \"s3://bucket/prefix\"\n";
        fs::write(secrets.path("models/models.toml"), models).unwrap();
        secrets
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn start(&self) -> Running {
        let text = |name: &str| self.path(name).to_str().unwrap().to_owned();
        let (internal, admin, config, models) =
            (text("internal"), text("admin"), text("samosa.toml"), text("models"));
        Running::start_with(
            &["--admin-api-key", "hush-admin-flag", "--admin-api-key-file", &admin],
            &[
                ("INTERNAL_API_KEY", "hush-internal-one,hush-internal-two"),
                ("INTERNAL_API_KEY_FILE", &internal),
                ("SAMOSA_CONFIG", &config),
                ("MODEL_STORAGE_PATH", &models),
                ("DEFAULT_MODEL_TAG", "samosa-mini"),
                ("HF_ENDPOINT", &self.source),
                ("HF_REPO_OWNER", "owner"),
                ("HF_TAGS", "hub"),
                ("AWS_ENDPOINT_URL", &self.source),
                ("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"),
                ("AWS_SECRET_ACCESS_KEY", "hush-aws-secret"),
                ("AWS_SESSION_TOKEN", "hush-aws-token"),
                ("AWS_REGION", "us-east-1"),
                ("AWS_ALLOW_HTTP", "true"),
                ("NO_PROXY", "*"),
            ],
        )
    }
}

/// Asks with a key; the answer may hold no secret.
fn ask(server: &mut Running, key: &str, (method, path, body): (&str, &str, &str)) -> u16 {
    key.clone_into(&mut server.key);
    let (status, answer) = server.ask(method, path, ("", body)).whole();
    assert!(!answer.contains(SECRET), "{method} {path} with {key} and {body}: {answer}");
    status
}

#[test]
fn nothing_that_a_server_says_holds_a_secret() {
    let (source, heard) = echo();
    let secrets = Secrets::new(&source);
    let mut server = secrets.start();
    server.wait_for("its model", |server| server.health()["ready"] == true);
    let keys = [
        "hush-internal-one",
        "hush-internal-two",
        "hush-internal-file",
        "hush-admin-flag",
        "hush-admin-file",
    ];
    let hello = json!({ "messages": [{ "role": "user", "content": "Hello!" }], "max_tokens": 4 }).to_string();
    for key in keys {
        for path in ["/stats", "/models", "/metrics", "/health"] {
            assert_eq!(ask(&mut server, key, ("GET", path, "")), 200, "{key}");
        }
        assert_eq!(ask(&mut server, key, ("POST", "/generate", &hello)), 200);
        for bad in ["{", "[]", "{\"messages\":[]}", "{\"messages\":1,\"max_tokens\":0}"] {
            assert!([400, 422].contains(&ask(&mut server, key, ("POST", "/generate", bad))), "{bad}");
        }
        let path = format!("/stats/{key}?key={key}");
        assert_eq!(ask(&mut server, key, ("GET", &path, "")), 404, "paths of callers are not said back");
        let expected = if key.contains("admin") { 502 } else { 403 };
        for tag in ["hub", "bucket"] {
            let body = json!({ "model_tag": tag }).to_string();
            assert_eq!(ask(&mut server, key, ("POST", "/models/swap", &body)), expected, "{key} {tag}");
        }
    }
    for wrong in ["hush-wrong", "hush-internal-one,hush-internal-two", "hush-internal-on"] {
        assert_eq!(ask(&mut server, wrong, ("GET", "/stats", "")), 401);
    }
    fs::write(secrets.path("internal"), "hush-next\n").unwrap();
    server.wait_for("the next key", |server| ask(server, "hush-next", ("GET", "/stats", "")) == 200);
    fs::write(secrets.path("internal"), "hush-admin-flag\n").unwrap();
    server.wait_for("a refusal", |server| server.stdout().contains("both an internal and an admin key"));
    server.signal("TERM");
    assert_eq!(server.ended(), Some(0));
    let heard = heard.lock().unwrap();
    assert!(heard.contains("hush-hf-token") && heard.contains("hush-aws-token"), "they were used: {heard}");
    assert!(
        !heard.contains("hush-internal")
            && !heard.contains("hush-admin")
            && !heard.contains("hush-aws-secret")
    );
    for said in [server.stdout(), server.stderr()] {
        assert!(!said.contains(SECRET), "{}", said.lines().find(|line| line.contains(SECRET)).unwrap());
    }
    assert!(server.stdout().contains("\"level\":\"DEBUG\""), "it was talkative");
}

fn run(directory: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_samosa"));
    command.env_clear().current_dir(directory).args(arguments).envs(environment.iter().copied());
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn settings_are_shown_without_their_secrets() {
    let (source, _) = echo();
    let secrets = Secrets::new(&source);
    let directory = secrets.directory.path();
    let arguments = ["config", "--config", "samosa.toml", "--admin-api-key", "hush-admin-flag"];
    let environment = [
        ("INTERNAL_API_KEY", "hush-internal"),
        ("INTERNAL_API_KEY_FILE", "internal"),
        ("ADMIN_API_KEY_FILE", "admin"),
    ];
    let output = run(directory, &arguments, &environment);
    let shown = said(&output);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert!(shown.matches("********").count() == 3 && !shown.contains(SECRET), "{shown}");
}

#[test]
fn lines_that_stop_a_start_hold_no_secret() {
    let secrets = Secrets::new("");
    let directory = secrets.directory.path();
    for broken in [
        "internal_api_key = \"hush",
        "internal_api_key = hush",
        "admin_api_key = { a = \"hush\" }",
        "hf_token = 'hush' hush",
        "hf_token = \"hush\"\nhf_token = \"hush2\"",
        "hf_token = [\"hush\", {}]",
        "hf_token = hush-hush",
        "internal_api_key = \"\"\"hush",
        "hf_token = \"\\hush\"",
    ] {
        fs::write(secrets.path("broken.toml"), broken).unwrap();
        let output = run(directory, &["config", "--config", "broken.toml"], &[]);
        assert_eq!(output.status.code(), Some(2), "{broken}");
        assert!(!said(&output).contains(SECRET), "{broken}: {}", said(&output));
    }
    for (arguments, environment) in [
        (&["serve", "--internal-api-key", "hush", "--admin-api-key", "hush"][..], &[][..]),
        (&["serve", "--internal-api-key", "hush", "--internal-api-key", "hush"], &[]),
        (&["serve", "--internal-api-key", "hush", "--port", "x"], &[("HF_TOKEN", "hush")]),
        (&["serve", "--tls-cert", "internal", "--tls-key", "admin"], &[]),
        (&["swap", "x", "--url", "http://127.0.0.1:1"], &[("ADMIN_API_KEY", "hush\u{1}")]),
        (&["bench", "--url", "http://127.0.0.1:1"], &[("INTERNAL_API_KEY", "hush\u{1}")]),
        (&["pull", "x"], &[("HF_TOKEN", "hush\nhush")]),
    ] {
        let output = run(directory, arguments, environment);
        assert!([Some(1), Some(2)].contains(&output.status.code()), "{arguments:?}: {}", said(&output));
        assert!(!said(&output).contains(SECRET), "{arguments:?}: {}", said(&output));
    }
}

#[test]
fn stats_mask_what_settings_hold() {
    let mut server = Secrets::new("http://127.0.0.1:1").start();
    "hush-internal-one".clone_into(&mut server.key);
    let settings = &server.stats()["settings"];
    for name in ["internal_api_key", "admin_api_key", "hf_token"] {
        assert_eq!(settings[name], "********", "{settings}");
    }
}
