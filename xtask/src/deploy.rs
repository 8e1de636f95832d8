//! `cargo xtask deploy`: what `deploy/` promises, tried out.
//!
//! Manifests are built and held to Kubernetes' own schemas and to each other; unit and compose files are read by those
//! who know them, where they are there; the image's last stage is put together and run; and two replicas behind a real
//! HAProxy are restarted under callers who keep asking. All traffic stays on loopback, all files below the target
//! directory, and what was started ends with the value that stands for it.

mod balancer;
mod compose;
mod generated;
mod image;
mod kubernetes;
mod operators;
mod references;
mod rollout;
mod sizing;
mod tools;
mod units;

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::shell;

/// What is asked for.
#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Write what is made from others: Prometheus' rules as a resource, the list of dashboards, the table of sizes
    #[arg(long)]
    write: bool,
    /// Do one part only
    #[arg(long)]
    only: Option<Part>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Part {
    /// Kubernetes' manifests
    Kubernetes,
    /// The compose file
    Compose,
    /// systemd's units
    Units,
    /// The image's last stage
    Image,
    /// The rolling restart
    Rollout,
}

type Proof = fn(&Built) -> anyhow::Result<()>;

const PARTS: &[(Part, Proof)] = &[
    (Part::Kubernetes, kubernetes::run),
    (Part::Compose, compose::run),
    (Part::Units, units::run),
    (Part::Image, image::run),
    (Part::Rollout, rollout::run),
];

/// The server that was built, and where its proof may write.
pub(crate) struct Built {
    /// The program.
    binary: PathBuf,
    /// The settings it knows, as environment variables.
    settings: BTreeSet<String>,
    /// A folder of our own below the target directory, empty at first.
    scratch: PathBuf,
}

/// Builds the server, then does every part, or the one that is asked for.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    if options.write {
        return generated::write();
    }
    generated::check()?;
    let built = Built::find()?;
    for (part, run) in PARTS.iter().filter(|(part, _)| options.only.is_none_or(|only| only == *part)) {
        println!("\n--- {part:?}");
        run(&built).with_context(|| format!("{part:?}"))?;
    }
    Ok(())
}

impl Built {
    fn find() -> anyhow::Result<Self> {
        let binary = shell::samosa()?;
        let config = shell::output(shell::text(&binary)?, &["config"])?;
        let settings = config.lines().filter_map(|line| line.split_whitespace().next());
        let settings = settings.map(str::to_owned).collect();
        let scratch = shell::fresh_folder("deploy")?;
        Ok(Self { binary, settings, scratch })
    }

    /// An empty folder for one part.
    fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.scratch.join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }
}
