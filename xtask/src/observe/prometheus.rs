//! Prometheus itself: installed where it is missing, started with the committed example, and asked.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::{CONFIGURATION, RULES};
use crate::process::{self, Process};
use crate::{http, shell};

/// Until it has scraped.
const START: Duration = Duration::from_secs(30);

/// Fetches Debian's package where that is ours to do.
pub(super) fn install() -> anyhow::Result<()> {
    let there = || ["prometheus", "promtool"].iter().all(|program| shell::succeeds(program, &["--version"]));
    if there() {
        return Ok(());
    }
    shell::install(&["prometheus"], "Prometheus 2.40 or newer, with promtool")?;
    if there() { Ok(()) } else { bail!("Debian's prometheus was installed and does not start") }
}

/// Lets promtool judge a scrape; `known` is the one thing it may say.
pub(super) fn lint(scrape: &str, known: &str) -> anyhow::Result<()> {
    println!("$ promtool check metrics < (a scrape)");
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("promtool does not start")?;
    child.stdin.take().context("promtool reads nothing")?.write_all(scrape.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let new: Vec<&str> = said.lines().filter(|line| !line.is_empty() && *line != known).collect();
    // It fails for what is known too.
    if !new.is_empty() {
        bail!("promtool check metrics: {}", new.join("\n"))
    }
    Ok(())
}

/// The time that queries are asked about, in seconds since 1970.
pub(super) struct Window {
    from: f64,
    to: f64,
}

impl Window {
    /// From then to now.
    pub(super) fn since(from: Duration) -> anyhow::Result<Self> {
        let to = SystemTime::now().duration_since(UNIX_EPOCH)?;
        Ok(Self { from: from.as_secs_f64(), to: to.as_secs_f64() })
    }
}

/// A Prometheus that scrapes a server each second.
pub(super) struct Prometheus {
    _process: Process,
    address: SocketAddr,
}

impl Prometheus {
    /// Starts one with the committed example and rules, and waits until it has scraped.
    pub(super) fn start(directory: &Path, target: SocketAddr) -> anyhow::Result<Self> {
        let configuration = directory.join("prometheus.yml");
        fs::write(&configuration, configured(target)?)?;
        // Whoever takes the port in between makes this fail loudly, and only once.
        let address = http::free_address()?;
        let mut command = Command::new("prometheus");
        command.current_dir(directory).args(["--log.level=warn", "--storage.tsdb.path=data"]);
        command.arg(format!("--config.file={}", configuration.display()));
        command.arg(format!("--web.listen-address={address}"));
        let process = Process::start(&mut command, &directory.join("prometheus.log"))?;
        let up = || http::body(address, "/api/v1/query?query=up");
        process::wait("the first scrape", START, || up().is_ok_and(|up| up.contains(",\"1\"]")))
            .with_context(|| process.said())?;
        Ok(Self { _process: process, address })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether an expression has a number at some moment of the window.
    pub(super) fn has_data(&self, expression: &str, window: &Window) -> anyhow::Result<bool> {
        let Window { from, to } = window;
        let query = escaped(expression);
        let data = self.ask(&format!("query_range?query={query}&start={from}&end={to}&step=1"))?;
        let series = data["result"].as_array().into_iter().flatten();
        let samples = series.filter_map(|series| series["values"].as_array()).flatten();
        let mut numbers = samples.filter_map(|sample| sample[1].as_str()?.parse::<f64>().ok());
        Ok(numbers.any(f64::is_finite))
    }

    /// Whether a label of some series has values.
    pub(super) fn label_has_values(&self, label: &str, series: &str) -> anyhow::Result<bool> {
        let values = self.ask(&format!("label/{label}/values?match[]={}", escaped(series)))?;
        Ok(values.as_array().is_some_and(|values| !values.is_empty()))
    }

    /// The names of all series.
    pub(super) fn names(&self) -> anyhow::Result<BTreeSet<String>> {
        Ok(serde_json::from_value(self.ask("label/__name__/values")?)?)
    }

    /// All rules, as they are evaluated.
    pub(super) fn rules(&self) -> anyhow::Result<Vec<Value>> {
        let data = self.ask("rules")?;
        let groups = data["groups"].as_array().into_iter().flatten();
        Ok(groups.filter_map(|group| group["rules"].as_array()).flatten().cloned().collect())
    }

    fn ask(&self, path: &str) -> anyhow::Result<Value> {
        let mut answer: Value = serde_json::from_str(&http::body(self.address, &format!("/api/v1/{path}"))?)?;
        Ok(answer["data"].take())
    }
}

/// The committed example with this target, scrapes of each second, and the rules where they are.
fn configured(target: SocketAddr) -> anyhow::Result<String> {
    let mut text = fs::read_to_string(shell::root().join(CONFIGURATION))?;
    let rules = shell::root().canonicalize()?.join(RULES).display().to_string();
    for (from, to) in [
        ("_interval: 15s", "_interval: 1s"),
        ("127.0.0.1:8003", &target.to_string()),
        ("- alerts.yml", &format!("- {rules}")),
    ] {
        if !text.contains(from) {
            bail!("{CONFIGURATION} has no `{from}`");
        }
        text = text.replace(from, to);
    }
    Ok(text)
}

/// Text as a value in a query.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
