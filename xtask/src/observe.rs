//! `cargo xtask observe`: the rules and dashboards of `deploy`, asked of a real Prometheus that scrapes the
//! binary while it serves, swaps and refuses.
//!
//! Nothing of this needs the network, but for Debian's package where Prometheus is not installed. All processes listen
//! on loopback, on ports of the system's choosing, and end with this one.

mod dashboards;
mod load;
mod processes;
mod prometheus;
mod promql;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use serde_json::Value;

use self::dashboards::{Dashboard, Query};
use self::processes::Samosa;
use self::prometheus::{Prometheus, Window};
use crate::{http, shell};

const RULES: &str = "deploy/prometheus/alerts.yml";
const RULE_TESTS: &str = "deploy/prometheus/alerts_test.yml";
const CONFIGURATION: &str = "deploy/prometheus/prometheus.yml";
const DASHBOARDS: &str = "deploy/grafana";
/// After the load, until its last moments are scraped and the rules have seen them.
const SETTLE: Duration = Duration::from_secs(3);
/// What `promtool check metrics` says of the board's own names, which are not ours to change.
const KNOWN_LINT: &str = "workers_total non-counter metrics should not have \"_total\" suffix";

/// Readies Prometheus.
pub(crate) fn ready() -> anyhow::Result<()> {
    prometheus::install()
}

/// Checks the files, then asks everything of a Prometheus that watched a server at work.
pub(crate) fn run() -> anyhow::Result<()> {
    let binary = shell::samosa()?;
    prometheus::install()?;
    shell::run("promtool", &["check", "config", CONFIGURATION])?;
    shell::run("promtool", &["check", "rules", RULES])?;
    shell::run("promtool", &["test", "rules", RULE_TESTS])?;
    let boards = Dashboard::all(&shell::root().join(DASHBOARDS))?;
    let directory = shell::fresh_folder("observe")?;
    let began = SystemTime::now();
    let samosa = Samosa::start(binary, &directory)?;
    let watching = Prometheus::start(&directory, samosa.address())?;
    println!("load: streams, swaps and refusals at {}, watched by {}", samosa.address(), watching.address());
    println!("load: {}", load::run(&samosa)?);
    thread::sleep(SETTLE);
    let text = http::body(samosa.address(), "/metrics")?;
    prometheus::lint(&text, KNOWN_LINT)?;
    let window = Window::since(began.duration_since(UNIX_EPOCH)?)?;
    let queries = ask(&watching, &boards, &window)?;
    let (rules, named) = check_names(&watching, &boards)?;
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    println!(
        "{queries} queries of {} dashboards have data, {rules} alerts are evaluated, {named} names exist among {series} series",
        boards.len()
    );
    Ok(())
}

/// Asks every query of every panel, variable and annotation; fails with all that have no data.
fn ask(prometheus: &Prometheus, boards: &[Dashboard], window: &Window) -> anyhow::Result<usize> {
    let (mut asked, mut empty) = (0, Vec::new());
    for board in boards {
        for query in &board.queries {
            asked += 1;
            let place = format!("{}: {}", board.file, query.place());
            if !has_data(prometheus, query, window).with_context(|| place.clone())? {
                empty.push(place);
            }
        }
    }
    if !empty.is_empty() {
        bail!("{} of {asked} queries have no data:\n  {}", empty.len(), empty.join("\n  "));
    }
    Ok(asked)
}

fn has_data(prometheus: &Prometheus, query: &Query, window: &Window) -> anyhow::Result<bool> {
    match query {
        Query::Expression { expression, .. } => {
            prometheus.has_data(&dashboards::substituted(expression), window)
        }
        Query::LabelValues { series, label, .. } => {
            Ok(prometheus.label_has_values(label, &dashboards::substituted(series))?)
        }
    }
}

/// Every series that a dashboard or a rule names exists, and every rule is evaluated. Returns how many rules and names.
fn check_names(prometheus: &Prometheus, boards: &[Dashboard]) -> anyhow::Result<(usize, usize)> {
    let known = prometheus.names()?;
    let rules = prometheus.rules()?;
    for rule in &rules {
        let field = |name: &str| rule[name].as_str().unwrap_or_default();
        if field("health") != "ok" {
            bail!("the alert {} is not evaluated: {}", field("name"), field("lastError"));
        }
    }
    let of_rules = rules.iter().filter_map(|rule| rule["query"].as_str());
    let of_boards = boards.iter().flat_map(|board| board.queries.iter().map(Query::expression));
    let named: BTreeSet<String> = of_rules.chain(of_boards).flat_map(promql::names).collect();
    let missing: Vec<&String> = named.iter().filter(|name| !known.contains(*name)).collect();
    if rules.is_empty() || !missing.is_empty() {
        bail!("{} rules; series that do not exist: {missing:?}", rules.len());
    }
    Ok((rules.len(), named.len()))
}

/// A member that must be text.
fn text<'a>(value: &'a Value, name: &str) -> anyhow::Result<&'a str> {
    value[name].as_str().with_context(|| format!("{name} is no text in {value}"))
}
