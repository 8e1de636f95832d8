//! `/health`, `/livez`, `/readyz` and `/stats`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State as FromState};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use crate::context::RequestIds;
use crate::memory;
use crate::problem::{Code, Problem};
use crate::state::{State, Worker};
use crate::swap::{Record, sentence};

/// Every status there is.
pub(crate) const STATUSES: [&str; 5] = ["ok", "loading", "degraded", "stalled", "draining"];

/// How the service is, in one word and a yes or no.
pub(crate) struct Condition {
    /// One of [`STATUSES`].
    pub(crate) status: &'static str,
    pub(crate) ready: bool,
    reason: Option<String>,
}

pub(crate) fn condition(state: &State, workers: &[Worker]) -> Condition {
    let stalled = workers.iter().any(|worker| worker.snapshot.stuck_for > state.options.limits.stalled_after);
    let broken = workers.iter().filter(|worker| !worker.snapshot.healthy).count();
    let (status, ready, reason) = if state.is_ending() {
        ("draining", false, Some("the server is stopping".to_owned()))
    } else if state.gate.is_held() {
        let waiting = state.gate.waiting();
        let reason = format!("the weights are being exchanged one after the other; {waiting} requests wait");
        // They are answered when the new weights are there, or the old ones again.
        ("loading", true, Some(reason))
    } else if workers.is_empty() && state.swapper.is_running() {
        ("loading", false, Some("the first model is being loaded".to_owned()))
    } else if workers.is_empty() {
        let reason = state.swapper.failure().unwrap_or_else(|| "no model is loaded".to_owned());
        ("degraded", false, Some(reason))
    } else if stalled {
        let seconds = state.options.limits.stalled_after.as_secs();
        ("stalled", false, Some(format!("work is waiting and no step has finished for {seconds} s")))
    } else if broken > 0 {
        let reason =
            format!("{broken} of {} engines broke; they are rebuilt, or a swap is needed", workers.len());
        // The others take the requests.
        ("degraded", broken < workers.len(), Some(reason))
    } else {
        ("ok", true, None)
    };
    Condition { status, ready, reason }
}

fn health_fields(state: &State, workers: &[Worker]) -> Value {
    let Condition { status, ready, reason } = condition(state, workers);
    let busy = workers.iter().filter(|worker| worker.busy()).count();
    let list: Vec<Value> = workers
        .iter()
        .map(|worker| json!({ "gpu_id": worker.index, "device": "cpu", "model_tag": worker.model_tag }))
        .collect();
    let mut fields = json!({
        "status": status,
        "ready": ready,
        "current_model": state.current_tag(),
        "total_workers": workers.len(),
        "available_workers": workers.len() - busy,
        "busy_workers": busy,
        "draining": state.is_ending(),
        "workers": list,
    });
    if let Some(reason) = reason {
        fields["reason"] = reason.into();
    }
    fields
}

/// `GET /health`: always 200.
pub(crate) async fn health(FromState(state): FromState<Arc<State>>) -> Json<Value> {
    Json(health_fields(&state, &state.workers()))
}

impl State {
    /// What only a restart mends, if anything.
    pub fn defect(&self) -> Option<String> {
        if self.generation().is_some_and(|generation| generation.has_dead_engine()) {
            return Some("An engine broke and could not be rebuilt.".to_owned());
        }
        let limit = self.options.limits.dead_after;
        let serving = self.workers().into_iter().map(|worker| worker.snapshot.stuck_for);
        // While requests wait for the next model, the engines of the last one must come to their end.
        let stuck = serving.chain(self.swapper.retired_stuck_for()).any(|stuck_for| stuck_for > limit);
        stuck.then(|| format!("Work is waiting and no step has finished for {} s.", limit.as_secs()))
    }
}

/// `GET /livez`: whether restarting would help.
pub(crate) async fn livez(
    FromState(state): FromState<Arc<State>>,
    request: Request,
) -> Result<StatusCode, Response> {
    match state.defect() {
        None => Ok(StatusCode::OK),
        Some(detail) => Err(Problem::new(Code::Internal, detail).response(&RequestIds::of(&request))),
    }
}

/// `GET /readyz`: whether requests should come here.
pub(crate) async fn readyz(
    FromState(state): FromState<Arc<State>>,
    request: Request,
) -> Result<StatusCode, Response> {
    let Condition { ready, reason, .. } = condition(&state, &state.workers());
    if ready {
        return Ok(StatusCode::OK);
    }
    let code = if state.is_ending() { Code::Draining } else { Code::NoModel };
    let detail = sentence(&reason.unwrap_or_default());
    Err(Problem::new(code, detail).retry_after(2).response(&RequestIds::of(&request)))
}

/// `GET /stats`
pub(crate) async fn stats(FromState(state): FromState<Arc<State>>) -> Json<Value> {
    let workers = state.workers();
    let sum = |f: fn(&Worker) -> usize| workers.iter().map(f).sum::<usize>();
    let mut fields = health_fields(&state, &workers);
    let (metrics, counts) = (&state.metrics, state.tally.total().counts);
    let percentiles = |values: Option<[f64; 3]>| {
        values.map(|[p50, p95, p99]| json!({ "p50": p50, "p95": p95, "p99": p99 }))
    };
    let generation = state.generation();
    let [head, busy, idle] = state.connections.by_phase();
    let more = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_s": state.started.elapsed().as_secs(),
        "tokens_per_second": {
            "10s": metrics.token_rate.per_second(10),
            "60s": metrics.token_rate.per_second(60),
        },
        "requests": metrics.ends(),
        "streams": state.streams.to_json(state.options.limits.listed_streams),
        "refusals": metrics.refused_by_code(),
        "running": sum(|worker| worker.snapshot.running),
        "queue": {
            "requests": sum(|worker| worker.snapshot.queued) + state.gate.waiting(),
            "tokens": sum(|worker| worker.snapshot.queued_tokens),
        },
        "connections": { "head": head, "busy": busy, "idle": idle },
        "time_to_first_token_ms": percentiles(metrics.first_token.percentiles_ms()),
        "inter_token_ms": percentiles(metrics.inter_token.percentiles_ms()),
        "kv_pages": {
            "used": sum(|worker| worker.snapshot.pages_used),
            "total": sum(|worker| worker.snapshot.pages_total),
        },
        "prefix_cache": {
            "pages": sum(|worker| worker.snapshot.pages_cached),
            "queries": counts.cache_queries,
            "hits": counts.cache_hits,
            "hit_rate": counts.cache_hits as f64 / counts.cache_queries.max(1) as f64,
            "evictions": counts.cache_evictions,
        },
        "speculation": {
            "drafted_tokens": counts.drafted_tokens,
            "accepted_tokens": counts.accepted_tokens,
        },
        "memory_bytes": memory::to_json(&state),
        "memory_available_bytes": registry::memory::available(),
        "model": generation.as_ref().map(|generation| model_fields(generation)),
        "retired_engines": state.swapper.retired().0,
        "swap": swap_fields(&state),
        "isa": state.options.isa.name(),
        "threads": state.options.threads,
        "limits": state.options.limits.to_json(),
        "settings": state.options.settings,
    });
    if let (Value::Object(fields), Value::Object(more)) = (&mut fields, more) {
        fields.extend(more);
    }
    Json(fields)
}

/// The swap that runs, the last that ended or went live, and all that are remembered.
fn swap_fields(state: &State) -> Value {
    let history = state.swapper.history();
    let runs = |record: &&Record| record.runs();
    json!({
        "current": history.iter().find(runs).map(Record::to_json),
        "last": history.iter().find(|record| !record.runs()).map(Record::to_json),
        "history": history.iter().map(Record::to_json).collect::<Vec<_>>(),
    })
}

fn model_fields(generation: &crate::generation::Generation) -> Value {
    let model = &generation.model;
    let config = &model.weights.config;
    json!({
        "model_tag": model.tag.as_str(),
        "source": model.source,
        "sha256": model.identity.as_str(),
        "step": model.step,
        "serving_since_swap": generation.number,
        "architecture": config.architecture,
        "layers": config.n_layer(),
        "width": config.n_embd,
        "vocabulary": config.vocab_size,
        "sequence_len": config.sequence_len,
        "weight_format": model.weights.format.name(),
        "notes": config.notes,
    })
}
