//! `cargo xtask clients`: the release binary, asked by the clients that people have for `OpenAI`'s API.
//!
//! The conversations are the scripts in `clients/`. They talk to two servers on the built-in model: one as it comes, and
//! one so slow and with so little room that streams last and its queue is full when a script wants that. Packages lie
//! below the target directory and are fetched once; what runs is let out to loopback only (`clients/sitecustomize.py`,
//! `clients/loopback.mjs`).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::process::{Process, ServerProcess};
use crate::shell::{self, text};
use crate::{isa, node, python};

const KEY: &str = "a-key-of-the-clients";
/// The client of Node.js, and what it runs on.
const NODE_SCRIPT: &str = "openai_node.mjs";
const OLDEST_NODE: (u32, u32) = (18, 0);
/// Until a client has said everything.
const TALK: Duration = Duration::from_mins(2);

/// What the slow server has beside the usual: no vector instructions, one place to run in and one to wait in.
const SLOW: &[(&str, &str)] = &[
    ("ISA", "scalar"),
    ("COMPUTE_THREADS", "1"),
    ("SPECULATION_TOKENS", "0"),
    ("MAX_RUNNING_REQUESTS", "1"),
    ("MAX_QUEUED_REQUESTS", "1"),
];

/// Environments of Python: `litellm` keeps an older major version of the `openai` package than the others.
const ENVIRONMENTS: &[(&str, &str, &[&str])] = &[
    ("clients-venv", "clients/requirements.txt", &["openai_python.py", "langchain_chat.py", "llm_chat.py"]),
    ("litellm-venv", "clients/litellm.txt", &["openai_python.py", "litellm_chat.py"]),
];

/// What keeps the clients from looking for anything but the server.
const QUIET: &[(&str, &str)] = &[
    ("LANGSMITH_TRACING", "false"),
    ("LANGCHAIN_TRACING_V2", "false"),
    ("LITELLM_LOCAL_MODEL_COST_MAP", "True"),
    ("LITELLM_TELEMETRY", "False"),
    ("HF_HUB_OFFLINE", "1"),
    ("DO_NOT_TRACK", "1"),
    ("PYTHONDONTWRITEBYTECODE", "1"),
    ("PYTHONUNBUFFERED", "1"),
];

/// Builds the binary, readies the clients, and lets each say what it has to say.
pub(crate) fn run(isa: &str) -> anyhow::Result<()> {
    isa::announce(isa);
    let talks = Talks::begin(&shell::samosa()?, isa)?;
    for (venv, requirements, scripts) in ENVIRONMENTS {
        let python = python::ready(venv, requirements)?.join("python");
        for script in *scripts {
            talks.hold(
                &format!("{venv}-{script}"),
                Command::new(&python).arg(shell::root().join("clients").join(script)),
            )?;
        }
    }
    let folder = node_folder()?;
    talks.hold(NODE_SCRIPT, Command::new("node").arg(folder.join(NODE_SCRIPT)))
}

/// Readies what the clients are and run on.
pub(crate) fn ready() -> anyhow::Result<()> {
    for (venv, requirements, _) in ENVIRONMENTS {
        python::ready(venv, requirements)?;
    }
    node_folder().map(drop)
}

/// A folder below the target directory with the packages of `clients/package.json` and the scripts that want them beside
/// themselves.
fn node_folder() -> anyhow::Result<PathBuf> {
    node::ready(OLDEST_NODE)?;
    let (ours, folder) = (shell::root().join("clients"), shell::target_dir().join("clients-node"));
    node::packages(&ours, &folder)?;
    for name in [NODE_SCRIPT, "loopback.mjs"] {
        std::fs::copy(ours.join(name), folder.join(name))?;
    }
    Ok(folder.canonicalize()?)
}

/// Two servers, and a folder of our own for what is written meanwhile.
struct Talks {
    scratch: PathBuf,
    quick: ServerProcess,
    slow: ServerProcess,
}

impl Talks {
    fn begin(binary: &Path, isa: &str) -> anyhow::Result<Self> {
        let scratch = shell::fresh_folder("clients")?;
        let models = scratch.join("models");
        std::fs::create_dir(&models)?;
        let start = |name: &str, settings: &[(&str, &str)]| {
            // An empty storage: the built-in model has to be named.
            let common = [
                ("INTERNAL_API_KEY", KEY),
                ("MODEL_STORAGE_PATH", text(&models)?),
                ("DEFAULT_MODEL_TAG", "samosa-mini"),
            ];
            let log = scratch.join(format!("{name}.log"));
            ServerProcess::start(binary, &scratch, &log, &[&common, settings].concat())
        };
        let (quick, slow) = (start("quick", &[(isa::VARIABLE, isa)])?, start("slow", SLOW)?);
        Ok(Self { scratch, quick, slow })
    }

    /// Runs one client to its end, and shows what it said.
    fn hold(&self, name: &str, command: &mut Command) -> anyhow::Result<()> {
        let home = self.scratch.join(name);
        std::fs::create_dir_all(&home)?;
        println!("\n--- {name}");
        command.current_dir(&home).env_clear().env("PATH", path()).envs(QUIET.iter().copied());
        command.env("HOME", &home).env("TMPDIR", &home).env("PYTHONPATH", shell::root().join("clients"));
        command.env("SAMOSA_KEY", KEY).env("SAMOSA_URL", format!("http://{}", self.quick.address));
        command.env("SAMOSA_SLOW_URL", format!("http://{}", self.slow.address));
        let log = home.join("said.txt");
        let ended = Process::start(command, &log)?.ended(TALK);
        print!("{}", std::fs::read_to_string(&log)?);
        match ended.with_context(|| name.to_owned())? {
            status if status.success() => Ok(()),
            status => bail!("{name}: {status}; what the servers said is in {}", self.scratch.display()),
        }
    }
}

/// Where programs are found.
fn path() -> std::ffi::OsString {
    #[expect(clippy::disallowed_methods, reason = "a client is started as this command was")]
    std::env::var_os("PATH").unwrap_or_default()
}
