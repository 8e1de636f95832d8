//! A container by an engine: the last stage built by it, from the files that the build stage would have made, and run
//! with all the locks that deploy/compose.yaml sets.

use std::fs;

use anyhow::Context as _;

use super::{BUILT_IN, Bundle, Container, KEY_FILE, KEY_FOLDER};
use crate::deploy::tools::text;
use crate::shell;

/// An engine that answers.
pub(super) struct Engine(&'static str);

struct Running {
    engine: &'static str,
    name: String,
}

/// The first engine that is there and works.
pub(super) fn find() -> Option<Engine> {
    ["docker", "podman"].into_iter().find(|engine| shell::succeeds(engine, &["info"])).map(Engine)
}

impl Engine {
    /// Builds and starts.
    pub(super) fn start(self, bundle: &Bundle<'_>) -> anyhow::Result<impl Container> {
        let context = &bundle.build;
        // The build stage is this folder.
        let lines: Vec<String> =
            bundle.image.instructions.iter().map(|line| line.replace("--from=build ", "")).collect();
        fs::write(context.join("Dockerfile"), lines.join("\n"))?;
        let name = format!("samosa-proof-{}", std::process::id());
        shell::output(self.0, &["build", "--quiet", "--tag", &name, text(context)?])?;
        let port = format!("{}:{}", bundle.address, bundle.image.port);
        let keys = format!("{}:{KEY_FOLDER}:ro", text(&bundle.keys)?);
        let key = format!("INTERNAL_API_KEY_FILE={KEY_FILE}");
        let model = format!("DEFAULT_MODEL_TAG={BUILT_IN}");
        let locks = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--memory=4g"];
        let mine = ["--name", &name, "--publish", &port, "--volume", &keys, "--env", &key, "--env", &model];
        let running = Running { engine: self.0, name: name.clone() };
        shell::output(self.0, &[&["run", "--detach"], &locks[..], &mine, &[&name]].concat())?;
        Ok(running)
    }
}

impl Container for Running {
    fn way(&self) -> String {
        format!("{}, from scratch without a pull", self.engine)
    }

    fn execute(&self, words: &[String]) -> anyhow::Result<i32> {
        let mut arguments = vec!["exec", &self.name];
        arguments.extend(words.iter().map(String::as_str));
        shell::command(self.engine, &arguments).output()?.status.code().context("ended by a signal")
    }

    fn stop(&mut self) -> anyhow::Result<i32> {
        shell::output(self.engine, &["stop", "--time", "60", &self.name])?;
        let state = shell::output(self.engine, &["inspect", "--format", "{{.State.ExitCode}}", &self.name])?;
        Ok(state.trim().parse()?)
    }

    fn said(&self) -> String {
        shell::output(self.engine, &["logs", "--tail", "12", &self.name]).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        shell::succeeds(self.engine, &["rm", "--force", "--volumes", &self.name]);
        shell::succeeds(self.engine, &["rmi", "--force", &self.name]);
    }
}
