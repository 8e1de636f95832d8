//! `samosa serve`: listen, load, say how to ask, and stop when told to.

mod handover;
mod otlp;
mod signals;
mod supervisor;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use server::trace::Collector;
use server::{Ending, State};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::logs;
use crate::options::Serve;
use crate::reload;
use crate::storage;
use handover::Predecessor;
use otlp::Otlp;

/// Threads that speak HTTP. They only move bytes; the cores belong to the engines.
const HTTP_THREADS: usize = 2;
/// How often an address that a running process has is asked for.
const METRICS_POLL: Duration = Duration::from_millis(50);
/// Files beside connections: models, logs, listeners, other ends.
pub(crate) const OTHER_FILES: u64 = 256;
/// How often the first load is looked at.
const LOAD_POLL: Duration = Duration::from_millis(10);

pub(crate) fn run(settings: Serve) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(HTTP_THREADS)
        .thread_name("http")
        .enable_all()
        .build()
        .context("the runtime could not be started")?;
    let outcome = runtime.block_on(serve(settings));
    // A load in progress must not keep a stopped server alive.
    runtime.shutdown_background();
    outcome
}

async fn serve(settings: Serve) -> Result<()> {
    let Serve { host, port, mut options, collector, handover, made_up_key, watched } = settings;
    let mut around = JoinSet::new();
    // Before anything else: by default each of them ends the process.
    let hangup = signals::hangup()?;
    around.spawn(signals::ignore()?);
    if handover.is_none() {
        storage::check(&options)?;
    }
    let traces = collector.as_deref().map(Otlp::start).transpose()?.map(Arc::new);
    options.spans = traces.clone().map(|traces| traces as Arc<dyn Collector>);
    let ServerSocket { listener, predecessor, ending } =
        socket(SocketAddr::new(host, port), handover.as_deref()).await?;
    let address = listener.local_addr()?;
    check_address(address, made_up_key.as_deref())?;
    if let Some(model) = predecessor.as_ref().and_then(|predecessor| predecessor.model.clone()) {
        options.default_tag = Some(model);
    }
    if handover.is_some() {
        // The model of the running process, where there is one, is the one to load.
        storage::check(&options)?;
    }
    allow_files(options.limits.connections);
    let state = State::new(options);
    log_start(&state, address);
    // Figures can be had until the last stream is over.
    let (stop_metrics, stopped) = watch::channel(None);
    let metrics = metrics(&state, predecessor.as_ref(), stopped).await?;
    if state.options.load_at_start {
        state.load_at_start();
    }
    if ending == Ending::HandOver {
        // Connections wait in the socket that somebody keeps, until they can be answered.
        loaded(&state).await;
    }
    if let Some(predecessor) = predecessor {
        loaded(&state).await;
        take_over(predecessor, &state).await?;
    }
    if let Some(key) = made_up_key {
        tokio::spawn(greet(Arc::clone(&state), address, key));
    }
    let (tell, stop) = watch::channel(None);
    around.spawn(signals::stop(tell.clone(), ending)?);
    around.spawn(supervise(Arc::clone(&state)));
    around.spawn(reload::follow(watched, hangup));
    if let Some(path) = handover {
        around.spawn(offer(path, listener.as_fd().try_clone_to_owned()?, Arc::clone(&state), tell));
    }
    server::serve(listener, Arc::clone(&state), stop).await;
    stop_metrics.send_replace(Some(Ending::Drain));
    if let Some(metrics) = metrics {
        // It answers nobody who could still be waiting.
        let _ = metrics.await;
    }
    around.abort_all();
    if let Some(traces) = traces {
        // What is still to be sent is sent from another thread, which this one must not block.
        let _ = tokio::task::spawn_blocking(move || traces.end()).await;
    }
    tracing::info!("stopped");
    Ok(())
}

/// Refuses a generated key on an address that other machines reach. HOST is checked before, but a service manager's socket
/// can be on any address.
fn check_address(address: SocketAddr, made_up_key: Option<&str>) -> Result<()> {
    if made_up_key.is_some() && !address.ip().is_loopback() {
        bail!(
            "INTERNAL_API_KEY must be set for the service manager's socket on {address}: without a key only a loopback \
             address is allowed"
        );
    }
    Ok(())
}

/// Offers the listening socket to a new process for as long as this one serves.
async fn offer(path: PathBuf, socket: OwnedFd, state: Arc<State>, tell: watch::Sender<Option<Ending>>) {
    if let Err(error) = handover::offer(&path, &socket, &state, &tell).await {
        tracing::error!(error = format!("{error:#}"), "no successor can take over");
    }
}

/// Takes the place of a running process, unless it serves a model and this one has none.
async fn take_over(predecessor: Predecessor, state: &State) -> Result<()> {
    let serves = predecessor.model.is_some();
    if serves && !state.options.load_at_start {
        bail!("STARTUP_LOAD_ENABLED is false, so nothing would serve any more; the running process goes on");
    }
    if serves && state.current_tag().is_none() {
        bail!("no model could be loaded, so the running process goes on; see the log");
    }
    predecessor.relieve().await?;
    tracing::info!("took over from a running process");
    Ok(())
}

/// Serves the figures where METRICS_ADDR says. A running process that is about to be relieved still listens there.
async fn metrics(
    state: &Arc<State>,
    predecessor: Option<&Predecessor>,
    stop: server::Stop,
) -> Result<Option<JoinHandle<()>>> {
    let Some(at) = state.options.metrics_address else { return Ok(None) };
    let bound = TcpListener::bind(at).await;
    let is_taken = bound.as_ref().is_err_and(|error| error.kind() == ErrorKind::AddrInUse);
    if is_taken && predecessor.is_some() {
        tracing::info!(metrics_address = %at, "metrics get their listener when the running process has gone");
        let (state, end) = (Arc::clone(state), told(stop.clone()));
        return Ok(Some(tokio::spawn(async move {
            tokio::select! {
                listener = freed(at) => server::serve_metrics(listener, state, stop).await,
                // Whoever has the address may keep it for ever.
                () = end => {}
            }
        })));
    }
    let listener = bound.with_context(|| format!("cannot listen on {at}"))?;
    let metrics_address = listener.local_addr()?;
    tracing::info!(%metrics_address, "metrics have a listener");
    Ok(Some(tokio::spawn(server::serve_metrics(listener, Arc::clone(state), stop))))
}

/// Returns once the server has to end.
async fn told(mut stop: server::Stop) {
    // A closed channel means the same.
    let _ = stop.wait_for(Option::is_some).await;
}

/// The listener of an address that somebody else still has.
async fn freed(at: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(at).await {
            Ok(listener) => return listener,
            Err(_) => tokio::time::sleep(METRICS_POLL).await,
        }
    }
}

/// Where connections come from.
struct ServerSocket {
    listener: TcpListener,
    /// The process that serves on it now, and its model.
    predecessor: Option<Predecessor>,
    /// How to end when told to: whoever keeps the socket takes the connections that come meanwhile.
    ending: Ending,
}

/// The listening socket: the service manager's, a running process's, or a new one.
async fn socket(address: SocketAddr, handover: Option<&Path>) -> Result<ServerSocket> {
    if let Some(listener) = supervisor::listener()? {
        return Ok(ServerSocket { listener, predecessor: None, ending: Ending::HandOver });
    }
    let inherited = match handover {
        Some(path) => handover::ask(path).await?,
        None => None,
    };
    if let Some((listener, predecessor)) = inherited {
        let theirs = listener.local_addr()?;
        if theirs.ip() != address.ip() || (address.port() != 0 && theirs.port() != address.port()) {
            bail!("the running process listens on {theirs}, but HOST and PORT say {address}");
        }
        return Ok(ServerSocket { listener, predecessor: Some(predecessor), ending: Ending::Drain });
    }
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    Ok(ServerSocket { listener, predecessor: None, ending: Ending::Drain })
}

/// Asks the system for as many open files as there may be connections. Out of files, nothing could be accepted, and so no
/// idle connection would make room for another.
fn allow_files(connections: usize) {
    let wanted = connections as u64 + OTHER_FILES;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // None is as many as one likes.
    if current.is_none_or(|current| current >= wanted) {
        return;
    }
    let allowed = maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(allowed), maximum });
    if raised.is_err() || allowed < wanted {
        let files = getrlimit(Resource::Nofile).current;
        tracing::warn!(
            files,
            connections,
            "the process may open too few files for MAX_CONNECTIONS; see `ulimit -n` or LimitNOFILE"
        );
    }
}

/// Returns once the first load is over, well or not.
async fn loaded(state: &State) {
    while state.options.load_at_start && state.current_tag().is_none() && state.is_loading() {
        tokio::time::sleep(LOAD_POLL).await;
    }
}

/// Tells the service manager when the server answers, and from then on that all is well.
async fn supervise(state: Arc<State>) {
    loaded(&state).await;
    supervisor::ready(&state);
    supervisor::watchdog(&state).await;
}

fn log_start(state: &State, address: SocketAddr) {
    let options = &state.options;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        %address,
        scheme = scheme(state),
        isa = options.isa.name(),
        workers = options.workers,
        threads = options.threads,
        kv_cache_mb = options.kv_bytes >> 20,
        limits = options.limits.to_text(),
        "listening"
    );
}

fn scheme(state: &State) -> &'static str {
    if state.options.edge.tls.is_some() { "https" } else { "http" }
}

/// Says, once the model is there, how to ask it something; or that there is none.
async fn greet(state: Arc<State>, address: SocketAddr, key: String) {
    loaded(&state).await;
    let base = format!("{}://{address}", scheme(&state));
    // What follows a # never leaves the browser.
    let page = if state.options.page { format!("{base}/#key={key}") } else { "(PAGE is off)".to_owned() };
    let said = match state.current_tag() {
        None => format!(
            "No model serves; {base}/health says why. A key was made for this run:\n\n  {page}\n  \
             X-Internal-API-Key: {key}"
        ),
        Some(model) => format!(
            "Serving {model} with a key made for this run. Open\n\n  {page}\n\nor try:\n\n  \
             curl -N {base}/generate -H 'X-Internal-API-Key: {key}' \\\n    \
             -H 'Content-Type: application/json' \\\n    \
             -d '{{\"messages\": [{{\"role\": \"user\", \"content\": \"What is samosa chaat?\"}}]}}'"
        ),
    };
    logs::say(format!("\n{said}\n\n"));
}
