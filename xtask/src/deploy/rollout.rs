//! The rolling restart: two replicas behind HAProxy go and come back, one after the other, while callers keep asking.
//! Every answer must be whole and have the text that the same request with the same seed had before, alone.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::Built;
use super::balancer::{self, Balancer};
use crate::http::{self, WholeAnswer};
use crate::process::{self, ServerProcess};

const KEY: &str = "a-key-of-the-proof";
/// The built-in model on one thread, in float32, which is slow enough that streams last.
const SETTINGS: &[(&str, &str)] = &[
    ("INTERNAL_API_KEY", KEY),
    ("LOG_FORMAT", "json"),
    ("NANOCHAT_DTYPE", "float32"),
    ("COMPUTE_THREADS", "1"),
];
const CALLERS: usize = 16;
/// Different requests, asked again and again; only those count whose answers have so many tokens that some are sure to
/// be under way when a replica stops. How many are tried until there are enough of them.
const REQUESTS: usize = 12;
const LONG: u64 = 160;
const TRIED: u64 = 200;
/// What a replica is given to answer and to end, with the load of all callers on this machine.
const START: Duration = Duration::from_secs(20);
const DRAIN: Duration = Duration::from_secs(50);
/// What preStop does: the balancer knows, requests that it had sent before arrive, and then comes SIGTERM; earlier if so
/// few streams are left, since the last of them are to meet it.
const PAUSE: Duration = Duration::from_millis(300);
const FEW: u64 = 4;
/// Callers ask undisturbed for so long before, between and after.
const CALM: Duration = Duration::from_secs(1);

/// Restarts both replicas under load, and checks nginx's configuration on the way.
pub(crate) fn run(built: &Built) -> anyhow::Result<()> {
    let folder = built.folder("rollout")?;
    balancer::check_nginx(&folder)?;
    let mut replicas = [Replica::start(built, "one", &folder)?, Replica::start(built, "two", &folder)?];
    let alone = ask_alone(replicas[0].server.address)?;
    let balancer = Balancer::start([replicas[0].server.address, replicas[1].server.address], &folder)?;
    let tally = RolloutTally::default();
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let (tally, alone) = (&tally, &alone);
                let front = balancer.front;
                std::thread::Builder::new()
                    .name(format!("caller {caller}"))
                    .spawn_scoped(scope, move || keep_asking(caller, front, alone, tally))
            })
            .collect::<Result<_, _>>()?;
        let rolled = roll(&mut replicas, &balancer, built, &tally);
        tally.over.store(true, Ordering::Relaxed);
        let outcomes: Vec<_> = callers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        rolled?;
        report(outcomes)
    })
}

/// What callers and the restart tell each other.
#[derive(Default)]
struct RolloutTally {
    over: AtomicBool,
    whole: AtomicU64,
}

/// What became of one caller's requests: failures by what they were.
type Outcome = (u64, BTreeMap<String, u64>);

fn roll(
    replicas: &mut [Replica; 2],
    balancer: &Balancer,
    built: &Built,
    tally: &RolloutTally,
) -> anyhow::Result<()> {
    let whole = || tally.whole.load(Ordering::Relaxed);
    std::thread::sleep(CALM);
    for replica in replicas {
        let name = replica.name;
        let before = whole();
        balancer.set(name, "drain")?;
        balancer.wait_for(name, "DRAIN")?;
        let open = replica.pause()?;
        let begun = process::now();
        replica.server.process.terminate()?;
        let unready =
            || http::get(replica.server.address, "/readyz").map_or(true, |reply| reply.status == 503);
        process::wait("the replica to be not ready", START, unready)?;
        let status = replica.server.process.ended(DRAIN)?;
        let drained = begun.elapsed();
        balancer.wait_for(name, "DOWN")?;
        let noticed = begun.elapsed();
        if !status.success() {
            bail!("replica {name} ended with {status}:\n{}", replica.server.process.said());
        }
        let began_again = process::now();
        replica.restart(built)?;
        let started = began_again.elapsed();
        balancer.set(name, "ready")?;
        balancer.wait_for(name, "UP")?;
        std::thread::sleep(CALM);
        println!(
            "replica {name}: {open} streams open at SIGTERM; they ended and so did it (with 0) after {} ms, seen as down \
             after {} ms, ready {} ms after its start; {} answers meanwhile",
            drained.as_millis(),
            noticed.as_millis(),
            started.as_millis(),
            whole() - before,
        );
        if open == 0 {
            bail!("no stream was open at SIGTERM, so this shows nothing");
        }
        if replica.open_streams()? == 0 {
            bail!("replica {name} is asked nothing after its restart");
        }
    }
    Ok(())
}

fn report(outcomes: Vec<std::thread::Result<Outcome>>) -> anyhow::Result<()> {
    let (mut whole, mut failures) = (0, BTreeMap::new());
    for outcome in outcomes {
        let Ok((answers, failed)) = outcome else { bail!("a caller panicked") };
        whole += answers;
        for (what, count) in failed {
            *failures.entry(what).or_insert(0) += count;
        }
    }
    let failed: u64 = failures.values().sum();
    println!("{CALLERS} callers: {whole} answers whole and equal to those given alone, {failed} failures");
    if !failures.is_empty() {
        bail!("{failures:?}");
    }
    Ok(())
}

/// Requests with long answers, by their seeds, and what they get when nobody else asks.
fn ask_alone(address: SocketAddr) -> anyhow::Result<Vec<(u64, WholeAnswer)>> {
    let mut found = Vec::new();
    for seed in 0..TRIED {
        let answer = ask(address, seed).context("asked alone")?;
        if answer.tokens >= LONG {
            found.push((seed, answer));
        }
        if found.len() == REQUESTS {
            return Ok(found);
        }
    }
    bail!("of {TRIED} answers only {} have {LONG} tokens or more", found.len())
}

fn keep_asking(
    caller: usize,
    front: SocketAddr,
    alone: &[(u64, WholeAnswer)],
    tally: &RolloutTally,
) -> Outcome {
    let mut outcome = Outcome::default();
    for (seed, expected) in alone.iter().cycle().skip(caller) {
        if tally.over.load(Ordering::Relaxed) {
            break;
        }
        match ask(front, *seed) {
            Ok(answer) if answer == *expected => {
                outcome.0 += 1;
                tally.whole.fetch_add(1, Ordering::Relaxed);
            }
            Ok(_) => *outcome.1.entry("another text".to_owned()).or_default() += 1,
            Err(error) => {
                *outcome.1.entry(format!("{error:#}")).or_default() += 1;
                // What fails at once would fail a thousand times.
                std::thread::sleep(PAUSE);
            }
        }
    }
    outcome
}

/// A request of a caller: warm enough that most answers are long.
fn request(seed: u64) -> Value {
    let content = format!("Tell me a long story about {seed} ships and the sea.");
    json!({
        "messages": [{ "role": "user", "content": content }],
        "temperature": 1.6, "top_k": 200, "max_tokens": 400,
    })
}

fn ask(address: SocketAddr, seed: u64) -> anyhow::Result<WholeAnswer> {
    let reply = http::generate(address, KEY, seed, &request(seed))?;
    if reply.status != 200 {
        bail!("status {}", reply.status);
    }
    http::whole_answer(&reply.body)
}

/// One server of the two, on a port that it keeps.
struct Replica {
    name: &'static str,
    log: PathBuf,
    server: ServerProcess,
}

impl Replica {
    fn start(built: &Built, name: &'static str, folder: &Path) -> anyhow::Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let server = ServerProcess::start(&built.binary, folder, &log, SETTINGS)?;
        Ok(Self { name, log, server })
    }

    fn restart(&mut self, built: &Built) -> anyhow::Result<()> {
        let home = self.log.parent().context("a log in no folder")?;
        self.server = ServerProcess::start_at(self.server.address, &built.binary, home, &self.log, SETTINGS)?;
        Ok(())
    }

    /// Lets time pass as preStop does; how many streams are open after it.
    fn pause(&self) -> anyhow::Result<u64> {
        let begun = process::now();
        loop {
            let open = self.open_streams()?;
            if open <= FEW || begun.elapsed() > PAUSE {
                return Ok(open);
            }
        }
    }

    /// Streams that it has not ended yet.
    fn open_streams(&self) -> anyhow::Result<u64> {
        let metrics = http::get(self.server.address, "/metrics")?.body;
        let value = metrics.lines().find_map(|line| line.strip_prefix("active_generations "));
        Ok(value.context("there is no metric active_generations")?.parse()?)
    }
}
