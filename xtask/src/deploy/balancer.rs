//! HAProxy with the configuration that `deploy/haproxy` has, on ports of our own; and nginx, whose configuration is read.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::tools::{DebianTool, Tool};
use crate::http;
use crate::process::{self, Process};
use crate::shell::{self, text};

const CONFIGURATION: &str = "deploy/haproxy/haproxy.cfg";
const NGINX_CONFIGURATION: &str = "deploy/nginx/nginx.conf";
const HAPROXY: DebianTool = DebianTool {
    name: "haproxy",
    version: &["-v"],
    path: "usr/sbin/haproxy",
    packages: &["haproxy", "liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1"],
};
const NGINX: DebianTool =
    DebianTool { name: "nginx", version: &["-v"], path: "usr/sbin/nginx", packages: &["nginx"] };
/// nginx makes these folders in `/var/lib` otherwise, which need not be ours.
const TEMPORARY: [&str; 5] = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
const LIMIT: Duration = Duration::from_secs(10);

/// A running HAProxy.
pub(crate) struct Balancer {
    /// Where callers come.
    pub(crate) front: SocketAddr,
    admin: SocketAddr,
    process: Process,
}

impl Balancer {
    /// Starts it before two replicas and waits until it takes both for well.
    pub(crate) fn start(replicas: [SocketAddr; 2], folder: &Path) -> anyhow::Result<Self> {
        let tool = Tool::ready(&HAPROXY)?;
        let (front, admin) = (http::free_address()?, http::free_address()?);
        let mut command = tool.command();
        command.args(["-db", "-f", CONFIGURATION]).env("SAMOSA_FRONT", front.to_string());
        command.env("SAMOSA_ADMIN", format!("ipv4@{admin}"));
        for (name, address) in ["SAMOSA_ONE", "SAMOSA_TWO"].iter().zip(replicas) {
            command.env(name, address.to_string());
        }
        let process = Process::start(&mut command, &folder.join("haproxy.log"))?;
        let balancer = Self { front, admin, process };
        println!("HAProxy ({}) listens on {front}", tool.origin());
        for server in ["one", "two"] {
            balancer.wait_for(server, "UP").with_context(|| balancer.process.said())?;
        }
        Ok(balancer)
    }

    /// Tells it to send a server nothing new, or to send it requests again.
    pub(crate) fn set(&self, server: &str, state: &str) -> anyhow::Result<()> {
        match self.tell(&format!("set server samosa/{server} state {state}"))?.trim() {
            "" => Ok(()),
            said => bail!("HAProxy says: {said}"),
        }
    }

    /// Waits until it sees a server so.
    pub(crate) fn wait_for(&self, server: &str, status: &str) -> anyhow::Result<Duration> {
        let what = format!("HAProxy to see {server} as {status}");
        process::wait(&what, LIMIT, || self.status(server).is_ok_and(|is| is.starts_with(status)))
    }

    /// A server's status: `UP`, `DRAIN`, `DOWN` and more.
    fn status(&self, server: &str) -> anyhow::Result<String> {
        let table = self.tell("show stat -1 4 -1")?;
        let mut lines =
            table.lines().map(|line| line.trim_start_matches("# ").split(',').collect::<Vec<_>>());
        let names = lines.next().context("an empty table")?;
        let column = names.iter().position(|name| *name == "status").context("no column for the status")?;
        let row = lines.find(|row| row.get(1) == Some(&server)).context("no such server")?;
        Ok((*row.get(column).context("a short row")?).to_owned())
    }

    fn tell(&self, command: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.admin, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        writeln!(stream, "{command}")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

/// nginx reads its configuration and finds no fault.
pub(crate) fn check_nginx(folder: &Path) -> anyhow::Result<()> {
    let tool = Tool::ready(&NGINX)?;
    let place = |name: &&str| format!("    {name}_temp_path {}/{name};", folder.display());
    let places = TEMPORARY.iter().map(place).collect::<Vec<_>>().join("\n");
    let configuration = std::fs::read_to_string(shell::root().join(NGINX_CONFIGURATION))?;
    let ours = configuration.replacen("http {\n", &format!("http {{\n{places}\n"), 1);
    let file = folder.join("nginx.conf");
    std::fs::write(&file, ours)?;
    let pid = format!("pid {}/nginx.pid;", folder.display());
    let output = tool.command().args(["-t", "-p", text(folder)?, "-g", &pid, "-c", text(&file)?]).output()?;
    if !output.status.success() {
        bail!("nginx -t: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    println!("nginx ({}) finds no fault in {NGINX_CONFIGURATION}", tool.origin());
    Ok(())
}
