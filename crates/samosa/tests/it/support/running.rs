//! A server process with its output in files, and as much HTTP as it takes to talk to it.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

const POLL: Duration = Duration::from_millis(5);
/// Polls until something is said never to come: 30 seconds.
const POLLS: usize = 6000;

/// `samosa serve` on a port of the system's choosing.
pub(crate) struct Running {
    /// Absent where it is another's.
    child: Option<Child>,
    pub(crate) address: String,
    pub(crate) key: String,
    directory: TempDir,
}

impl Running {
    /// Starts one with this environment and nothing else, and reads its address and key.
    pub(crate) fn start(environment: &[(&str, &str)]) -> Self {
        Self::start_with(&[], environment)
    }

    /// The same with flags.
    pub(crate) fn start_with(flags: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut running = Self::spawn(flags, environment);
        let made_up = environment.iter().all(|(name, _)| !name.starts_with("INTERNAL_API_KEY"));
        let read = if made_up { Self::read_greeting } else { Self::read_log };
        running.wait_for("its address", |running| {
            let found = read(running);
            let known = found.is_some();
            (running.address, running.key) = found.unwrap_or_default();
            known
        });
        running
    }

    /// Starts one with this environment, after a shell has run `limit`.
    pub(crate) fn start_limited(limit: &str, environment: &[(&str, &str)]) -> Self {
        let script = format!("{limit} && exec \"$0\" serve");
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_samosa")]);
        let mut running = Self::spawned(&mut shell, environment, None);
        running.wait_for("its address", |running| {
            (running.address, _) = running.read_log().unwrap_or_default();
            !running.address.is_empty()
        });
        running
    }

    /// Starts one that writes its log and its standard error to one pipe. The other end has been read as far as the address.
    pub(crate) fn start_piped(environment: &[(&str, &str)]) -> (Self, BufReader<PipeReader>) {
        let (reader, writer) = std::io::pipe().unwrap();
        let command = &mut Command::new(env!("CARGO_BIN_EXE_samosa"));
        let mut running = Self::spawned(command.arg("serve"), environment, Some(&writer));
        drop(writer);
        let (mut reader, mut line) = (BufReader::new(reader), String::new());
        while running.address.is_empty() {
            line.clear();
            assert!(reader.read_line(&mut line).unwrap() > 0, "it ended");
            running.address = between(&line, "\"address\":\"", '"').unwrap_or_default();
        }
        (running, reader)
    }

    /// Starts one that ends by itself. Returns its exit code and what it said.
    pub(crate) fn start_and_end(environment: &[(&str, &str)]) -> (Option<i32>, String) {
        let mut running = Self::spawn(&[], environment);
        let code = running.ended();
        (code, running.stderr())
    }

    /// A server that somebody else started, to be asked only.
    pub(crate) fn elsewhere(address: &str, key: &str) -> Self {
        let (address, key) = (address.to_owned(), key.to_owned());
        Self { child: None, address, key, directory: tempfile::tempdir().unwrap() }
    }

    fn spawn(flags: &[&str], environment: &[(&str, &str)]) -> Self {
        let command = &mut Command::new(env!("CARGO_BIN_EXE_samosa"));
        Self::spawned(command.arg("serve").args(flags), environment, None)
    }

    /// What it writes goes to files, or to a pipe.
    fn spawned(command: &mut Command, environment: &[(&str, &str)], pipe: Option<&PipeWriter>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let output = |name: &str| {
            let file = File::create(directory.path().join(name)).unwrap();
            pipe.map_or(file.into(), |pipe| Stdio::from(pipe.try_clone().unwrap()))
        };
        let child = command
            .env_clear()
            .envs(isa())
            .env("PORT", "0")
            .envs(environment.iter().copied())
            .current_dir(directory.path())
            .stdout(output("stdout"))
            .stderr(output("stderr"))
            .spawn()
            .unwrap();
        Self { child: Some(child), address: String::new(), key: String::new(), directory }
    }

    fn child(&mut self) -> &mut Child {
        self.child.as_mut().unwrap()
    }

    /// Address and key of a server that made its key up.
    fn read_greeting(&self) -> Option<(String, String)> {
        let greeting = self.stderr();
        Some((between(&greeting, "://", '/')?, between(&greeting, "#key=", '\n')?))
    }

    /// The address of a server that was given its keys.
    fn read_log(&self) -> Option<(String, String)> {
        Some((between(&self.stdout(), "\"address\":\"", '"')?, String::new()))
    }

    pub(crate) fn wait_for(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        for _ in 0..POLLS {
            if holds(self) {
                return;
            }
            sleep(POLL);
        }
        panic!("never came: {what}\n{}\n{}", self.stderr(), self.stdout());
    }

    pub(crate) fn stdout(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("stdout")).unwrap()
    }

    pub(crate) fn stderr(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("stderr")).unwrap()
    }

    /// The log, every line of which must be a JSON object.
    pub(crate) fn log(&self) -> Vec<Value> {
        let text = self.stdout();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")));
        lines.collect()
    }

    /// The first value of this field of the log, once there is one.
    pub(crate) fn logged(&mut self, field: &str) -> String {
        let mut found = None;
        self.wait_for(field, |running| {
            found = running.log().iter().find_map(|line| Some(line[field].as_str()?.to_owned()));
            found.is_some()
        });
        found.unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// Ends it as a failing machine would.
    pub(crate) fn kill(&mut self) {
        self.child().kill().unwrap();
        self.child().wait().unwrap();
    }

    /// The exit code, once it has ended.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let mut status = None;
        self.wait_for("its end", |running| {
            status = running.child().try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }

    /// Sends a request; the answer is read with [`Answer`].
    pub(crate) fn ask(&self, method: &str, path: &str, (headers, body): (&str, &str)) -> Answer {
        let mut socket = TcpStream::connect(&self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let (key, length) = (&self.key, body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Internal-API-Key: {key}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        socket.write_all((head + body).as_bytes()).unwrap();
        Answer { socket, bytes: Vec::new() }
    }

    pub(crate) fn generate(&self, body: &Value) -> Answer {
        self.ask("POST", "/generate", ("", &body.to_string()))
    }

    pub(crate) fn health(&self) -> Value {
        self.get("/health")
    }

    pub(crate) fn stats(&self) -> Value {
        self.get("/stats")
    }

    fn get(&self, path: &str) -> Value {
        serde_json::from_str(&self.ask("GET", path, ("", "")).whole().1).unwrap()
    }

    /// The value of a series of `/metrics` that has no labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.ask("GET", "/metrics", ("", "")).whole().1;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }
}

/// The instruction set of this run of the tests, where one is named. None may depend on which it is.
pub(crate) fn isa() -> Option<(&'static str, String)> {
    #[expect(clippy::disallowed_methods, reason = "one run of the tests may be for another instruction set")]
    std::env::var("ISA").ok().map(|isa| ("ISA", isa))
}

fn between(text: &str, before: &str, after: char) -> Option<String> {
    let (found, _) = text.split_once(before)?.1.split_once(after)?;
    Some(found.to_owned())
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        // It may have ended already.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// An answer on its way.
pub(crate) struct Answer {
    socket: TcpStream,
    bytes: Vec<u8>,
}

impl Answer {
    /// Reads until this was said.
    pub(crate) fn until(&mut self, said: &str) {
        while !String::from_utf8_lossy(&self.bytes).contains(said) {
            assert!(self.more(), "the answer ended: {}", String::from_utf8_lossy(&self.bytes));
        }
    }

    /// Status and body, read to the end of the connection, which may be a cut.
    pub(crate) fn whole(mut self) -> (u16, String) {
        while self.more() {}
        let text = String::from_utf8(self.bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        (status, if chunked { without_chunks(body) } else { body.to_owned() })
    }

    /// The text of a whole stream, and its last event; panics if it was refused or cut.
    pub(crate) fn told(self) -> (String, Value) {
        let (status, body) = self.whole();
        assert_eq!(status, 200, "{body}");
        let events = body.lines().filter_map(|line| line.strip_prefix("data: "));
        let mut events: Vec<Value> = events.map(|event| serde_json::from_str(event).unwrap()).collect();
        let done = events.pop().unwrap();
        assert_eq!(done["done"], true, "cut: {body}");
        (events.iter().filter_map(|event| event["token"].as_str()).collect(), done)
    }

    fn more(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let read = loop {
            match self.socket.read(&mut buffer) {
                // As after a machine was halted for a moment.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read.unwrap_or(0),
            }
        };
        self.bytes.extend_from_slice(&buffer[..read]);
        read > 0
    }
}

fn without_chunks(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        whole.push_str(rest.get(..length).unwrap_or(rest));
        body = rest.get(length + 2..).unwrap_or_default();
    }
    whole
}

/// A storage directory whose model `long` goes on for thousands of tokens.
pub(crate) fn long_storage() -> TempDir {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens");
    let root = tempfile::tempdir().unwrap();
    for (from, to) in [("g7", "long"), ("tokenizer", "tokenizer")] {
        std::fs::create_dir(root.path().join(to)).unwrap();
        for entry in std::fs::read_dir(goldens.join(from)).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, root.path().join(to).join(path.file_name().unwrap())).unwrap();
        }
    }
    let models = "[[model]]\ntag = \"long\"\n[model.overrides]\nsequence_len = 8192\n";
    std::fs::write(root.path().join("models.toml"), models).unwrap();
    root
}
