//! systemd's units: read by `systemd-analyze`, where it is there, with the program that was built in its place.

use anyhow::bail;

use super::Built;
use crate::shell::{self, text};

const FOLDER: &str = "deploy/systemd";
const PROGRAM: &str = "/usr/local/bin/samosa";
/// The worst that `systemd-analyze security` may say of the service, in tenths: it gives from 0 to 100.
const EXPOSURE: &str = "20";

/// Checks the units.
pub(crate) fn run(built: &Built) -> anyhow::Result<()> {
    let folder = built.folder("units")?;
    let mut units = Vec::new();
    for name in ["samosa.service", "samosa.socket"] {
        let unit = std::fs::read_to_string(shell::root().join(FOLDER).join(name))?;
        check_settings(&unit, built)?;
        let path = folder.join(name);
        std::fs::write(&path, unit.replace(PROGRAM, text(&built.binary)?))?;
        units.push(path);
    }
    if !shell::succeeds("systemd-analyze", &["--version"]) {
        println!("not read by systemd-analyze, which is not here");
        return Ok(());
    }
    let [service, socket] = [text(&units[0])?, text(&units[1])?];
    shell::output("systemd-analyze", &["verify", "--man=no", service, socket])?;
    let offline = shell::output("systemd-analyze", &["security", "--help"])?.contains("--offline");
    if !offline {
        println!("verified; how exposed it is, this systemd-analyze cannot tell");
        return Ok(());
    }
    let threshold = format!("--threshold={EXPOSURE}");
    let report =
        shell::output("systemd-analyze", &["security", "--no-pager", "--offline=true", &threshold, service])?;
    println!("verified. {}", report.lines().last().unwrap_or_default().trim_start_matches(['→', ' ']));
    Ok(())
}

fn check_settings(unit: &str, built: &Built) -> anyhow::Result<()> {
    let pairs =
        unit.lines().filter_map(|line| line.strip_prefix("Environment=")).flat_map(str::split_whitespace);
    let mut names = pairs.filter_map(|pair| pair.split_once('=')).map(|(name, _)| name);
    match names.find(|name| !built.settings.contains(*name)) {
        Some(name) => bail!("{name} is no setting"),
        None => Ok(()),
    }
}
