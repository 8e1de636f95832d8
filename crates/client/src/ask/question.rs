//! What is asked: messages, and how the answer is sampled.

use clap::{Arg, ArgMatches, value_parser};
use serde_json::{Value, json};

use crate::{MAX_TOKENS, TOP_K};

/// The body of a request.
pub(crate) struct Question {
    /// As the API has them: an array of objects with `role` and `content`.
    pub(crate) messages: Value,
    pub(crate) sampling: SamplingOptions,
}

/// How tokens are drawn. What is absent is the service's to choose.
#[derive(Clone, PartialEq, Default, Debug)]
pub(crate) struct SamplingOptions {
    pub(crate) temperature: Option<f64>,
    pub(crate) top_k: Option<u64>,
    pub(crate) max_tokens: Option<u64>,
    pub(crate) seed: Option<u64>,
}

/// The flags for all of it.
pub(super) fn arguments() -> impl Iterator<Item = Arg> {
    let number = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    [
        number("system", "TEXT", "Instructions before the first message"),
        number("temperature", "0–2", "Randomness; 0 always takes the likeliest token")
            .value_parser(temperature),
        number("top-k", "0–200", "Candidates; 0 keeps all").value_parser(value_parser!(u64).range(TOP_K)),
        number("max-tokens", "1–4096", "Longest answer").value_parser(value_parser!(u64).range(MAX_TOKENS)),
        number("seed", "NUMBER", "The same seed gives the same answer").value_parser(value_parser!(u64)),
    ]
    .into_iter()
}

/// A temperature as a person writes it.
pub(crate) fn temperature(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.0..=2.0).contains(&value) => Ok(value),
        _ => Err("must be a number from 0 to 2".to_owned()),
    }
}

impl SamplingOptions {
    /// Those of the flags.
    pub(crate) fn read(matches: &ArgMatches) -> Self {
        let whole = |name: &str| matches.get_one::<u64>(name).copied();
        Self {
            temperature: matches.get_one::<f64>("temperature").copied(),
            top_k: whole("top-k"),
            max_tokens: whole("max-tokens"),
            seed: whole("seed"),
        }
    }
}

impl Question {
    /// The body of `POST /generate`. The seed goes into a header.
    pub(super) fn body(&self) -> Value {
        let SamplingOptions { temperature, top_k, max_tokens, .. } = self.sampling;
        let mut body = json!({ "messages": self.messages });
        let given = [
            ("temperature", temperature.map(Value::from)),
            ("top_k", top_k.map(Value::from)),
            ("max_tokens", max_tokens.map(Value::from)),
        ];
        for (name, value) in given {
            if let Some(value) = value {
                body[name] = value;
            }
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_given_is_sent() {
        let messages = json!([{ "role": "user", "content": "Hi" }]);
        let question = Question { messages, sampling: SamplingOptions::default() };
        assert_eq!(question.body().to_string(), r#"{"messages":[{"role":"user","content":"Hi"}]}"#);
        let sampling =
            SamplingOptions { temperature: Some(0.5), top_k: Some(3), max_tokens: Some(9), seed: Some(1) };
        let body = Question { sampling, ..question }.body().to_string();
        assert!(body.ends_with(r#""temperature":0.5,"top_k":3,"max_tokens":9}"#), "{body}");
    }

    #[test]
    fn temperatures_have_bounds() {
        assert_eq!((temperature("0"), temperature("2")), (Ok(0.0), Ok(2.0)));
        for wrong in ["-0.1", "2.1", "nan", "inf", "", "warm"] {
            assert!(temperature(wrong).is_err(), "{wrong}");
        }
    }
}
