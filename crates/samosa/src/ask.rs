//! Asking a service for answers, as `chat` and `generate` do: a running server, or the engine in this process.
//!
//! Both take the very same requests: the engine in this process is asked by the service's own routes, without a socket.
//! Reading order: [`Source`] (which service), [`Service`] (what it is asked), [`question`], [`answer`], [`here`].

mod answer;
mod here;
mod question;

use std::fmt;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Arg, ArgMatches};
use registry::Tag;
use server::App;

use crate::edge;
use crate::http::{self, Place};
use crate::options;
use crate::settings::Values;
use crate::swap::{self, Server};

pub(crate) use self::answer::{Answer, Done, Failure};
pub(crate) use self::question::{Question, Sampling, temperature};

/// Threads that move events. The cores belong to the engine, if it is in this process.
const THREADS: usize = 2;

/// Ctrl-C ended it.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// The flags that say who is asked, and how.
pub(crate) fn arguments() -> impl Iterator<Item = Arg> {
    let model = Arg::new("model").long("model").value_name("TAG").value_parser(crate::tag);
    let url = http::url().help("Ask this server, such as http://127.0.0.1:8003, instead of this process");
    let who = [model.help("Model to ask, instead of the default"), url, http::ca_cert()];
    who.into_iter().chain(question::arguments())
}

/// The service that shall be asked.
pub(crate) struct Source {
    model: Option<Tag>,
    asked: Asked,
}

enum Asked {
    /// The same server twice: with the key for everybody, and with the one that may swap.
    Server(Box<[Server; 2]>),
    Here(Box<server::Options>),
}

impl Source {
    /// Reads the arguments; keys, and how models are loaded, come from the settings.
    pub(crate) fn read(values: &Values, matches: &ArgMatches) -> Result<Self> {
        let model = matches.get_one::<Tag>("model").cloned();
        let asked = if matches.get_one::<Place>("url").is_some() {
            let key = edge::client_key(values)?.map(http::secret).transpose()?;
            let admin = edge::admin_client_key(values)?.map(http::secret).transpose()?;
            let server = |key| Ok::<_, anyhow::Error>(Server { way: http::way(matches)?, key });
            Asked::Server(Box::new([server(key)?, server(admin)?]))
        } else {
            Asked::Here(Box::new(options::options(values)?))
        };
        Ok(Self { model, asked })
    }

    /// Finds the server, or loads the model.
    pub(crate) async fn open(self) -> Result<Service> {
        let Self { model, asked } = self;
        match asked {
            Asked::Here(options) => here::start(*options, model).await,
            Asked::Server(servers) => {
                let [server, admin] = *servers;
                let service = Service { server, admin, here: None };
                if let Some(model) = model {
                    service.check_model(&model).await?;
                }
                Ok(service)
            }
        }
    }
}

/// A service that answers.
pub(crate) struct Service {
    pub(crate) server: Server,
    /// The same, with the key that may swap.
    pub(crate) admin: Server,
    here: Option<App>,
}

/// The models of a service.
pub(crate) struct Models {
    /// The tag that serves.
    pub(crate) current: Option<String>,
    /// Tags, and where each comes from.
    pub(crate) all: Vec<(String, String)>,
}

impl Service {
    /// Whether it is in this process.
    pub(crate) fn is_here(&self) -> bool {
        self.here.is_some()
    }

    /// Where it is, as a person reads it.
    pub(crate) fn place(&self) -> String {
        match &self.here {
            Some(_) => "in this process".to_owned(),
            None => format!("at {}", self.server.way.place.url("")),
        }
    }

    /// Asks a question. Dropping the answer stops it.
    pub(crate) async fn ask(&mut self, question: &Question) -> Result<Answer, Failure> {
        let asked = Answer::ask(&self.server, question).await;
        if matches!(asked, Err(Failure::Lost(_))) {
            // It may come back at another address.
            self.server.way.forget();
            self.admin.way.forget();
        }
        asked
    }

    /// The models there are.
    pub(crate) async fn models(&self) -> Result<Models, swap::Failure> {
        let answer = self.server.models().await?;
        let text = |value: &serde_json::Value| http::shortened(value.as_str().unwrap_or_default().as_bytes());
        let models = answer["models"].as_array().into_iter().flatten();
        let all = models.map(|model| (text(&model["model_tag"]), text(&model["source"]))).collect();
        Ok(Models { current: Some(text(&answer["current_model"])).filter(|tag| !tag.is_empty()), all })
    }

    /// A running server has one model for everybody: it is not exchanged for a question.
    async fn check_model(&self, model: &Tag) -> Result<()> {
        let place = self.server.way.place.url("");
        let models = self.models().await.map_err(|failure| anyhow!("{place}: {failure}"))?;
        let serves = models.current.as_deref().unwrap_or("no model");
        if serves == model.as_str() {
            return Ok(());
        }
        bail!(
            "{place}: {serves} serves there, not {model}; `samosa swap {model} --url {place}` changes that for everybody"
        )
    }
}

/// The runtime of a command that asks.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let builder = builder.worker_threads(THREADS).thread_name("ask").enable_all();
    builder.build().context("the runtime could not be started")
}
