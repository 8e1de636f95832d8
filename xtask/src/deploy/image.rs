//! The image's last stage, put together as the Dockerfile says and run: by an engine where one answers, else in a changed
//! root of its own, read-only, as its user.

mod engine;
mod jail;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::json;

use super::dockerfile::{self, Image};
use super::tools::text;
use super::{Built, http, process};
use crate::shell;

const DOCKERFILE: &str = "deploy/Dockerfile";
const KEY: &str = "a-key-of-the-proof";
/// Where the key's file is mounted.
const KEY_FOLDER: &str = "/run/secrets";
const KEY_FILE: &str = "/run/secrets/internal_api_key";
/// The model that the image holds: its volume has none when it is new.
const BUILT_IN: &str = "samosa-mini";
const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(20);

/// A container, by whatever way it runs. It is gone when this is.
trait Container {
    /// Which way, for a person.
    fn way(&self) -> String;
    /// Runs a program of the image beside the server; its exit code.
    fn execute(&self, words: &[String]) -> anyhow::Result<i32>;
    /// Sends SIGTERM; the server's exit code.
    fn stop(&mut self) -> anyhow::Result<i32>;
    /// What the server said.
    fn said(&self) -> String;
}

/// What a container is made of.
struct Bundle<'a> {
    image: &'a Image,
    /// The build stage's files.
    build: PathBuf,
    /// The last stage's files.
    root: PathBuf,
    /// What is mounted at [`KEY_FOLDER`].
    keys: PathBuf,
    folder: PathBuf,
    address: SocketAddr,
}

/// Puts the image together, looks at it, and runs it.
pub(crate) fn run(built: &Built) -> anyhow::Result<()> {
    let image = dockerfile::read(&fs::read_to_string(shell::root().join(DOCKERFILE))?)?;
    check_environment(&image, built)?;
    let folder = built.folder("image")?;
    let (build, root) = (folder.join("build"), folder.join("root"));
    assemble(&image, &built.binary, &build)?;
    for copy in &image.copies {
        let to = root.join(copy.to.trim_start_matches('/'));
        fs::create_dir_all(&to)?;
        let from = build.join(copy.from.trim_start_matches('/'));
        shell::output("cp", &["-a", &format!("{}/.", text(&from)?), text(&to)?])?;
        if let Some(owner) = copy.owner.as_ref().filter(|_| is_root()) {
            shell::output("chown", &["-R", owner, text(&to)?])?;
        }
    }
    check_files(&image, &root)?;
    let keys = folder.join("keys");
    fs::create_dir_all(&keys)?;
    fs::write(keys.join("internal_api_key"), KEY)?;
    let bundle = Bundle { image: &image, build, root, keys, folder, address: http::free_address()? };
    if let Some(engine) = engine::find() {
        try_out(&bundle, engine.start(&bundle)?)
    } else {
        jail::check_no_key(&bundle)?;
        try_out(&bundle, jail::start(&bundle)?)
    }
}

fn is_root() -> bool {
    shell::output("id", &["-u"]).is_ok_and(|id| id.trim() == "0")
}

/// Settings are known ones, and none of them is a secret.
fn check_environment(image: &Image, built: &Built) -> anyhow::Result<()> {
    let names = image.environment.keys();
    if let Some(name) = names.clone().find(|name| !built.settings.contains(*name)) {
        bail!("{name} is no setting");
    }
    if let Some(name) = names.clone().find(|name| name.ends_with("KEY") || name.ends_with("TOKEN")) {
        bail!("{name} must not be in an image");
    }
    let is = |name: &str, value: &str| image.environment.get(name).is_some_and(|is| is == value);
    if !is("HOST", "0.0.0.0")
        || !is("PORT", &image.port)
        || !image.volumes.iter().any(|v| is("MODEL_STORAGE_PATH", v))
    {
        bail!("HOST, EXPOSE and PORT, VOLUME and MODEL_STORAGE_PATH do not agree");
    }
    Ok(())
}

/// Runs the build stage's script for the program that was built here.
fn assemble(image: &Image, binary: &Path, build: &Path) -> anyhow::Result<()> {
    let [shell, script, _program, out] = image.assemble.as_slice() else {
        bail!("the script takes a program and a folder, not {:?}", image.assemble);
    };
    let out = build.join(out.trim_start_matches('/'));
    shell::output(shell, &[script, text(binary)?, text(&out)?]).map(drop)
}

/// All that is there: the program, libraries, and some texts; nothing else that could be run.
fn check_files(image: &Image, root: &Path) -> anyhow::Result<()> {
    let (mut bytes, mut count) = (0, 0);
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let meta = fs::symlink_metadata(&path)?;
            if meta.is_dir() {
                folders.push(path);
                continue;
            }
            let name = format!("/{}", path.strip_prefix(root)?.display());
            let runs = meta.permissions().mode() & 0o111 != 0;
            if runs && name != image.entrypoint[0] && !name.contains(".so") {
                bail!("{name} can be run: the image is to hold the server and nothing else");
            }
            (bytes, count) = (bytes + meta.len(), count + 1);
        }
    }
    println!("{count} files, {} MB with debug lines, no shell", bytes >> 20);
    Ok(())
}

/// Answers, passes its health check, and ends with 0.
fn try_out(bundle: &Bundle<'_>, mut container: impl Container) -> anyhow::Result<()> {
    let address = bundle.address;
    let ready = || http::get(address, "/readyz").is_ok_and(|reply| reply.status == 200);
    let took = process::wait("the container to be ready", START, ready).with_context(|| container.said())?;
    println!("{}: ready after {} ms", container.way(), took.as_millis());
    let body =
        json!({ "messages": [{ "role": "user", "content": "What is samosa chaat?" }], "temperature": 0 });
    let reply = http::generate(address, KEY, 1, &body)?;
    println!("it answers: {}", http::whole_answer(&reply.body)?.text);
    check_health(bundle, &container, 0)?;
    let code = container.stop()?;
    if code != 0 {
        bail!("it ended with {code} after SIGTERM:\n{}", container.said());
    }
    println!("it ended with 0 after SIGTERM");
    check_health(bundle, &container, 1)
}

/// The health check ends as it should.
fn check_health(bundle: &Bundle<'_>, container: &impl Container, expected: i32) -> anyhow::Result<()> {
    let check = &bundle.image.health_check;
    let code = container.execute(check)?;
    if code != expected {
        bail!("`{}` ends with {code} instead of {expected}", check.join(" "));
    }
    println!("`{}` ends with {code}", check.join(" "));
    Ok(())
}
