//! `GET /v1/models`: what serves, under its tag and under the names that the settings give it.

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serving::ServedModel;

use crate::app::App;
use crate::fields::short;
use crate::options::Options;
use crate::problem::{Code, Problem};
use crate::request_ids::RequestIds;

#[derive(Serialize)]
struct ModelObject {
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
struct ModelObjects {
    object: &'static str,
    data: Vec<ModelObject>,
}

impl ModelObject {
    /// What serves, under one of its names.
    fn named(id: &str, app: &App, served: &ServedModel) -> Self {
        Self {
            id: id.to_owned(),
            object: "model",
            created: app.telemetry.started_unix,
            owned_by: "samosa",
            root: served.model.tag.to_string(),
            parent: None,
            max_model_len: served.sequence_len(),
        }
    }
}

/// `GET /v1/models`. While nothing serves the list is empty.
pub(crate) async fn list(State(app): State<App>) -> Response {
    let mut data = Vec::new();
    if let Some(served) = app.models.current() {
        let aliases = app.options.model_aliases.iter().map(String::as_str);
        let tag = served.model.tag.as_str();
        let names = std::iter::once(tag).chain(aliases.filter(|alias| *alias != tag));
        data.extend(names.map(|name| ModelObject::named(name, &app, &served)));
    }
    Json(ModelObjects { object: "list", data }).into_response()
}

/// `GET /v1/models/{model}`
pub(crate) async fn show(State(app): State<App>, Path(name): Path<String>, request: Request) -> Response {
    let found = app.models.require().map_err(Problem::from).and_then(|served| {
        check(&app.options, &served, &name)?;
        Ok(ModelObject::named(&name, &app, &served))
    });
    match found {
        Ok(model) => Json(model).into_response(),
        Err(problem) => problem.response(&RequestIds::of(&request)),
    }
}

/// Whether a name is one of what serves.
pub(super) fn check(options: &Options, served: &ServedModel, name: &str) -> Result<(), Problem> {
    let tag = served.model.tag.as_str();
    if name == tag || options.model_aliases.iter().any(|alias| alias == name) {
        return Ok(());
    }
    let detail = format!("The model '{}' does not exist or does not serve now; '{tag}' does.", short(name));
    Err(Problem::new(Code::ModelNotFound, detail).at("/model"))
}
