//! Whom to ask, and what a request looks like in each of the three APIs.

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, Result, bail};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use hyper::{Method, Request, Uri};
use serde_json::{Value, json};

use super::Plan;

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

/// The parts of a URL.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    host: String,
    port: u16,
    /// Path before the endpoint, without a slash at its end.
    base: String,
}

impl Place {
    /// Reads `http://host[:port][/base]`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|_| "not a URL".to_owned())?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(
                    "https is not spoken here: measure behind whatever ends TLS, over http".to_owned()
                );
            }
            _ => return Err("it must begin with http://".to_owned()),
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or("it names no host")?;
        // Brackets belong to the URL, not to the address.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let base = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { host, port: uri.port_u16().unwrap_or(80), base })
    }

    /// The path of an endpoint; a base may end in `/v1` or be the endpoint already.
    fn path(&self, endpoint: &str) -> String {
        let base = self.base.strip_suffix(endpoint).unwrap_or(&self.base);
        let base = if endpoint.starts_with("/v1/") { base.strip_suffix("/v1").unwrap_or(base) } else { base };
        format!("{base}{endpoint}")
    }

    /// Host and port as the Host header has them.
    fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

/// A server's endpoint, ready to be asked.
pub(crate) struct Target {
    pub(crate) api: Api,
    place: Place,
    path: String,
    host: HeaderValue,
    key: Option<(HeaderName, HeaderValue)>,
    model: Option<String>,
}

impl Target {
    pub(crate) fn new(place: &Place, api: Api, key: Option<&str>, model: Option<&str>) -> Result<Self> {
        let header = |key: &str| {
            let (name, value) = match api {
                Api::Generate => (HeaderName::from_static("x-internal-api-key"), key.to_owned()),
                Api::Completions | Api::Chat => (AUTHORIZATION, format!("Bearer {key}")),
            };
            let mut value =
                HeaderValue::try_from(value).context("the key holds characters no header may have")?;
            value.set_sensitive(true);
            anyhow::Ok((name, value))
        };
        Ok(Self {
            api,
            path: place.path(api.endpoint()),
            host: HeaderValue::try_from(place.authority())
                .context("the host's name does not fit a header")?,
            place: place.clone(),
            key: key.map(header).transpose()?,
            model: model.map(str::to_owned),
        })
    }

    /// The endpoint as a person reads it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}{}", self.place.authority(), self.path)
    }

    /// The addresses of its host, looked up once.
    pub(crate) fn resolve(&self) -> Result<Vec<SocketAddr>> {
        let Place { host, port, .. } = &self.place;
        let found = (host.as_str(), *port).to_socket_addrs();
        let addresses: Vec<_> = found.with_context(|| format!("the host {host} is not known"))?.collect();
        if addresses.is_empty() {
            bail!("the host {host} has no address");
        }
        Ok(addresses)
    }

    /// One request for an answer to `prompt`.
    pub(crate) fn request(&self, plan: &Plan, prompt: &str, seed: u64) -> Result<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.path.as_str())
            .header(HOST, self.host.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(CONNECTION, "close");
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
    fn urls_become_endpoints() {
        let path =
            |url: &str, api: Api| Target::new(&Place::parse(url).unwrap(), api, None, None).unwrap().url();
        assert_eq!(path("http://127.0.0.1:8003", Api::Generate), "http://127.0.0.1:8003/generate");
        assert_eq!(path("http://[::1]:80/x/", Api::Generate), "http://[::1]:80/x/generate");
        for base in ["", "/", "/v1", "/v1/", "/v1/completions"] {
            let url = format!("http://host{base}");
            assert_eq!(path(&url, Api::Completions), "http://host:80/v1/completions", "{url}");
        }
        assert!(Place::parse("https://host").unwrap_err().contains("https is not spoken"));
        assert!(Place::parse("host:80").is_err() && Place::parse("/generate").is_err());
    }

    #[test]
    fn long_prompts_are_split_between_words() {
        let prompt = super::super::prompt::prompt((4000, 0), 0, 0);
        let parts = messages(&prompt);
        let texts: Vec<&str> = parts.iter().map(|part| part["content"].as_str().unwrap()).collect();
        assert!(texts.len() > 1 && texts.iter().all(|text| text.len() <= MESSAGE_CHARS));
        assert_eq!(texts.join(" "), prompt);
    }

    #[test]
    fn a_key_that_no_header_can_hold_is_refused() {
        let place = Place::parse("http://host").unwrap();
        assert!(Target::new(&place, Api::Chat, Some("a\nb"), None).is_err());
    }
}
