//! `GET /models` and `POST /models/swap`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use registry::Tag;
use serde::Serialize;
use serde_json::json;
use serving::{Models, Precondition, RequestedSwap};

use crate::app::App;
use crate::parse;
use crate::problem::{Code, Problem};
use crate::request_body;
use crate::request_ids::RequestIds;

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
pub(crate) async fn list(State(models): State<Arc<Models>>, request: Request) -> Response {
    let ids = RequestIds::of(&request);
    let catalog = models.options().catalog();
    let listed = tokio::task::spawn_blocking(move || catalog.list()).await;
    let entries = match listed {
        Ok(Ok(entries)) => entries,
        Ok(Err(error)) => {
            tracing::error!(error = %error, "the model storage could not be read");
            return Problem::from(&error).response(&ids);
        }
        Err(_) => return Problem::new(Code::Internal, "The models could not be listed.").response(&ids),
    };
    let current_model = models.current_tag();
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
pub(crate) async fn swap(State(app): State<App>, request: Request) -> Response {
    let ids = RequestIds::of(&request);
    answer_swap(&app, request).await.unwrap_or_else(|problem| problem.response(&ids))
}

async fn answer_swap(app: &App, request: Request) -> Result<Response, Problem> {
    let wait = wait(request.headers(), app.options.swap_wait);
    let precondition = precondition(request.headers());
    let body = request_body::read(request, &app.options.limits).await?;
    let name = parse::swap(&body)?;
    // After a handover, requests on open connections are answered, but a swap would end with this process.
    if app.lifecycle.is_ending() {
        let seconds = if app.lifecycle.is_draining() { 30 } else { 1 };
        let detail = "The server is stopping and takes no swap.";
        return Err(Problem::new(Code::Draining, detail).retry_after(seconds));
    }
    let tag = Tag::new(&name).ok_or_else(|| {
        let rule = "a tag has up to 100 letters, digits, dots, underscores and dashes, and begins with a letter or digit";
        Problem::new(Code::ModelNotFound, format!("No model is called that: {rule}.")).at("/model_tag")
    })?;
    let (models, target) = (Arc::clone(&app.models), tag.clone());
    let requested = tokio::task::spawn_blocking(move || models.swap(&target, &precondition)).await;
    let live = json!({ "status": "ok", "current_model": tag.as_str() });
    let mut swap = match requested {
        Ok(requested) => match requested? {
            RequestedSwap::AlreadyLive => return Ok(accepted(live)),
            RequestedSwap::Running(swap) => swap,
        },
        Err(_) => return Err(Problem::new(Code::Internal, "The swap could not be started.")),
    };
    // A server that stops keeps no client waiting.
    let ended = tokio::select! {
        ended = swap.ended() => ended,
        () = tokio::time::sleep(wait) => None,
        () = app.lifecycle.ends() => None,
    };
    match ended {
        Some(ended) => Ok(ended.map(|()| accepted(live))?),
        None => Ok(accepted(json!({
            "status": "swapping",
            "current_model": app.models.current_tag().unwrap_or_default(),
            "target_model": tag.as_str(),
            "swap_id": swap.id,
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
        let (name, value) = preference.trim().split_once('=')?;
        let seconds = name.eq_ignore_ascii_case("wait").then(|| value.trim_matches('"').parse().ok());
        seconds.flatten().map(Duration::from_secs)
    });
    wait.map_or(most, |wait| wait.min(most))
}

/// `If-Match`: the identities of weights that may be replaced. A weak validator never matches.
fn precondition(headers: &HeaderMap) -> Precondition {
    let mut values = headers.get_all("if-match").iter().peekable();
    if values.peek().is_none() {
        return Precondition::None;
    }
    let named: Vec<&str> = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    if named.contains(&"*") {
        return Precondition::AnyModel;
    }
    let quoted = |name: &&str| Some(name.strip_prefix('"')?.strip_suffix('"')?.to_owned());
    Precondition::Identities(named.iter().filter_map(quoted).collect())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_preference_is_known_in_any_case_and_never_longer_than_the_setting() {
        let with = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.append("prefer", HeaderValue::from_static(value));
            wait(&headers, Duration::from_secs(45)).as_secs()
        };
        assert_eq!([with("wait=5"), with("respond-async, Wait=\"6\""), with("wait=99")], [5, 6, 45]);
        assert_eq!([with("wait"), with("wait=soon"), with("waiting=5")], [45, 45, 45]);
    }

    #[test]
    fn if_match_takes_quoted_identities_or_any() {
        let with = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.append("if-match", HeaderValue::from_static(value));
            precondition(&headers)
        };
        let identities =
            |names: &[&str]| Precondition::Identities(names.iter().map(|&name| name.to_owned()).collect());
        assert_eq!(precondition(&HeaderMap::new()), Precondition::None);
        assert_eq!(with("*"), Precondition::AnyModel);
        assert_eq!(with("\"ab\""), identities(&["ab"]));
        assert_eq!(with("\"ab\", W/\"cd\" ,\"ef\""), identities(&["ab", "ef"]));
        assert_eq!(with("ab"), identities(&[]), "what is not quoted matches nothing");
    }
}
