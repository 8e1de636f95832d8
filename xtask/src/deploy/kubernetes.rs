//! The manifests: built by Kustomize, held to Kubernetes' schemas, and to each other.

use std::path::Path;

use anyhow::{Context as _, bail};
use serde::Deserialize as _;
use serde_json::Value;

use super::tools::{DebianTool, Tool};
use super::{Built, operators, references};
use crate::python;
use crate::shell::{self, text};

const FOLDER: &str = "deploy/kubernetes";
const KUBECTL: DebianTool = DebianTool {
    name: "kubectl",
    version: &["version", "--client"],
    path: "usr/bin/kubectl",
    packages: &["kubernetes-client"],
};
/// The oldest Kubernetes that has all we use, and the newest whose schemas the validator has.
const RELEASES: [&str; 2] = ["1.30.0", "1.37.0"];
/// Resources of operators, which no release of Kubernetes describes.
const OPERATORS: &str = "monitoring.coreos.com/";

/// Builds the base and every overlay and checks what comes out.
pub(crate) fn run(built: &Built) -> anyhow::Result<()> {
    let kubectl = Tool::ready(&KUBECTL)?;
    let programs = python::ready("deploy-venv", "deploy/requirements.txt")?;
    let folder = built.folder("kubernetes")?;
    for name in ["base", "overlays/dev", "overlays/production", "overlays/samosachaat"] {
        let text = build(&kubectl, name)?;
        let resources = documents(&text)?;
        check(&resources, &folder.join(format!("{}.yaml", name.replace('/', "-"))), &programs)
            .and_then(|()| references::check(&resources, &built.settings))
            .with_context(|| name.to_owned())?;
        println!("{name}: {} resources, {} kubectl", resources.len(), kubectl.origin());
    }
    let example =
        documents(&std::fs::read_to_string(shell::root().join(FOLDER).join("secret.example.yaml"))?)?;
    check(&example, &folder.join("secret.example.yaml"), &programs)?;
    let adapter =
        std::fs::read_to_string(shell::root().join(FOLDER).join("autoscaling/adapter-values.yaml"))?;
    let scaled = documents(&build(&kubectl, "autoscaling")?)?;
    references::check_metric(&scaled, &documents(&adapter)?)?;
    println!("all of it valid for Kubernetes {}, references included", RELEASES.join(" and "));
    Ok(())
}

fn build(kubectl: &Tool, name: &str) -> anyhow::Result<String> {
    let path = format!("{FOLDER}/{name}");
    let output = kubectl.command().args(["kustomize", &path]).output()?;
    if !output.status.success() {
        bail!("kubectl kustomize {path}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The documents of a stream of YAML.
pub(crate) fn documents(text: &str) -> anyhow::Result<Vec<Value>> {
    let all = serde_yaml_ng::Deserializer::from_str(text).map(Value::deserialize);
    Ok(all.collect::<Result<_, _>>()?)
}

/// Holds resources to their schemas: Kubernetes' own, strictly, and ours for those of operators.
fn check(resources: &[Value], file: &Path, programs: &Path) -> anyhow::Result<()> {
    let is_foreign = |resource: &&Value| {
        resource["apiVersion"].as_str().is_some_and(|version| version.starts_with(OPERATORS))
    };
    for resource in resources.iter().filter(is_foreign) {
        operators::check(resource)?;
    }
    let own = resources.iter().filter(|resource| !is_foreign(resource));
    // JSON is YAML.
    let text = own.map(Value::to_string).collect::<Vec<_>>().join("\n---\n");
    std::fs::write(file, text)?;
    let validator = programs.join("kubernetes-validate");
    for release in RELEASES {
        let arguments = ["--strict", "--quiet", "-k", release, self::text(file)?];
        let output = shell::command(self::text(&validator)?, &arguments).output()?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            bail!("Kubernetes {release}: {}", String::from_utf8_lossy(&said).trim());
        }
    }
    Ok(())
}
