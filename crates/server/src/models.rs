//! `GET /models` and `POST /models/swap`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State as FromState};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use registry::Tag;
use serde::Serialize;
use serde_json::json;

use crate::context::RequestIds;
use crate::generate::read_json_body;
use crate::parse;
use crate::problem::{Code, Problem};
use crate::state::State;
use crate::swap::{Asked, problem};

/// The contract's ModelInfo: these four fields and no other.
#[derive(Serialize)]
struct ModelInfo {
    model_tag: String,
    source: String,
    path: String,
    loaded: bool,
}

#[derive(Serialize)]
struct ModelList {
    current_model: Option<String>,
    models: Vec<ModelInfo>,
}

/// `GET /models`
pub(crate) async fn list(FromState(state): FromState<Arc<State>>, request: Request) -> Response {
    let ids = RequestIds::of(&request);
    let catalog = state.options.catalog();
    let listed = tokio::task::spawn_blocking(move || catalog.list()).await;
    let entries = match listed {
        Ok(Ok(entries)) => entries,
        Ok(Err(error)) => {
            tracing::error!(error = %error, "the model storage could not be read");
            return problem(&error).response(&ids);
        }
        Err(_) => return Problem::new(Code::Internal, "The models could not be listed.").response(&ids),
    };
    let current_model = state.current_tag();
    let info = |entry: registry::Entry| ModelInfo {
        loaded: current_model.as_deref() == Some(entry.tag.as_str()),
        model_tag: entry.tag.to_string(),
        source: entry.source.to_string(),
        path: entry.path,
    };
    let models = entries.into_iter().map(info).collect();
    Json(ModelList { current_model, models }).into_response()
}

/// `POST /models/swap`
pub(crate) async fn swap(FromState(state): FromState<Arc<State>>, request: Request) -> Response {
    let ids = RequestIds::of(&request);
    answer_swap(&state, request).await.unwrap_or_else(|problem| problem.response(&ids))
}

async fn answer_swap(state: &Arc<State>, request: Request) -> Result<Response, Problem> {
    let wait = wait(request.headers(), state.options.swap_wait);
    let body = read_json_body(request, &state.options.limits).await?;
    let name = parse::swap(&body)?;
    if state.is_draining() {
        return Err(Problem::new(Code::Draining, "The server is stopping and takes no swap.").retry_after(30));
    }
    let tag = Tag::new(&name).ok_or_else(|| {
        let rule = "a tag has up to 100 letters, digits, dots, underscores and dashes, and begins with a letter or digit";
        Problem::new(Code::ModelNotFound, format!("No model is called that: {rule}.")).at("/model_tag")
    })?;
    let asking = Arc::clone(state);
    let wanted = tag.clone();
    let asked = tokio::task::spawn_blocking(move || asking.ask(&wanted)).await;
    let (swap_id, mut end) = match asked {
        Ok(asked) => match asked? {
            Asked::AlreadyLive => {
                return Ok(accepted(json!({ "status": "ok", "current_model": tag.as_str() })));
            }
            Asked::Running(id, end) => (id, end),
        },
        Err(_) => return Err(Problem::new(Code::Internal, "The swap could not be started.")),
    };
    // Nobody is kept waiting by a server that stops.
    let ended = tokio::select! {
        ended = end.wait_for(Option::is_some) => ended.map(|ended| ended.clone()).ok().flatten(),
        () = tokio::time::sleep(wait) => None,
        () = state.drains() => None,
    };
    match ended {
        Some(Err(problem)) => Err(problem),
        Some(Ok(())) => Ok(accepted(json!({ "status": "ok", "current_model": tag.as_str() }))),
        None => Ok(accepted(json!({
            "status": "swapping",
            "current_model": state.current_tag().unwrap_or_default(),
            "target_model": tag.as_str(),
            "swap_id": swap_id,
        }))),
    }
}

fn accepted(body: serde_json::Value) -> Response {
    (StatusCode::ACCEPTED, Json(body)).into_response()
}

/// `Prefer: wait=N` in seconds, else the setting; never longer than the setting, which is chosen below the
/// callers' own timeouts.
fn wait(headers: &HeaderMap, most: Duration) -> Duration {
    let preferences = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let wait = preferences.flat_map(|value| value.split([',', ';'])).find_map(|preference| {
        preference.trim().strip_prefix("wait=")?.trim_matches('"').parse().ok().map(Duration::from_secs)
    });
    wait.map_or(most, |wait| wait.min(most))
}
