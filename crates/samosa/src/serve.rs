//! `samosa serve`: listen, load, say how to ask, and stop when told to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use server::State;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::options::Serve;

/// Threads that speak HTTP. They only move bytes; the cores belong to the engines.
const HTTP_THREADS: usize = 2;
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
    let Serve { host, port, options, made_up_key } = settings;
    let address = SocketAddr::new(host, port);
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let address = listener.local_addr()?;
    let metrics = match options.metrics_address {
        None => None,
        Some(at) => Some(TcpListener::bind(at).await.with_context(|| format!("cannot listen on {at}"))?),
    };
    let state = State::new(options);
    log_start(&state, address);
    // Figures can be had until the last stream is over.
    let (stopped, _) = watch::channel(false);
    let metrics = metrics.map(|listener| {
        tracing::info!(
            metrics_address = listener.local_addr().ok().map(tracing::field::display),
            "metrics have a listener"
        );
        tokio::spawn(server::serve_metrics(listener, Arc::clone(&state), stopped.subscribe()))
    });
    if state.options.load_at_start {
        state.load_at_start();
    }
    if let Some(key) = made_up_key {
        tokio::spawn(greet(Arc::clone(&state), address, key));
    }
    let (tell, stop) = watch::channel(false);
    let signals = tokio::spawn(stop_on_signals(tell)?);
    server::serve(listener, Arc::clone(&state), stop).await;
    stopped.send_replace(true);
    if let Some(metrics) = metrics {
        // It answers nobody who could still be waiting.
        let _ = metrics.await;
    }
    signals.abort();
    tracing::info!("stopped");
    Ok(())
}

fn log_start(state: &State, address: SocketAddr) {
    let options = &state.options;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        %address,
        isa = options.isa.name(),
        workers = options.workers,
        threads = options.threads,
        kv_cache_mb = options.kv_bytes >> 20,
        limits = options.limits.to_text(),
        "listening"
    );
}

/// Says, once the model is there, how to ask it something.
async fn greet(state: Arc<State>, address: SocketAddr, key: String) {
    while state.options.load_at_start && state.current_tag().is_none() && state.is_loading() {
        tokio::time::sleep(LOAD_POLL).await;
    }
    let model = state.current_tag().unwrap_or_else(|| "no model (see /health)".to_owned());
    eprintln!(
        "\nServing {model} on http://{address} with a key made for this run. Try:\n\n  \
         curl -N http://{address}/generate -H 'X-Internal-API-Key: {key}' \\\n    \
         -H 'Content-Type: application/json' \\\n    \
         -d '{{\"messages\": [{{\"role\": \"user\", \"content\": \"What is samosa chaat?\"}}]}}'\n"
    );
}

/// The first SIGTERM or SIGINT drains, the second ends at once.
fn stop_on_signals(tell: watch::Sender<bool>) -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be watched")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be watched")?;
    Ok(async move {
        let mut once = async || {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        once().await;
        tell.send_replace(true);
        once().await;
        tracing::warn!("stopped at once by a second signal");
        std::process::exit(1);
    })
}
