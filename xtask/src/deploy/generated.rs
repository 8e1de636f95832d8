//! Files that are made from others: Prometheus' rules as a resource of its operator, Kustomize's list of dashboards, and
//! the table in the guide to sizes.
//! `cargo xtask deploy --write` makes them, and every other run compares.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, bail};

use super::sizing;
use crate::shell;

const RULES: &str = "deploy/prometheus/alerts.yml";
const RESOURCE: &str = "deploy/kubernetes/monitoring/prometheusrule.yaml";
const DASHBOARDS: &str = "deploy/grafana";
const LIST: &str = "deploy/grafana/kustomization.yaml";
const GUIDE: &str = "deploy/SIZING.md";
/// Around the table.
const MARKS: [&str; 2] = ["<!-- table begin -->\n", "<!-- table end -->\n"];

const RESOURCE_HEAD: &str = "\
# Made from deploy/prometheus/alerts.yml by `cargo xtask deploy --write`: change that.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: inference
  labels:
    app.kubernetes.io/name: inference
    app.kubernetes.io/part-of: samosachaat
spec:
";

const LIST_HEAD: &str = "\
# Made by `cargo xtask deploy --write`: the dashboards of this folder, as ConfigMaps that Grafana's sidecar finds by their
# label. It lies here, since Kustomize reads no file outside the folder of the file that names it.
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
generatorOptions:
  # Names stay: the sidecar follows changes by itself.
  disableNameSuffixHash: true
  labels:
    grafana_dashboard: \"1\"
";

/// Writes them.
pub(crate) fn write() -> anyhow::Result<()> {
    for (path, text) in files()? {
        fs::write(shell::root().join(path), text)?;
        println!("{path} was written");
    }
    Ok(())
}

/// Fails if one is not what it would be made to be.
pub(crate) fn check() -> anyhow::Result<()> {
    for (path, text) in files()? {
        if fs::read_to_string(shell::root().join(path)).ok().as_ref() != Some(&text) {
            bail!("{path} is not what it is made from any more: run `cargo xtask deploy --write`");
        }
    }
    Ok(())
}

fn files() -> anyhow::Result<[(&'static str, String); 3]> {
    let rules = fs::read_to_string(shell::root().join(RULES))?;
    let mut dashboards = Vec::new();
    for entry in fs::read_dir(shell::root().join(DASHBOARDS))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        dashboards.extend(name.strip_suffix(".json").map(str::to_owned));
    }
    dashboards.sort();
    let guide = guide(&fs::read_to_string(shell::root().join(GUIDE))?)?;
    Ok([(RESOURCE, resource(&rules)), (LIST, list(&dashboards)), (GUIDE, guide)])
}

/// The rules below `spec`, as they are, comments included.
fn resource(rules: &str) -> String {
    let mut text = RESOURCE_HEAD.to_owned();
    for line in rules.lines() {
        let indent = if line.is_empty() { "" } else { "  " };
        text.extend([indent, line, "\n"]);
    }
    text
}

/// The guide with the table as it should be.
fn guide(text: &str) -> anyhow::Result<String> {
    let [begin, end] = MARKS;
    let (before, rest) = text.split_once(begin).context("no place for the table")?;
    let (_, after) = rest.split_once(end).context("no end of the table")?;
    Ok([before, begin, "\n", &sizing::table(), "\n", end, after].concat())
}

/// One ConfigMap for each dashboard: together they might not fit in one.
fn list(dashboards: &[String]) -> String {
    let mut text = LIST_HEAD.to_owned();
    text.push_str(if dashboards.is_empty() { "configMapGenerator: []\n" } else { "configMapGenerator:\n" });
    for name in dashboards {
        // A String takes everything.
        let _ = write!(text, "  - name: grafana-{}\n    files: [{name}.json]\n", name.replace('_', "-"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_keep_their_comments_and_their_depth() {
        let text = resource("# why\ngroups:\n  - name: a\n\n    rules: []\n");
        assert!(text.ends_with("spec:\n  # why\n  groups:\n    - name: a\n\n      rules: []\n"), "{text}");
    }

    #[test]
    fn each_dashboard_has_a_config_map() {
        assert!(list(&[]).ends_with("configMapGenerator: []\n"));
        let text = list(&["weights_swap".to_owned()]);
        assert!(text.ends_with("  - name: grafana-weights-swap\n    files: [weights_swap.json]\n"), "{text}");
    }
}
