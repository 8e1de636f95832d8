//! Whom to ask, and what a request looks like in each of the three APIs.

use anyhow::Result;
use reqwest::Request;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use serde_json::{Value, json};

use super::LoadPlan;
use crate::api::ApiClient;
use crate::http::{self, ServerConnector, ServerUrl};

/// The most characters of one message of `/generate` are 8,000: longer prompts are split.
const MESSAGE_CHARS: usize = 7500;

/// Short common words: one token each, with the space before them, in nearly every vocabulary. A power of two of them.
const WORDS: [&str; 64] = [
    "the", "and", "you", "that", "was", "for", "are", "with", "his", "they", "one", "have", "this", "from",
    "had", "hot", "but", "some", "what", "there", "we", "can", "out", "other", "were", "all", "your", "when",
    "up", "use", "word", "how", "said", "an", "each", "she", "which", "do", "their", "time", "if", "will",
    "way", "about", "many", "then", "them", "would", "like", "so", "these", "her", "long", "make", "thing",
    "see", "him", "two", "has", "look", "more", "day", "could", "go",
];

/// What a server speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Api {
    Generate,
    Completions,
    Chat,
}

impl Api {
    /// The API of this name on the command line.
    pub(super) fn named(name: &str) -> Self {
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
pub(super) struct Target {
    pub(super) api: Api,
    pub(super) client: ApiClient,
    /// The key, as OpenAI's APIs have it.
    bearer: Option<HeaderValue>,
    model: Option<String>,
}

impl Target {
    pub(super) fn new(
        url: ServerUrl,
        connector: ServerConnector,
        api: Api,
        key: Option<String>,
        model: Option<&str>,
    ) -> Result<Self> {
        let (key, bearer) = if api == Api::Generate { (key, None) } else { (None, key) };
        let model = model.map(str::to_owned);
        let bearer = bearer.map(|key| http::secret(format!("Bearer {key}"))).transpose()?;
        Ok(Self { api, client: ApiClient::new(url, connector, key)?, bearer, model })
    }

    /// The endpoint as a person reads it.
    pub(super) fn url(&self) -> String {
        self.client.url.shown(self.api.endpoint())
    }

    /// Request number `index` of a run.
    pub(super) fn request(&self, plan: &LoadPlan, index: u64) -> Request {
        let seed = plan.seed + index;
        let body = self.body(plan, &prompt(plan, index), seed);
        let mut request = http::post(self.client.url.endpoint(self.api.endpoint()), &body);
        let headers = request.headers_mut();
        if let Some(bearer) = &self.bearer {
            headers.insert(AUTHORIZATION, bearer.clone());
        }
        if self.api == Api::Generate && plan.temperature > 0.0 {
            headers.insert("x-seed", seed.into());
        }
        request
    }

    fn body(&self, plan: &LoadPlan, prompt: &str, seed: u64) -> Value {
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

/// The prompt of a request: the same for every server. What all prompts begin with depends on the seed alone, the rest on
/// the request too.
fn prompt(plan: &LoadPlan, request: u64) -> String {
    let mut text = String::with_capacity(plan.prompt_words as usize * 6);
    for i in 0..plan.prompt_words {
        let stream = if i < plan.shared_words { plan.seed } else { mix(plan.seed ^ mix(request + 1)) };
        if i > 0 {
            text.push(' ');
        }
        text.push_str(WORDS[(mix(stream ^ mix(i)) % WORDS.len() as u64) as usize]);
    }
    text
}

/// A number that looks like chance: the finaliser of SplitMix64.
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn plan(prompt_words: u64, shared_words: u64, seed: u64) -> LoadPlan {
        LoadPlan {
            streams: 1,
            requests: 2,
            warm_up: 0,
            prompt_words,
            shared_words,
            answer_tokens: 1,
            temperature: 0.0,
            seed,
            timeout: Duration::ZERO,
        }
    }

    #[test]
    fn prompts_share_their_beginning_and_nothing_else() {
        let words = |seed: u64, request: u64| {
            let text = prompt(&plan(50, 20, seed), request);
            text.split(' ').map(str::to_owned).collect::<Vec<_>>()
        };
        let (a, b) = (words(1, 0), words(1, 1));
        assert_eq!((a.len(), b.len()), (50, 50));
        assert_eq!(a[..20], b[..20]);
        assert_ne!(a[20..], b[20..]);
        assert_eq!(words(1, 0), a, "the same every time");
        assert_ne!(words(2, 0), a);
    }

    #[test]
    fn long_prompts_are_split_between_words() {
        let prompt = prompt(&plan(4000, 0, 0), 0);
        let parts = messages(&prompt);
        let texts: Vec<&str> = parts.iter().map(|part| part["content"].as_str().unwrap()).collect();
        assert!(texts.len() > 1 && texts.iter().all(|text| text.len() <= MESSAGE_CHARS));
        assert_eq!(texts.join(" "), prompt);
    }
}
