//! `GET /v1/models`: what serves, under its tag and under the names that the settings give it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State as FromState};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::context::RequestIds;
use crate::generation::Generation;
use crate::parse::short;
use crate::problem::{Code, Problem};
use crate::start;
use crate::state::State;

#[derive(Serialize)]
struct Model {
    id: String,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    /// The tag of the weights.
    root: String,
    parent: Option<()>,
    max_model_len: usize,
}

#[derive(Serialize)]
struct List {
    object: &'static str,
    data: Vec<Model>,
}

impl Model {
    /// What serves, under one of its names.
    fn named(id: &str, state: &State, generation: &Generation) -> Self {
        Self {
            id: id.to_owned(),
            object: "model",
            created: state.started_unix,
            owned_by: "samosa",
            root: generation.model.tag.to_string(),
            parent: None,
            max_model_len: generation.sequence_len(),
        }
    }
}

/// `GET /v1/models`. While nothing serves the list is empty.
pub(crate) async fn list(FromState(state): FromState<Arc<State>>) -> Response {
    let mut data = Vec::new();
    if let Some(generation) = state.generation() {
        let aliases = state.options.model_aliases.iter().map(String::as_str);
        let tag = generation.model.tag.as_str();
        let names = std::iter::once(tag).chain(aliases.filter(|alias| *alias != tag));
        data.extend(names.map(|name| Model::named(name, &state, &generation)));
    }
    Json(List { object: "list", data }).into_response()
}

/// `GET /v1/models/{model}`
pub(crate) async fn show(
    FromState(state): FromState<Arc<State>>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let found = state.generation().ok_or_else(|| start::no_model(&state)).and_then(|generation| {
        check(&state, &generation, &name)?;
        Ok(Model::named(&name, &state, &generation))
    });
    match found {
        Ok(model) => Json(model).into_response(),
        Err(problem) => problem.response(&RequestIds::of(&request)),
    }
}

/// Whether a name is one of what serves.
pub(super) fn check(state: &State, generation: &Generation, name: &str) -> Result<(), Problem> {
    let tag = generation.model.tag.as_str();
    if name == tag || state.options.model_aliases.iter().any(|alias| alias == name) {
        return Ok(());
    }
    let detail = format!("The model '{}' does not exist or does not serve now; '{tag}' does.", short(name));
    Err(Problem::new(Code::ModelNotFound, detail).at("/model"))
}
