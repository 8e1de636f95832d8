//! `/health`, `/livez`, `/readyz`, `/stats`, `/stats/history` and `/metrics`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use serving::error::sentence;
use serving::models::{MEMORY_KINDS, WorkerState};
use serving::{Models, ServedModel};

use crate::app::App;
use crate::metrics::text::TextFormat;
use crate::problem::{Code, Problem};
use crate::request_ids::RequestIds;
use crate::statistics::history;
use crate::status::Status;
use crate::swap_report;
use crate::telemetry::Telemetry;

fn status(app: &App, workers: &[WorkerState]) -> Status {
    Status::now(&app.models, workers, &app.lifecycle, &app.options.limits)
}

fn health_fields(app: &App, workers: &[WorkerState]) -> Value {
    let Status { word, is_ready, reason } = status(app, workers);
    let busy = workers.iter().filter(|worker| worker.is_busy()).count();
    let list: Vec<Value> = workers
        .iter()
        .map(|worker| json!({ "gpu_id": worker.index, "device": "cpu", "model_tag": worker.model_tag }))
        .collect();
    let mut fields = json!({
        "status": word,
        "ready": is_ready,
        "current_model": app.models.current_tag(),
        "total_workers": workers.len(),
        "available_workers": workers.len() - busy,
        "busy_workers": busy,
        "draining": app.lifecycle.is_ending(),
        "workers": list,
    });
    if let Some(reason) = reason {
        fields["reason"] = reason.into();
    }
    fields
}

/// `GET /health`: always 200.
pub(crate) async fn health(State(app): State<App>) -> Json<Value> {
    Json(health_fields(&app, &app.models.workers()))
}

/// `GET /livez`: whether restarting would help.
pub(crate) async fn livez(State(app): State<App>, request: Request) -> Result<StatusCode, Response> {
    match app.defect() {
        None => Ok(StatusCode::OK),
        Some(detail) => Err(Problem::new(Code::Internal, detail).response(&RequestIds::of(&request))),
    }
}

/// `GET /readyz`: whether requests should come here.
pub(crate) async fn readyz(State(app): State<App>, request: Request) -> Result<StatusCode, Response> {
    let Status { is_ready, reason, .. } = status(&app, &app.models.workers());
    if is_ready {
        return Ok(StatusCode::OK);
    }
    let code = if app.lifecycle.is_ending() { Code::Draining } else { Code::NoModel };
    let detail = sentence(&reason.unwrap_or_default());
    Err(Problem::new(code, detail).retry_after(2).response(&RequestIds::of(&request)))
}

/// `GET /stats`
pub(crate) async fn stats(State(app): State<App>) -> Json<Value> {
    let workers = app.models.workers();
    let sum = |f: fn(&WorkerState) -> usize| workers.iter().map(f).sum::<usize>();
    let mut fields = health_fields(&app, &workers);
    let (metrics, counts) = (&app.telemetry.metrics, app.models.counts().counts);
    let percentiles = |values: Option<[f64; 3]>| {
        values.map(|[p50, p95, p99]| json!({ "p50": p50, "p95": p95, "p99": p99 }))
    };
    let served = app.models.current();
    let [head, busy, idle] = app.lifecycle.connections.by_phase();
    let more = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_s": app.telemetry.started.elapsed().as_secs(),
        "tokens_per_second": {
            "10s": metrics.token_rate.per_second(10),
            "60s": metrics.token_rate.per_second(60),
        },
        "requests": metrics.ends(),
        "streams": app.telemetry.streams.to_json(app.options.limits.listed_streams),
        "refusals": metrics.refused_by_code(),
        "running": sum(|worker| worker.snapshot.running),
        "queue": {
            "requests": sum(|worker| worker.snapshot.queued) + app.models.waiting(),
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
        "memory_bytes": memory_fields(&app.models),
        "memory_available_bytes": registry::memory::available(),
        "model": served.as_ref().map(|served| model_fields(served)),
        "retired_engines": app.models.retired_engines(),
        "swap": swap_fields(&app.models),
        "isa": app.options.models.isa.name(),
        "threads": app.options.models.threads,
        "limits": app.options.limits_to_json(),
        "settings": app.options.settings,
    });
    if let (Value::Object(fields), Value::Object(more)) = (&mut fields, more) {
        fields.extend(more);
    }
    Json(fields)
}

fn memory_fields(models: &Models) -> Value {
    MEMORY_KINDS.into_iter().map(str::to_owned).zip(models.memory_by_kind()).collect()
}

/// The swap that runs, the last that ended or went live, and all that are remembered.
fn swap_fields(models: &Models) -> Value {
    let swaps = models.swaps();
    json!({
        "current": swaps.iter().find(|swap| swap.is_running()).map(swap_report::fields),
        "last": swaps.iter().find(|swap| !swap.is_running()).map(swap_report::fields),
        "history": swaps.iter().map(swap_report::fields).collect::<Vec<_>>(),
    })
}

fn model_fields(served: &ServedModel) -> Value {
    let model = &served.model;
    let config = &model.weights.config;
    json!({
        "model_tag": model.tag.as_str(),
        "source": model.source,
        "sha256": model.identity.as_str(),
        "step": model.step,
        "serving_since_swap": served.version,
        "architecture": config.architecture,
        "layers": config.n_layer(),
        "width": config.n_embd,
        "vocabulary": config.vocab_size,
        "sequence_len": config.sequence_len,
        "weight_format": model.weights.format.name(),
        "notes": config.notes,
    })
}

/// `GET /stats/history`
pub(crate) async fn stats_history(
    State(telemetry): State<Arc<Telemetry>>,
    State(models): State<Arc<Models>>,
    request: Request,
) -> Response {
    let since = history::since(request.uri().query().unwrap_or_default());
    let answer = since.map(|since| Json(telemetry.history.report(since, &models)).into_response());
    answer.unwrap_or_else(|problem| problem.response(&RequestIds::of(&request)))
}

/// `GET /metrics`
pub(crate) async fn metrics(State(app): State<App>, headers: HeaderMap) -> Response {
    let format = TextFormat::wanted(&headers);
    let text = app.telemetry.metrics.render(&app.models, &app.lifecycle, &app.options, format);
    ([(header::CONTENT_TYPE, format.content_type())], text).into_response()
}
