//! Programs of others: those of this machine, else Debian's, unpacked below the target directory. Nothing is installed,
//! so that no package starts a service here.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::shell::{self, text};

/// A program that can be run.
pub(crate) struct Tool {
    program: PathBuf,
    /// Where its own libraries are, if it brought some.
    libraries: Option<PathBuf>,
}

/// What Debian calls it.
pub(crate) struct DebianTool {
    /// The program's name.
    pub(crate) name: &'static str,
    /// What makes it say that it is there.
    pub(crate) version: &'static [&'static str],
    /// Where it lies in its package.
    pub(crate) path: &'static str,
    /// The packages: its own, and libraries that not every system has.
    pub(crate) packages: &'static [&'static str],
}

impl Tool {
    /// Finds the program, or unpacks it.
    pub(crate) fn ready(source: &DebianTool) -> anyhow::Result<Self> {
        if shell::succeeds(source.name, source.version) {
            return Ok(Self { program: source.name.into(), libraries: None });
        }
        let folder = shell::target_dir().join("deploy-tools").join(source.name);
        let program = folder.join(source.path);
        if !program.exists() {
            unpack(source, &folder)?;
        }
        let libraries = std::fs::read_dir(folder.join("usr/lib")).ok().and_then(|entries| {
            let folders = entries.filter_map(|entry| Some(entry.ok()?.path()));
            folders.into_iter().find(|path| path.to_string_lossy().contains("-linux-"))
        });
        let tool = Self { program, libraries };
        let output = tool.command().args(source.version).output()?;
        if !output.status.success() {
            bail!(
                "{} was unpacked and does not start: {}",
                source.name,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(tool)
    }

    /// The program as a command, to be run in the repository's root.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(shell::root());
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command
    }

    /// Where it came from, for a person.
    pub(crate) fn origin(&self) -> &'static str {
        if self.libraries.is_some() || self.program.is_absolute() { "unpacked" } else { "installed" }
    }
}

/// Fetches packages and unpacks them, into a folder that appears when it is complete.
fn unpack(source: &DebianTool, folder: &Path) -> anyhow::Result<()> {
    if !shell::succeeds("apt-get", &["--version"]) {
        bail!("{} is not here, and neither is apt-get: install it", source.name);
    }
    let partial = folder.with_extension("partial");
    if partial.exists() {
        std::fs::remove_dir_all(&partial)?;
    }
    std::fs::create_dir_all(&partial)?;
    let download = || {
        let mut command = Command::new("apt-get");
        command.args(["download", "-qq"]).args(source.packages).current_dir(&partial);
        println!("$ apt-get download {}", source.packages.join(" "));
        Ok::<_, anyhow::Error>(command.output()?.status.success())
    };
    if !download()? {
        // A machine that has never asked knows no packages.
        shell::run("apt-get", &["update", "-qq"])?;
        if !download()? {
            bail!("apt-get knows no package {}", source.packages.join(" or no "));
        }
    }
    for entry in std::fs::read_dir(&partial)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "deb") {
            shell::output("dpkg-deb", &["-x", text(&path)?, text(&partial)?])?;
            std::fs::remove_file(path)?;
        }
    }
    std::fs::rename(&partial, folder).with_context(|| format!("{} cannot be kept", source.name))
}
