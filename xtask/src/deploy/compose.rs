//! The compose file: read by compose itself where it is there, and held to what it promises.

use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::{Built, kubernetes};
use crate::shell;

const FILE: &str = "deploy/compose.yaml";
/// Longer than DRAIN_TIMEOUT by so much, at least.
const CLOSING_SECONDS: u64 = 5;

/// Checks the file.
pub(crate) fn run(built: &Built) -> anyhow::Result<()> {
    let documents = kubernetes::documents(&std::fs::read_to_string(shell::root().join(FILE))?)?;
    let [file] = documents.as_slice() else { bail!("{FILE} is not one document") };
    let services = file["services"].as_object().context("there are no services")?;
    for (name, service) in services {
        check_confinement(service)
            .and_then(|()| check_sources(file, service))
            .with_context(|| name.to_owned())?;
    }
    check_server(&services["samosa"], built)?;
    let by = if shell::succeeds("docker", &["compose", "version"]) {
        shell::output("docker", &["compose", "--file", FILE, "config", "--quiet"])?;
        "read by docker compose"
    } else {
        "docker compose is not here"
    };
    println!("{} services, confined and complete; {by}", services.len());
    Ok(())
}

fn list(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// Every container has a read-only root, no capabilities, bounds, and ports on loopback alone.
fn check_confinement(service: &Value) -> anyhow::Result<()> {
    let unconfined = [
        ("read_only", service["read_only"] == true),
        ("cap_drop", list(&service["cap_drop"]).eq(["ALL"])),
        ("security_opt", list(&service["security_opt"]).any(|option| option == "no-new-privileges:true")),
        ("mem_limit", service["mem_limit"].is_string()),
        ("cpus", service["cpus"].is_number()),
        ("ports", list(&service["ports"]).all(|port| port.starts_with("127.0.0.1:"))),
    ];
    match unconfined.iter().find(|(_, is_so)| !is_so) {
        Some((name, _)) => bail!("{name} is not what it should be"),
        None => Ok(()),
    }
}

/// Files that are mounted are here, and volumes, secrets and networks are declared.
fn check_sources(file: &Value, service: &Value) -> anyhow::Result<()> {
    for mount in list(&service["volumes"]) {
        let source = mount.split(':').next().unwrap_or_default();
        let is_there = if source.starts_with('.') {
            shell::root().join("deploy").join(source).exists()
        } else {
            file["volumes"].get(source).is_some()
        };
        if !is_there {
            bail!("{source} is neither a file here nor a volume");
        }
    }
    for kind in ["secrets", "networks"] {
        if let Some(name) = list(&service[kind]).find(|name| file[kind].get(name).is_none()) {
            bail!("{name} is not among the {kind}");
        }
    }
    if let Some(path) = service["build"]["dockerfile"].as_str().filter(|path| !Path::new(path).exists()) {
        bail!("{path} does not exist");
    }
    Ok(())
}

/// The server's settings are known, its key is a file, and it has the time that its streams may take.
fn check_server(service: &Value, built: &Built) -> anyhow::Result<()> {
    let settings = service["environment"].as_object().context("no environment")?;
    if let Some(name) = settings.keys().find(|name| !built.settings.contains(*name)) {
        bail!("{name} is no setting");
    }
    let key = settings["INTERNAL_API_KEY_FILE"].as_str().unwrap_or_default();
    if !list(&service["secrets"]).any(|secret| key == format!("/run/secrets/{secret}")) {
        bail!("no secret is mounted at {key}");
    }
    let seconds = |value: &Value| value.as_str()?.trim_end_matches('s').parse::<u64>().ok();
    let grace = seconds(&service["stop_grace_period"]).context("no stop_grace_period in seconds")?;
    let drain = seconds(&settings["DRAIN_TIMEOUT"]).context("no DRAIN_TIMEOUT")?;
    if grace < drain + CLOSING_SECONDS {
        bail!("{grace} s to stop are less than {drain} + {CLOSING_SECONDS}");
    }
    Ok(())
}
