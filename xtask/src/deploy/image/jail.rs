//! A container without an engine: a mount namespace in which the image is the root, read-only but for its volumes, and a
//! process in it that has the image's user, its environment, no capability and no way to gain one.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::{BUILT_IN, Bundle, Container, KEY_FILE, KEY_FOLDER, STOP, is_root};
use crate::deploy::process::Process;
use crate::deploy::tools::text;

/// What an engine does between the namespace and the program. Arguments: the root, the keys' folder, where that is
/// mounted, `UID:GID` or nothing, the volumes up to `--`, and the command.
const ENTER: &str = r#"
set -eu
root=$1 keys=$2 place=$3 user=$4
shift 4
mount --bind "$root" "$root"
mount -o remount,bind,ro,nosuid,nodev "$root"
mount --rbind /proc "$root/proc"
mount --bind "$keys" "$root$place"
mount -o remount,bind,ro "$root$place"
while [ "$1" != -- ]; do
    mount --bind "$root.volumes$1" "$root$1"
    shift
done
shift
if [ -n "$user" ]; then
    exec setpriv --no-new-privs chroot --groups= --userspec="$user" "$root" "$@"
fi
exec setpriv --no-new-privs chroot "$root" "$@"
"#;

struct Jail<'a> {
    process: Process,
    bundle: &'a Bundle<'a>,
}

/// Starts the server.
pub(super) fn start<'a>(bundle: &'a Bundle<'_>) -> anyhow::Result<impl Container + 'a> {
    prepare(bundle)?;
    let mut command = enter(bundle, &bundle.image.entrypoint)?;
    command.env("INTERNAL_API_KEY_FILE", KEY_FILE).env("DEFAULT_MODEL_TAG", BUILT_IN);
    command.env("HOST", "127.0.0.1").env("PORT", bundle.address.port().to_string());
    let process = Process::start(&mut command, &bundle.folder.join("server.log"))?;
    Ok(Jail { process, bundle })
}

/// Without a key the image does not serve the world: it ends with 2.
pub(super) fn check_no_key(bundle: &Bundle<'_>) -> anyhow::Result<()> {
    prepare(bundle)?;
    let output = enter(bundle, &bundle.image.entrypoint)?.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() != Some(2) || !said.contains("INTERNAL_API_KEY") {
        bail!("without a key it ends with {}, saying: {}", output.status, said.trim());
    }
    println!("without a key it ends with 2");
    Ok(())
}

/// Makes what an engine makes: places for mounts, and volumes that hold what the image holds there.
fn prepare(bundle: &Bundle<'_>) -> anyhow::Result<()> {
    for place in ["/proc", KEY_FOLDER] {
        std::fs::create_dir_all(inside(&bundle.root, place))?;
    }
    for volume in &bundle.image.volumes {
        let kept = inside(&volumes(&bundle.root), volume);
        if !kept.exists() {
            std::fs::create_dir_all(kept.parent().context("a volume at the root")?)?;
            crate::shell::output("cp", &["-a", text(&inside(&bundle.root, volume))?, text(&kept)?])?;
        }
    }
    Ok(())
}

fn inside(root: &Path, place: &str) -> PathBuf {
    root.join(place.trim_start_matches('/'))
}

fn volumes(root: &Path) -> PathBuf {
    let mut name = root.as_os_str().to_owned();
    name.push(".volumes");
    name.into()
}

/// A command in the container, with the image's environment.
fn enter(bundle: &Bundle<'_>, words: &[String]) -> anyhow::Result<Command> {
    let path = "/usr/sbin:/usr/bin:/sbin:/bin";
    let mut command = Command::new("unshare");
    command.env_clear().env("PATH", path).envs(&bundle.image.environment);
    command.arg("--mount").args((!is_root()).then_some("--map-root-user"));
    command.args(["sh", "-c", ENTER, "enter"]);
    command.args([text(&bundle.root)?, text(&bundle.keys)?, KEY_FOLDER]);
    command.arg(if is_root() { bundle.image.user.as_str() } else { "" });
    command.args(&bundle.image.volumes).arg("--").args(words);
    Ok(command)
}

impl Jail<'_> {
    /// What the kernel says of the process.
    fn status(&self, name: &str) -> Option<String> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.split_whitespace().next()?.to_owned())
    }
}

impl Container for Jail<'_> {
    fn way(&self) -> String {
        let say = |name| self.status(name).unwrap_or_default();
        let mounts =
            std::fs::read_to_string(format!("/proc/{}/mountinfo", self.process.id())).unwrap_or_default();
        let root = mounts.lines().find_map(|line| {
            let mut words = line.split(' ').skip(4);
            (words.next() == Some("/")).then(|| words.next()).flatten()
        });
        format!(
            "no engine answers, so chroot (user {}, capabilities {}, no_new_privs {}, root {})",
            say("Uid"),
            say("CapEff"),
            say("NoNewPrivs"),
            root.unwrap_or("unknown"),
        )
    }

    fn execute(&self, words: &[String]) -> anyhow::Result<i32> {
        let mut command = enter(self.bundle, words)?;
        command.env("HOST", "127.0.0.1").env("PORT", self.bundle.address.port().to_string());
        let status = command.env("INTERNAL_API_KEY_FILE", KEY_FILE).output()?.status;
        status.code().context("ended by a signal")
    }

    fn stop(&mut self) -> anyhow::Result<i32> {
        self.process.terminate()?;
        self.process.ended(STOP)?.code().context("ended by a signal")
    }

    fn said(&self) -> String {
        self.process.said()
    }
}
