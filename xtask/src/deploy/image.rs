//! The image's last stage, built by buildah from the Dockerfile itself and run in a changed root, as its user.
//!
//! The build stage wants a base image and the network; what it would hand on is put together by the same script here, from
//! the program that was built. buildah is Debian's; where it cannot be had, nothing of this is tried, and that is said.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::Built;
use crate::http;
use crate::process::{self, Process};
use crate::shell::{self, text};

const DOCKERFILE: &str = "deploy/Dockerfile";
const NAME: &str = "samosa-proof";
const KEY: &str = "a-key-of-the-proof";
/// Where the key's file is mounted.
const KEY_FOLDER: &str = "/run/secrets";
/// The user of the image, who owns its volume and nothing else.
const USER: &str = "65532:65532";
const LIMIT: Duration = Duration::from_secs(20);

/// Builds the stage, looks at it, and runs it.
pub(crate) fn run(built: &Built) -> anyhow::Result<()> {
    let here = || shell::succeeds("buildah", &["--version"]);
    if !here() && (shell::install(&["buildah"], "buildah").is_err() || !here()) {
        println!("not built and not run: buildah is not here, and cannot be installed");
        return Ok(());
    }
    let image = Image::build(built)?;
    check_settings(&image.config, built)?;
    check_files(&image.files)?;
    image.check_no_key()?;
    image.try_out()
}

struct Image {
    /// Where buildah keeps what it makes, and the key.
    folder: PathBuf,
    /// What becomes the root.
    files: PathBuf,
    config: Value,
    container: String,
}

impl Image {
    fn build(built: &Built) -> anyhow::Result<Self> {
        let folder = built.folder("image")?;
        let stage = folder.join("build");
        let files = stage.join("image/root");
        shell::output(
            "sh",
            &["deploy/image/assemble.sh", text(&built.binary)?, text(&stage.join("image"))?],
        )?;
        let whole = fs::read_to_string(shell::root().join(DOCKERFILE))?;
        let last = whole.rfind("\nFROM scratch").context("the last stage is not from scratch")?;
        fs::write(folder.join("Dockerfile"), &whole[last..])?;
        fs::create_dir_all(folder.join("keys"))?;
        fs::write(folder.join("keys/internal_api_key"), KEY)?;
        let mut image = Self { folder, files, config: Value::Null, container: String::new() };
        let (stage, file) = (format!("build={}", text(&stage)?), image.folder.join("Dockerfile"));
        let (file, context) = (text(&file)?, text(&image.folder)?);
        let build = ["build", "--isolation=chroot", "--format=docker", "--build-context", &stage];
        image.buildah(&[&build[..], &["--file", file, "--tag", NAME, context]].concat())?;
        let described = image.buildah(&["inspect", "--type=image", NAME])?;
        image.config = serde_json::from_str::<Value>(&described)?["Docker"]["config"].take();
        let container = image.buildah(&["from", "--pull-never", NAME])?;
        container.trim().clone_into(&mut image.container);
        Ok(image)
    }

    /// buildah, with its storage in our folder.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("buildah");
        let below = |name: &str| self.folder.join(name);
        command
            .arg("--storage-driver=vfs")
            .arg("--root")
            .arg(below("storage"))
            .arg("--runroot")
            .arg(below("run"));
        command.args(arguments);
        command
    }

    /// What it says, if it succeeds.
    fn buildah(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.command(arguments).output()?;
        if !output.status.success() {
            bail!("buildah {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// A program of the image as a command in its root, with the image's environment and these settings.
    fn inside(&self, settings: &[&str], words: &[&str]) -> anyhow::Result<Command> {
        let keys = format!("{}:{KEY_FOLDER}:ro", text(&self.folder.join("keys"))?);
        let mut command = self.command(&["run", "--isolation=chroot", "--cap-drop=all", "--volume", &keys]);
        for setting in settings {
            command.args(["--env", setting]);
        }
        command.args([&self.container, "--"]).args(words);
        Ok(command)
    }

    /// Without a key the image does not serve the world: it ends with 2.
    fn check_no_key(&self) -> anyhow::Result<()> {
        let output = self.inside(&[], &["/samosa"])?.output()?;
        if output.status.code() != Some(2) {
            bail!("without a key it ends with {}", output.status);
        }
        println!("without a key it ends with 2");
        Ok(())
    }

    /// It answers, passes its health check, and ends with 0.
    fn try_out(&self) -> anyhow::Result<()> {
        let address = http::free_address()?;
        let port = format!("PORT={}", address.port());
        let key = format!("INTERNAL_API_KEY_FILE={KEY_FOLDER}/internal_api_key");
        let settings = [&port, &key, "HOST=127.0.0.1", "DEFAULT_MODEL_TAG=samosa-mini"];
        let entry = words(&self.config["Entrypoint"]);
        let [entry] = entry.as_slice() else { bail!("the entry point is {entry:?}") };
        let mut process =
            Process::start(&mut self.inside(&settings, &[entry])?, &self.folder.join("server.log"))?;
        let ready = || http::get(address, "/readyz").is_ok_and(|reply| reply.status == 200);
        let took =
            process::wait("the container to be ready", LIMIT, ready).with_context(|| process.said())?;
        println!("ready after {} ms", took.as_millis());
        let messages = json!([{ "role": "user", "content": "What is samosa chaat?" }]);
        let reply = http::generate(address, KEY, 1, &json!({ "messages": messages, "temperature": 0 }))?;
        println!("it answers: {}", http::whole_answer(&reply.body)?.text);
        self.check_health(&port, 0)?;
        let server = innermost(process.id())?;
        check_confined(&server)?;
        shell::output("kill", &["-TERM", &server])?;
        let status = process.ended(LIMIT)?;
        if !status.success() {
            bail!("it ended with {status} after SIGTERM:\n{}", process.said());
        }
        println!("it ended with 0 after SIGTERM");
        self.check_health(&port, 1)
    }

    /// The health check ends as it should.
    fn check_health(&self, port: &str, expected: i32) -> anyhow::Result<()> {
        let check = words(&self.config["Healthcheck"]["Test"]);
        // The first word is CMD.
        let command: Vec<&str> = check.iter().skip(1).map(String::as_str).collect();
        let code = self.inside(&[port], &command)?.output()?.status.code();
        if command.is_empty() || code != Some(expected) {
            bail!("the health check {check:?} ends with {code:?} instead of {expected}");
        }
        println!("`{}` ends with {expected}", command.join(" "));
        Ok(())
    }
}

/// Settings are known ones and agree, none of them is a secret, and the user is not root.
fn check_settings(config: &Value, built: &Built) -> anyhow::Result<()> {
    let environment = config["Env"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let settings: Vec<(&str, &str)> =
        environment.filter_map(|pair| pair.split_once('=')).filter(|(name, _)| *name != "PATH").collect();
    if let Some((name, _)) = settings.iter().find(|(name, _)| !built.settings.contains(*name)) {
        bail!("{name} is no setting");
    }
    if let Some((name, _)) =
        settings.iter().find(|(name, _)| name.ends_with("KEY") || name.ends_with("TOKEN"))
    {
        bail!("{name} must not be in an image");
    }
    let of = |wanted: &str| settings.iter().find(|(name, _)| *name == wanted).map_or("", |(_, value)| *value);
    let (port, models) = (format!("{}/tcp", of("PORT")), of("MODEL_STORAGE_PATH"));
    if of("HOST") != "0.0.0.0"
        || config["ExposedPorts"].get(&port).is_none()
        || config["Volumes"].get(models).is_none()
    {
        bail!("HOST, EXPOSE and PORT, VOLUME and MODEL_STORAGE_PATH do not agree");
    }
    if config["User"] != USER {
        bail!("the user is {} and not {USER}", config["User"]);
    }
    Ok(())
}

/// All that is there: the program, libraries, and some texts; nothing else that could be run.
fn check_files(root: &Path) -> anyhow::Result<()> {
    let (mut count, mut folders) = (0, vec![root.to_owned()]);
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
            if runs && name != "/samosa" && !name.contains(".so") {
                bail!("{name} can be run: the image is to hold the server and nothing else");
            }
            count += 1;
        }
    }
    println!("{count} files, no shell");
    Ok(())
}

/// The words of a member of the image's configuration.
fn words(member: &Value) -> Vec<String> {
    serde_json::from_value(member.clone()).unwrap_or_default()
}

/// The last of a line of processes that each started the next: the server below buildah's own.
fn innermost(parent: u32) -> anyhow::Result<String> {
    let mut last = parent.to_string();
    while let Ok(children) = shell::output("pgrep", &["-P", &last]) {
        children.lines().next().context("a process without a number")?.clone_into(&mut last);
    }
    Ok(last)
}

/// The kernel agrees: the user is the image's, without any capability.
fn check_confined(process: &str) -> anyhow::Result<()> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let of = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    let (user, capabilities) = (of("Uid:").unwrap_or_default(), of("CapEff:").unwrap_or_default());
    println!("it runs as user {user} with capabilities {capabilities}");
    if !USER.starts_with(user) || !capabilities.trim_matches('0').is_empty() {
        bail!("that is not user {USER} without capabilities");
    }
    Ok(())
}
