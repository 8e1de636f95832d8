//! The engine in this process: a service like a server's, with a key that nobody else knows and without a socket.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::{Result, bail};
use registry::Tag;
use server::{App, Edge, Keys, Options};
use tokio::time::sleep;

use super::Service;
use crate::clock;
use crate::http::{self, Way};
use crate::progress::Progress;
use crate::storage;
use crate::swap::{Record, Server, sentence};

/// How often is looked whether the model is there.
const LOOK: Duration = Duration::from_millis(2);
/// Loads that are over sooner are not worth a word…
const QUICK: Duration = Duration::from_millis(400);
/// …and others are shown this often.
const SHOW: Duration = Duration::from_millis(100);

/// Loads the model, or the default one, and returns once it serves.
pub(super) async fn start(mut options: Options, model: Option<Tag>) -> Result<Service> {
    let models = &mut options.models;
    let first = models.first_tag();
    if let Some(model) = model {
        // The step that is set is that of the default model.
        models.load.step = models.load.step.filter(|_| first.is_ok_and(|first| first == model));
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
    let server = || {
        let way = Way::here(app.clone());
        Ok::<_, anyhow::Error>(Server { way, key: Some(http::secret(key.clone())?) })
    };
    let service = Service { server: server()?, admin: server()?, here: Some(app.clone()) };
    app.models.load_at_start();
    watch(&service, &app).await;
    if app.models.current_tag().is_none() {
        let stats = service.server.stats().await.unwrap_or_default();
        bail!("{}", sentence(stats["reason"].as_str().unwrap_or("the model could not be loaded")));
    }
    Ok(service)
}

/// Shows what is done until the model serves, or does not.
async fn watch(service: &Service, app: &App) {
    let begun = clock::now();
    // Whoever reads this in a file wants the answer alone.
    let is_seen = std::io::stderr().is_terminal();
    let mut progress = if is_seen { Progress::on_stderr() } else { Progress::silent() };
    while app.models.is_loading() && app.models.current_tag().is_none() {
        if !is_seen || begun.elapsed() < QUICK {
            sleep(LOOK).await;
            continue;
        }
        let record = Record(service.server.stats().await.unwrap_or_default()["swap"]["current"].take());
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
