//! What one resource says of another, which no schema knows: selectors, ports, names, settings, and seconds that add up.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail};
use serde_json::Value;

/// Between the end of DRAIN_TIMEOUT and the kill, for connections to close: the least there must be.
const CLOSING_SECONDS: u64 = 5;
/// What alerts call the servers.
const JOB: &str = "samosa";

/// Checks the resources of one installation.
pub(crate) fn check(resources: &[Value], settings: &BTreeSet<String>) -> anyhow::Result<()> {
    let all = Resources(resources);
    let deployment = all.only("Deployment")?;
    let pod = &deployment["spec"]["template"];
    check_selectors(all, deployment, pod)?;
    check_ports(all, pod)?;
    check_names(all, pod)?;
    let environment = environment(all, pod)?;
    check_settings(&environment, settings)?;
    check_end(pod, &environment)?;
    check_probes(pod)?;
    check_confinement(pod)
}

/// The metric that the autoscaler asks for is one that the adapter's rules make of ours.
pub(crate) fn check_metric(scaled: &[Value], adapter: &[Value]) -> anyhow::Result<()> {
    let scaler = Resources(scaled).only("HorizontalPodAutoscaler")?;
    let wanted = text(&scaler["spec"]["metrics"][0]["pods"]["metric"]["name"])?;
    let rules = adapter.first().and_then(|values| values["rules"]["custom"].as_array());
    let made = rules.into_iter().flatten().any(|rule| {
        rule["name"]["as"] == wanted
            && rule["seriesQuery"].as_str().is_some_and(|query| query.starts_with(wanted))
    });
    if !made {
        bail!("the adapter's rules do not make {wanted}");
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Resources<'a>(&'a [Value]);

impl<'a> Resources<'a> {
    fn of(self, kind: &'static str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |resource| resource["kind"] == kind)
    }

    fn only(self, kind: &'static str) -> anyhow::Result<&'a Value> {
        let mut found = self.of(kind);
        match (found.next(), found.next()) {
            (Some(resource), None) => Ok(resource),
            _ => bail!("there is not exactly one {kind}"),
        }
    }

    /// The resource of a kind that has this name.
    fn named(self, kind: &'static str, name: &Value) -> anyhow::Result<&'a Value> {
        let mut found = self.of(kind).filter(|resource| resource["metadata"]["name"] == *name);
        found.next().with_context(|| format!("there is no {kind} {name}"))
    }
}

fn text(value: &Value) -> anyhow::Result<&str> {
    value.as_str().with_context(|| format!("{value} is no text"))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Whoever selects pods by their labels selects ours, and who selects a service, the service.
fn check_selectors(all: Resources<'_>, deployment: &Value, pod: &Value) -> anyhow::Result<()> {
    let labels = &pod["metadata"]["labels"];
    let mut selectors = vec![("Deployment", &deployment["spec"]["selector"]["matchLabels"], labels)];
    let service = all.only("Service")?;
    selectors.push(("Service", &service["spec"]["selector"], labels));
    let budget = all.only("PodDisruptionBudget")?;
    selectors.push(("PodDisruptionBudget", &budget["spec"]["selector"]["matchLabels"], labels));
    let policy = all.only("NetworkPolicy")?;
    selectors.push(("NetworkPolicy", &policy["spec"]["podSelector"]["matchLabels"], labels));
    for spread in list(&pod["spec"]["topologySpreadConstraints"]) {
        selectors.push(("topologySpreadConstraints", &spread["labelSelector"]["matchLabels"], labels));
    }
    for monitor in all.of("ServiceMonitor") {
        let selector = &monitor["spec"]["selector"]["matchLabels"];
        selectors.push(("ServiceMonitor", selector, &service["metadata"]["labels"]));
    }
    for (who, selector, labels) in selectors {
        let pairs = selector.as_object().filter(|pairs| !pairs.is_empty());
        let pairs = pairs.with_context(|| format!("{who} selects everything or nothing"))?;
        if let Some((name, value)) = pairs.iter().find(|(name, value)| labels[name.as_str()] != **value) {
            bail!("{who} selects {name}={value}, which is not among {labels}");
        }
    }
    Ok(())
}

/// Names of ports are those of the container, and the service's.
fn check_ports(all: Resources<'_>, pod: &Value) -> anyhow::Result<()> {
    let container = &pod["spec"]["containers"][0];
    let open: BTreeSet<&str> = list(&container["ports"]).filter_map(|port| port["name"].as_str()).collect();
    let service = all.only("Service")?;
    let served: BTreeSet<&str> =
        list(&service["spec"]["ports"]).filter_map(|port| port["name"].as_str()).collect();
    let targets = list(&service["spec"]["ports"]).map(|port| &port["targetPort"]);
    let probes = ["startupProbe", "livenessProbe", "readinessProbe"];
    let probed = probes.iter().map(|probe| &container[probe]["httpGet"]["port"]);
    let policy = &all.only("NetworkPolicy")?["spec"]["ingress"];
    let allowed = list(policy).flat_map(|rule| list(&rule["ports"])).map(|port| &port["port"]);
    for port in targets.chain(probed).chain(allowed) {
        if !open.contains(text(port)?) {
            bail!("the container opens no port {port}");
        }
    }
    for endpoint in all.of("ServiceMonitor").flat_map(|monitor| list(&monitor["spec"]["endpoints"])) {
        if !served.contains(text(&endpoint["port"])?) {
            bail!("the service has no port {}", endpoint["port"]);
        }
        let job = list(&endpoint["relabelings"]).find(|relabeling| relabeling["targetLabel"] == "job");
        if job.is_none_or(|relabeling| relabeling["replacement"] != JOB) {
            bail!("rules and dashboards know the job as {JOB}");
        }
    }
    Ok(())
}

/// What is mounted and used exists here, but for secrets, which are made by hand and therefore have fixed names.
fn check_names(all: Resources<'_>, pod: &Value) -> anyhow::Result<()> {
    all.named("ServiceAccount", &pod["spec"]["serviceAccountName"])?;
    for scaler in all.of("HorizontalPodAutoscaler") {
        all.named("Deployment", &scaler["spec"]["scaleTargetRef"]["name"])?;
    }
    let mut secrets = 0;
    for volume in list(&pod["spec"]["volumes"]) {
        if let Some(claim) = volume.get("persistentVolumeClaim") {
            all.named("PersistentVolumeClaim", &claim["claimName"])?;
        }
        if let Some(name) = volume.get("secret").map(|secret| &secret["secretName"]) {
            secrets += 1;
            let made = all.of("Secret").any(|secret| secret["metadata"]["name"] == *name);
            if !made && name != "inference-keys" {
                bail!("who makes the Secret {name}?");
            }
        }
    }
    let mounted = list(&pod["spec"]["containers"][0]["volumeMounts"]);
    let volumes: Vec<&Value> = list(&pod["spec"]["volumes"]).map(|volume| &volume["name"]).collect();
    if let Some(mount) = mounted.into_iter().find(|mount| !volumes.contains(&&mount["name"])) {
        bail!("there is no volume {}", mount["name"]);
    }
    if secrets != 1 {
        bail!("keys are not mounted as a file");
    }
    Ok(())
}

/// The container's environment: names and values, as far as they are known here.
fn environment<'a>(all: Resources<'a>, pod: &'a Value) -> anyhow::Result<Vec<(&'a str, &'a str)>> {
    let container = &pod["spec"]["containers"][0];
    let mut pairs = Vec::new();
    for from in list(&container["envFrom"]) {
        let map = all.named("ConfigMap", &from["configMapRef"]["name"])?;
        for (name, value) in map["data"].as_object().into_iter().flatten() {
            pairs.push((name.as_str(), text(value)?));
        }
    }
    for variable in list(&container["env"]) {
        pairs.push((text(&variable["name"])?, variable["value"].as_str().unwrap_or_default()));
    }
    Ok(pairs)
}

fn check_settings(environment: &[(&str, &str)], settings: &BTreeSet<String>) -> anyhow::Result<()> {
    if let Some((name, _)) = environment.iter().find(|(name, _)| !settings.contains(*name)) {
        bail!("{name} is no setting; `samosa config` lists them all");
    }
    if environment.iter().any(|(name, value)| *name == "INTERNAL_API_KEY" && !value.is_empty()) {
        bail!("a key stands in the environment");
    }
    Ok(())
}

/// A pod may live as long as its streams: preStop's sleep, then DRAIN_TIMEOUT, then a little.
fn check_end(pod: &Value, environment: &[(&str, &str)]) -> anyhow::Result<()> {
    let container = &pod["spec"]["containers"][0];
    let sleep =
        container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().context("preStop sleeps not")?;
    let drain = environment.iter().find(|(name, _)| *name == "DRAIN_TIMEOUT").context("no DRAIN_TIMEOUT")?;
    let drain: u64 = drain.1.parse()?;
    let grace = pod["spec"]["terminationGracePeriodSeconds"].as_u64().context("no grace period")?;
    if grace < sleep + drain + CLOSING_SECONDS {
        bail!("{grace} s of grace are less than {sleep} + {drain} + {CLOSING_SECONDS}");
    }
    Ok(())
}

fn check_probes(pod: &Value) -> anyhow::Result<()> {
    let container = &pod["spec"]["containers"][0];
    for (probe, path) in
        [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")]
    {
        if container[probe]["httpGet"]["path"] != path {
            bail!("{probe} does not ask {path}");
        }
    }
    Ok(())
}

/// What the `restricted` pod security standard wants, and a read-only root.
fn check_confinement(pod: &Value) -> anyhow::Result<()> {
    let container = &pod["spec"]["containers"][0]["securityContext"];
    let wanted = [
        (&pod["spec"]["securityContext"]["runAsNonRoot"], Value::from(true)),
        (&pod["spec"]["securityContext"]["seccompProfile"]["type"], "RuntimeDefault".into()),
        (&pod["spec"]["automountServiceAccountToken"], false.into()),
        (&container["allowPrivilegeEscalation"], false.into()),
        (&container["readOnlyRootFilesystem"], true.into()),
        (&container["capabilities"]["drop"][0], "ALL".into()),
    ];
    match wanted.iter().find(|(is, should)| *is != should) {
        Some((is, should)) => bail!("the pod is not confined: {is} instead of {should}"),
        None => Ok(()),
    }
}
