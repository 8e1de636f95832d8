//! A server on a real socket, and a small HTTP/1.1 client that shows what came as it came.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cpu::WeightFormat;
use fetch::{FetchSettings, Fetcher};
use registry::Tag;
use serde_json::{Value, json};
use server::problem::Code;
use server::{App, ContextOverflow, Defaults, Edge, Ending, Keys, Limits, Options};
use serving::plan::SwapMode;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

pub(crate) const KEY: &str = "key-of-the-tests";
/// Nothing here takes so long unless it hangs.
const PATIENCE: Duration = Duration::from_mins(1);

/// Settings of a small server: exact weights, one engine, the built-in model.
pub(crate) fn options() -> Options {
    Options {
        models: models(),
        load_at_start: true,
        defaults: Defaults::default(),
        context_overflow: ContextOverflow::DropOldest,
        ignored_fields: std::collections::BTreeSet::new(),
        model_aliases: Vec::new(),
        page: true,
        metrics_address: None,
        keys: Keys::parse(KEY),
        edge: Edge::default(),
        swap_wait: Duration::from_secs(45),
        drain_timeout: Duration::from_secs(20),
        limits: Limits::default(),
        spans: None,
        log_lines_dropped: Arc::default(),
        settings: json!({}),
    }
}

/// The same with other settings of models and engines.
pub(crate) fn with(mut options: Options, change: impl FnOnce(&mut serving::Options)) -> Options {
    change(&mut options.models);
    options
}

fn models() -> serving::Options {
    serving::Options {
        storage: None,
        offers: Vec::new(),
        fetcher: Fetcher::new(FetchSettings::default()).unwrap(),
        default_tag: None,
        restore_last_model: false,
        remember_last_model: true,
        format: WeightFormat::F32,
        step: None,
        isa: isa(),
        threads: 1,
        workers: 1,
        kv_bytes: 64 << 20,
        swap_mode: SwapMode::Auto,
        grammar: guides::Settings {
            command: Vec::new(),
            deadline: Duration::from_secs(2),
            slow_reads: 4,
            memory_bytes: 128 << 20,
        },
        engine: engine::Limits::default(),
    }
}

/// The instruction set that ISA names, as for the binary, or the best of this CPU: no test may depend on which it is.
fn isa() -> cpu::Isa {
    #[expect(clippy::disallowed_methods, reason = "one run of the tests may be for another instruction set")]
    let named = std::env::var("ISA").unwrap_or_else(|_| "auto".to_owned());
    let known = if named == "auto" { Some(cpu::Isa::detect()) } else { cpu::Isa::named(&named) };
    known.unwrap_or_else(|| panic!("ISA={named} is not on this CPU"))
}

/// The same with a storage directory and the model to begin with.
pub(crate) fn options_in(storage: &Path, tag: &str) -> Options {
    let models =
        serving::Options { storage: Some(storage.to_owned()), default_tag: Tag::new(tag), ..models() };
    Options { models, ..options() }
}

pub(crate) fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens")
}

/// Copies a directory of files.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// A storage directory with goldens and their tokenizer.
pub(crate) fn storage(cases: &[&str]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for case in cases.iter().chain(&["tokenizer"]) {
        copy(&goldens().join(case), &root.path().join(case));
    }
    root
}

/// The file of weights of a golden in a storage directory.
pub(crate) fn weights(root: &Path, tag: &str) -> PathBuf {
    let files = std::fs::read_dir(root.join(tag)).unwrap();
    let mut paths = files.map(|entry| entry.unwrap().path());
    paths.find(|path| path.extension().is_some_and(|extension| extension == "pt")).unwrap()
}

/// A checkpoint in which the first `length` bytes of a storage, named as in the archive, are `byte`.
pub(crate) fn spoiled(archive: &[u8], name: &str, length: usize, byte: u8) -> Vec<u8> {
    let found = archive.windows(name.len()).position(|window| window == name.as_bytes()).unwrap();
    // The numbers begin after the name, and a padding whose length is before it.
    let padding = u16::from_le_bytes([archive[found - 2], archive[found - 1]]);
    let mut spoiled = archive.to_vec();
    spoiled[found + name.len() + usize::from(padding)..][..length].fill(byte);
    spoiled
}

/// A storage directory whose model `long` goes on for thousands of tokens when it is asked greedily.
pub(crate) fn long_storage() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    copy(&goldens().join("g7"), &root.path().join("long"));
    copy(&goldens().join("tokenizer"), &root.path().join("tokenizer"));
    let models = "[[model]]\ntag = \"long\"\n[model.overrides]\nsequence_len = 8192\n";
    std::fs::write(root.path().join("models.toml"), models).unwrap();
    root
}

/// Settings to serve `long`, slowly enough that its answers last for seconds on any machine.
pub(crate) fn long_options(storage: &Path) -> Options {
    with(options_in(storage, "long"), |models| {
        models.isa = cpu::Isa::SCALAR;
        models.engine.speculation_tokens = 0;
    })
}

/// A body of `POST /generate` with one message.
pub(crate) fn ask(content: &str, temperature: f64, max_tokens: u64) -> Value {
    let messages = json!([{ "role": "user", "content": content }]);
    json!({ "messages": messages, "temperature": temperature, "max_tokens": max_tokens })
}

/// A server that runs.
pub(crate) struct Server {
    pub(crate) app: App,
    pub(crate) address: SocketAddr,
    stop: watch::Sender<Option<Ending>>,
    running: JoinHandle<()>,
}

impl Server {
    /// Starts one and waits until its first model is loaded, or has failed to.
    pub(crate) async fn start(options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::start_on(listener, options).await
    }

    pub(crate) async fn start_on(listener: TcpListener, options: Options) -> Self {
        let address = listener.local_addr().unwrap();
        let app = App::new(options);
        if app.options.load_at_start {
            app.models.load_at_start();
        }
        while app.models.is_loading() {
            sleep(Duration::from_millis(2)).await;
        }
        let (stop, stopped) = watch::channel(None);
        let running = tokio::spawn(server::serve(listener, app.clone(), stopped));
        Self { app, address, stop, running }
    }

    /// Sends a request and reads the head of its answer.
    pub(crate) async fn send(&self, request: Ask) -> Reply {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(&request.bytes()).await.unwrap();
        Reply::read(socket).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let reply = self.send(Ask::new("GET", path)).await;
        assert_eq!(reply.status, 200, "{path}");
        serde_json::from_slice(&reply.rest().await).unwrap()
    }

    /// Everything a stream said.
    pub(crate) async fn told(&self, body: &Value) -> Told {
        self.told_with(body, None).await
    }

    pub(crate) async fn told_with(&self, body: &Value, seed: Option<u64>) -> Told {
        let mut request = Ask::new("POST", "/generate").json(body);
        if let Some(seed) = seed {
            request = request.header("X-Seed", &seed.to_string());
        }
        let reply = self.send(request).await;
        assert_eq!(reply.header("content-type"), Some("text/event-stream"), "status {}", reply.status);
        told(&reply.rest().await)
    }

    pub(crate) async fn swap(&self, tag: &str) -> Reply {
        self.send(Ask::new("POST", "/models/swap").json(&json!({ "model_tag": tag }))).await
    }

    /// Polls `/stats` until it says so, for some seconds.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut stats = Value::Null;
        for _ in 0..500 {
            stats = self.get("/stats").await;
            if holds(&stats) {
                return stats;
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("never came: {what}; the last /stats: {stats:#}");
    }

    /// The value of a series in `/metrics`, named with its labels.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let text = self.send(Ask::new("GET", "/metrics")).await.rest().await;
        let text = String::from_utf8(text).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
    }

    /// Tells the server to stop.
    pub(crate) fn tell_to_stop(&self) {
        self.tell_to_end(Ending::Drain);
    }

    pub(crate) fn tell_to_end(&self, ending: Ending) {
        self.stop.send_replace(Some(ending));
    }

    /// Waits until it has.
    pub(crate) async fn stopped(self) {
        timeout(PATIENCE, self.running).await.unwrap().unwrap();
    }
}

/// A request, with the key unless it is taken away.
pub(crate) struct Ask {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Ask {
    pub(crate) fn new(method: &str, path: &str) -> Self {
        let headers = vec![("X-Internal-API-Key".to_owned(), KEY.to_owned())];
        Self { method: method.to_owned(), path: path.to_owned(), headers, body: Vec::new() }
    }

    /// Sets a header in place of one of the same name.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self = self.without(name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a header, whether there is one of that name or not.
    pub(crate) fn and(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.body(body.to_string().as_bytes()).header("Content-Type", "application/json")
    }

    pub(crate) fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    /// As it goes over the wire.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let Self { method, path, headers, body } = self;
        let mut head = format!("{method} {path} HTTP/1.1\r\nContent-Length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| name == "Host") {
            head.push_str("Host: localhost\r\n");
        }
        for (name, value) in headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        let mut bytes = (head + "\r\n").into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }
}

/// An answer: its head, and its body as it comes.
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    socket: TcpStream,
    /// Read but not yet looked at.
    unread: Vec<u8>,
    left: Left,
}

enum Left {
    Bytes(usize),
    Chunks,
    Nothing,
}

impl Reply {
    pub(crate) async fn read(socket: TcpStream) -> Self {
        let (status, headers, unread) = (0, Vec::new(), Vec::new());
        let mut reply = Self { status, headers, socket, unread, left: Left::Nothing };
        let first = reply.line().await;
        reply.status = first.split(' ').nth(1).unwrap().parse().unwrap();
        loop {
            let line = reply.line().await;
            let Some((name, value)) = line.split_once(": ") else { break };
            reply.headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        reply.left = match (reply.header("content-length"), reply.header("transfer-encoding")) {
            (Some(length), None) => Left::Bytes(length.parse().unwrap()),
            (None, Some("chunked")) => Left::Chunks,
            (None, None) => Left::Nothing,
            both => panic!("two lengths: {both:?}"),
        };
        reply
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The next piece of the body as the server wrote it.
    pub(crate) async fn piece(&mut self) -> Option<Vec<u8>> {
        let length = match self.left {
            Left::Nothing | Left::Bytes(0) => return None,
            Left::Bytes(length) => {
                self.left = Left::Nothing;
                return Some(self.take(length).await);
            }
            Left::Chunks => usize::from_str_radix(&self.line().await, 16).unwrap(),
        };
        let piece = self.take(length).await;
        assert_eq!(self.line().await, "", "a chunk ends where it says");
        if length == 0 {
            self.left = Left::Nothing;
            return None;
        }
        Some(piece)
    }

    /// The whole body that is left; panics if the connection ends before it does.
    pub(crate) async fn rest(mut self) -> Vec<u8> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece().await {
            body.extend(piece);
        }
        body
    }

    pub(crate) async fn json(self) -> Value {
        serde_json::from_slice(&self.rest().await).unwrap()
    }

    /// A problem body, after checking what all of them have in common.
    pub(crate) async fn problem(self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let (status, id) = (self.status, self.header("x-request-id").unwrap().to_owned());
        let text = String::from_utf8(self.rest().await).unwrap();
        let body: Value = serde_json::from_str(&text).unwrap();
        let mut members: Vec<&str> = body.as_object().unwrap().keys().map(String::as_str).collect();
        members.retain(|member| *member != "param");
        assert_eq!(
            members,
            ["type", "title", "status", "detail", "code", "retryable", "request_id"],
            "{text}"
        );
        assert!(body.get("param").is_none_or(Value::is_string), "{text}");
        let code = Code::ALL.iter().find(|code| body["code"] == code.as_str()).unwrap();
        assert_eq!((body["status"].as_u64().unwrap(), code.status().as_u16()), (u64::from(status), status));
        assert_eq!((&body["retryable"], &body["request_id"]), (&json!(code.retryable()), &json!(id)));
        assert_eq!(body["type"], format!("urn:samosa:problem:{}", code.as_str()));
        let detail = body["detail"].as_str().unwrap();
        assert!(!detail.is_empty() && !detail.contains('\n'), "{detail:?}");
        for secret in ["::", "/work", "/tmp", "crates/", ".rs", env!("CARGO_MANIFEST_DIR"), KEY] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
        body
    }

    async fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.unread.drain(..end + 2).take(end).collect();
                return String::from_utf8(line).unwrap();
            }
            self.more().await;
        }
    }

    async fn take(&mut self, length: usize) -> Vec<u8> {
        while self.unread.len() < length {
            self.more().await;
        }
        self.unread.drain(..length).collect()
    }

    async fn more(&mut self) {
        let mut buffer = vec![0; 16 << 10];
        let read = timeout(PATIENCE, self.socket.read(&mut buffer)).await.expect("nothing came").unwrap();
        assert!(read > 0, "the connection ended within an answer");
        self.unread.extend_from_slice(&buffer[..read]);
    }
}

/// What a stream said.
pub(crate) struct Told {
    pub(crate) tokens: Vec<String>,
    /// The done or error event.
    pub(crate) last: Value,
    pub(crate) comments: usize,
}

impl Told {
    pub(crate) fn text(&self) -> String {
        self.tokens.concat()
    }
}

/// Reads a whole stream; it must be tokens and comments, then one other event and nothing after it.
pub(crate) fn told(body: &[u8]) -> Told {
    let text = std::str::from_utf8(body).unwrap();
    let mut told = Told { tokens: Vec::new(), last: Value::Null, comments: 0 };
    let frames = text.strip_suffix("\n\n").expect("a stream ends with a whole frame").split("\n\n");
    for frame in frames {
        assert!(told.last.is_null(), "nothing comes after the last event: {frame}");
        if frame.starts_with(':') {
            told.comments += 1;
            continue;
        }
        let event: Value = serde_json::from_str(frame.strip_prefix("data: ").unwrap()).unwrap();
        match event.get("token") {
            Some(token) => told.tokens.push(token.as_str().unwrap().to_owned()),
            None => told.last = event,
        }
    }
    assert!(told.last["done"] == true || told.last["error"].is_object(), "{}", told.last);
    told
}
