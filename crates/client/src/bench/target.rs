//! Whom to ask, and what a request looks like in each of the three APIs.

use anyhow::{Context, Result};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request};
use serde_json::{Value, json};

use super::Plan;
use crate::http::{self, Way};

/// The most characters of one message of `/generate` are 8,000: longer prompts are split.
const MESSAGE_CHARS: usize = 7500;

/// What a server speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Api {
    Generate,
    Completions,
    Chat,
}

impl Api {
    /// The API of this name on the command line.
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "completions" => Self::Completions,
            "chat" => Self::Chat,
            _ => Self::Generate,
        }
    }

    fn endpoint(self) -> &'static str {
        match self {
            Self::Generate => "/generate",
            Self::Completions => "/v1/completions",
            Self::Chat => "/v1/chat/completions",
        }
    }
}

/// A server's endpoint, ready to be asked.
pub(crate) struct Target {
    pub(crate) api: Api,
    pub(crate) way: Way,
    key: Option<(HeaderName, HeaderValue)>,
    model: Option<String>,
}

impl Target {
    pub(crate) fn new(way: Way, api: Api, key: Option<&str>, model: Option<&str>) -> Result<Self> {
        let header = |key: &str| {
            let (name, value) = match api {
                Api::Generate => (HeaderName::from_static(http::KEY_HEADER), key.to_owned()),
                Api::Completions | Api::Chat => (AUTHORIZATION, format!("Bearer {key}")),
            };
            anyhow::Ok((name, http::secret(value)?))
        };
        Ok(Self { api, way, key: key.map(header).transpose()?, model: model.map(str::to_owned) })
    }

    /// The endpoint as a person reads it.
    pub(crate) fn url(&self) -> String {
        self.way.place.url(self.api.endpoint())
    }

    /// One request for an answer to `prompt`.
    pub(crate) fn request(&self, plan: &Plan, prompt: &str, seed: u64) -> Result<Request<Full<Bytes>>> {
        let mut request = self
            .way
            .place
            .request(self.api.endpoint())?
            .method(Method::POST)
            .header(CONTENT_TYPE, "application/json");
        if let Some((name, value)) = &self.key {
            request = request.header(name, value);
        }
        if self.api == Api::Generate && plan.temperature > 0.0 {
            request = request.header("x-seed", seed);
        }
        let body = self.body(plan, prompt, seed).to_string();
        request.body(Full::new(body.into())).context("the request cannot be written")
    }

    fn body(&self, plan: &Plan, prompt: &str, seed: u64) -> Value {
        let mut body = match self.api {
            Api::Generate => json!({ "messages": messages(prompt) }),
            Api::Completions => json!({ "prompt": prompt }),
            Api::Chat => json!({ "messages": [{ "role": "user", "content": prompt }] }),
        };
        body["max_tokens"] = json!(plan.answer_tokens);
        body["temperature"] = json!(plan.temperature);
        if self.api == Api::Generate {
            return body;
        }
        body["stream"] = json!(true);
        body["stream_options"] = json!({ "include_usage": true });
        if plan.temperature > 0.0 {
            body["seed"] = json!(seed);
        }
        if let Some(model) = &self.model {
            body["model"] = json!(model);
        }
        body
    }
}

/// A prompt in as many user messages as its length needs.
fn messages(prompt: &str) -> Vec<Value> {
    let message = |content: &str| json!({ "role": "user", "content": content });
    let mut messages = Vec::new();
    let mut rest = prompt;
    while rest.len() > MESSAGE_CHARS {
        // Prompts are ASCII with a space after every word.
        let end = rest[..MESSAGE_CHARS].rfind(' ').unwrap_or(MESSAGE_CHARS);
        messages.push(message(&rest[..end]));
        rest = rest[end..].trim_start();
    }
    messages.push(message(rest));
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_prompts_are_split_between_words() {
        let prompt = super::super::prompt::prompt((4000, 0), 0, 0);
        let parts = messages(&prompt);
        let texts: Vec<&str> = parts.iter().map(|part| part["content"].as_str().unwrap()).collect();
        assert!(texts.len() > 1 && texts.iter().all(|text| text.len() <= MESSAGE_CHARS));
        assert_eq!(texts.join(" "), prompt);
    }
}
