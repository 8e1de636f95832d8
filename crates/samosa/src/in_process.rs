//! A model in this process for `chat` and `generate`: a service like a server's, with a key that nobody else knows and without
//! a socket.

use std::io::IsTerminal;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Result, bail};
use client::http::{InProcess, ServerConnector, ServerUrl};
use client::progress::Progress;
use client::swap::SwapRecord;
use client::text::sentence;
use client::{ApiClient, ModelService};
use http_body_util::Full;
use hyper::Request;
use hyper::body::{Body, Bytes, Frame};
use hyper::header::{HOST, HeaderValue};
use registry::Tag;
use server::{App, Edge, Keys, Options};
use tokio::time::sleep;

use crate::clock;
use crate::storage;

/// How often is looked whether the model is there.
const LOOK: Duration = Duration::from_millis(2);
/// Loads that are over sooner are not worth a word…
const QUICK: Duration = Duration::from_millis(400);
/// …and others are shown this often.
const SHOW: Duration = Duration::from_millis(100);

/// Loads the model, or the default one, and returns once it serves.
pub(crate) async fn start(mut options: Options, model: Option<Tag>) -> Result<ModelService> {
    let models = &mut options.models;
    let first = models.first_tag();
    if let Some(model) = model {
        // The step that is set is that of the default model.
        models.step = models.step.filter(|_| first.is_ok_and(|first| first == model));
        models.default_tag = Some(model);
    }
    // A chat needs a model, whatever servers wait for.
    models.restore_last_model = false;
    storage::check(&Options { load_at_start: true, ..options.clone() })?;
    let key = format!("{:016x}{:016x}", getrandom::u64()?, getrandom::u64()?);
    options.models.workers = 1;
    // What serves here is nothing to the next start of a server.
    options.models.remember_last_model = false;
    let app = App::new(Options { keys: Keys::parse(&key), edge: Edge::default(), ..options });
    let url = ServerUrl::parse("http://localhost").map_err(anyhow::Error::msg)?;
    let connector = ServerConnector::InProcess(connector(app.clone()));
    let client = ApiClient::new(url, connector, Some(key))?;
    let service = ModelService { admin: client.clone(), client };
    app.models.load_at_start();
    watch(&service, &app).await;
    if app.models.current_tag().is_none() {
        let stats = service.client.stats().await.unwrap_or_default();
        bail!("{}", sentence(stats["reason"].as_str().unwrap_or("the model could not be loaded")));
    }
    Ok(service)
}

/// Asks the service's own routes.
fn connector(app: App) -> Arc<InProcess> {
    Arc::new(move |request| {
        let body = request.body().and_then(reqwest::Body::as_bytes).unwrap_or_default();
        let mut asked = Request::new(Full::new(Bytes::copy_from_slice(body)));
        *asked.method_mut() = request.method().clone();
        *asked.uri_mut() = request.url().path().parse().unwrap_or_default();
        asked.headers_mut().clone_from(request.headers());
        asked.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
        let app = app.clone();
        Box::pin(async move {
            let response = server::answer(app, asked).await;
            response.map(|body| reqwest::Body::wrap(SyncBody(Mutex::new(body)))).into()
        })
    })
}

/// A body that could be shared between threads, as an answer of reqwest's must be. It is read by one alone.
struct SyncBody<B>(Mutex<B>);

impl<B: Body + Unpin> Body for SyncBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let body = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        Pin::new(body).poll_frame(context)
    }
}

/// Shows what is done until the model serves, or does not.
async fn watch(service: &ModelService, app: &App) {
    let begun = clock::now();
    // Whoever reads this in a file wants the answer alone.
    let is_seen = std::io::stderr().is_terminal();
    let mut progress = if is_seen { Progress::on_stderr() } else { Progress::silent() };
    while app.models.is_loading() && app.models.current_tag().is_none() {
        if !is_seen || begun.elapsed() < QUICK {
            sleep(LOOK).await;
            continue;
        }
        let record = SwapRecord(service.client.stats().await.unwrap_or_default()["swap"]["current"].take());
        let phase = record.phase();
        if !phase.is_empty() {
            progress.phase(&phase);
        }
        if let Some(download) = record.download() {
            progress.download(&download);
        }
        sleep(SHOW).await;
    }
}
