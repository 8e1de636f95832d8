//! Answers of a model, as `chat` and `generate` ask for them: of a running server, or of a model in this process. Both get
//! the very same requests.
//!
//! Reading order: [`ServiceSource`] (which service), [`ModelService`] (what it is asked), [`question`], [`answer`].

mod answer;
mod question;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Arg, ArgMatches};
use futures_util::future::LocalBoxFuture;
use serde_json::Value;

use crate::CtrlC;
use crate::api::{ApiClient, QuestionFailure};
use crate::http::{self, ServerUrl};

pub(crate) use self::answer::{AnswerFailure, AnswerStream, Done};
pub(crate) use self::question::{Question, SamplingOptions, temperature};

/// Threads that move events. The cores belong to the engine, if it is in this process.
const THREADS: usize = 2;

/// The flags that say who is asked, and how.
pub(crate) fn arguments() -> impl Iterator<Item = Arg> {
    let model = Arg::new("model").long("model").value_name("TAG").value_parser(crate::tag);
    let url = http::url().help("Ask this server, such as http://127.0.0.1:8003, instead of this process");
    let who = [model.help("Model to ask, instead of the default"), url, http::ca_cert()];
    who.into_iter().chain(question::arguments())
}

/// The service that shall be asked.
pub enum ServiceSource {
    /// A running server. It has one model for all its clients, which is not swapped for a question.
    Server {
        /// The server.
        service: Box<ModelService>,
        /// The model that must serve there.
        model: Option<String>,
    },
    /// A model in this process, once it is loaded.
    InProcess(LocalBoxFuture<'static, Result<ModelService>>),
}

impl ServiceSource {
    /// The server that `--url` names, with the key for answers and the one that may swap; without it the model that `load`
    /// gives for `--model`.
    pub fn read(
        matches: &ArgMatches,
        keys: impl FnOnce() -> Result<(Option<String>, Option<String>)>,
        load: impl FnOnce(Option<String>) -> Result<LocalBoxFuture<'static, Result<ModelService>>>,
    ) -> Result<Self> {
        let model = matches.get_one::<String>("model").cloned();
        if matches.get_one::<ServerUrl>("url").is_none() {
            return load(model).map(Self::InProcess);
        }
        let (key, admin_key) = keys()?;
        let client = ApiClient::of_arguments(matches, key)?;
        let admin = client.with_key(admin_key)?;
        Ok(Self::Server { service: Box::new(ModelService { client, admin }), model })
    }

    /// Finds the server, or loads the model.
    pub(crate) async fn open(self) -> Result<ModelService> {
        match self {
            Self::InProcess(load) => load.await,
            Self::Server { service, model } => {
                if let Some(model) = model {
                    service.check_model(&model).await?;
                }
                Ok(*service)
            }
        }
    }
}

/// A service that answers.
pub struct ModelService {
    /// The service.
    pub client: ApiClient,
    /// The same, with the key that may swap.
    pub admin: ApiClient,
}

/// The models of a service.
pub(crate) struct ServiceModels {
    /// The tag that serves.
    pub(crate) current: Option<String>,
    /// Tags, and where each comes from.
    pub(crate) all: Vec<(String, String)>,
}

impl ModelService {
    /// Where it is, as a phrase.
    pub(crate) fn place(&self) -> String {
        if self.client.is_in_process() {
            return "in this process".to_owned();
        }
        format!("at {}", self.client.url.shown(""))
    }

    /// `http://…: ` before what a server says.
    pub(crate) fn prefix(&self) -> String {
        if self.client.is_in_process() { String::new() } else { format!("{}: ", self.client.url.shown("")) }
    }

    /// Asks a question. Dropping the answer stops it.
    pub(crate) async fn ask(&self, question: &Question) -> Result<AnswerStream, AnswerFailure> {
        AnswerStream::ask(&self.client, question).await
    }

    /// The models there are.
    pub(crate) async fn models(&self) -> Result<ServiceModels, QuestionFailure> {
        let answer = self.client.models().await?;
        let text = |value: &Value| http::shortened(value.as_str().unwrap_or_default().as_bytes());
        let models = answer["models"].as_array().into_iter().flatten();
        let all = models.map(|model| (text(&model["model_tag"]), text(&model["source"]))).collect();
        Ok(ServiceModels { current: Some(text(&answer["current_model"])).filter(|tag| !tag.is_empty()), all })
    }

    async fn check_model(&self, model: &str) -> Result<()> {
        let url = self.client.url.shown("");
        let models = self.models().await.map_err(|failure| anyhow!("{url}: {failure}"))?;
        let serves = models.current.as_deref().unwrap_or("no model");
        if serves == model {
            return Ok(());
        }
        bail!(
            "{url} serves {serves}, not {model}; `samosa swap {model} --url {url}` changes the model for all of its clients"
        )
    }
}

/// Does this, unless Ctrl-C comes first.
pub(crate) async fn unless_interrupted<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        done = work => done,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.context("Ctrl-C cannot be watched")?;
            Err(CtrlC.into())
        }
    }
}

/// The runtime of a command that asks.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let builder = builder.worker_threads(THREADS).thread_name("ask").enable_all();
    builder.build().context("the runtime could not be started")
}
