//! The events of an answer to tokens and their times.

use serde_json::Value;

use super::target::Api;
use crate::http::{ExchangeFailure, message, shortened};
use crate::sse::{SseField, SseReader};

/// Token times that room is made for at once.
const MAX_RESERVED: u64 = 1 << 16;

/// Tokens that the server counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct UsageCounts {
    pub(super) prompt: Option<u64>,
    /// Those of the prompt that it had read before.
    pub(super) cached: Option<u64>,
    pub(super) answer: Option<u64>,
}

/// Why a request has no whole answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct RequestFailure {
    /// What it is counted under.
    pub(super) kind: String,
    /// What went wrong, as a clause.
    pub(super) why: String,
}

impl RequestFailure {
    pub(super) fn new(kind: impl Into<String>, why: impl Into<String>) -> Self {
        Self { kind: kind.into(), why: why.into() }
    }

    /// The stream holds what is no event.
    pub(super) fn garbage(found: &str) -> Self {
        Self::new("garbage", format!("the stream holds what is no event: {found}"))
    }

    /// The server said in an event that it failed.
    pub(super) fn error_event(said: &str) -> Self {
        Self::new("error event", format!("the server gave the answer up: {said}"))
    }
}

impl From<ExchangeFailure> for RequestFailure {
    fn from(failure: ExchangeFailure) -> Self {
        let kind = match failure {
            ExchangeFailure::Refused => "connection refused",
            ExchangeFailure::Unreachable(_) => "no connection",
            ExchangeFailure::OutOfSockets(_) => "no socket",
            ExchangeFailure::Untrusted(_) => "no TLS",
            ExchangeFailure::NotHttp => "not HTTP",
            ExchangeFailure::Cut => "cut",
        };
        Self::new(kind, failure.to_string())
    }
}

/// One answer as far as it came.
pub(super) struct MeasuredAnswer {
    api: Api,
    /// When each event with text came, in microseconds of the run.
    pub(super) text_at: Vec<u64>,
    pub(super) usage: UsageCounts,
    /// Why the model stopped, in the server's word.
    pub(super) reason: Option<String>,
    /// The server said that this was all.
    pub(super) ended: bool,
    reader: SseReader,
}

impl MeasuredAnswer {
    pub(super) fn new(api: Api, max_tokens: u64) -> Self {
        Self {
            api,
            text_at: Vec::with_capacity(max_tokens.min(MAX_RESERVED) as usize + 4),
            usage: UsageCounts::default(),
            reason: None,
            ended: false,
            reader: SseReader::default(),
        }
    }

    /// Takes bytes that came at `now`, in microseconds of the run.
    pub(super) fn push(&mut self, bytes: &[u8], now: u64) -> Result<(), RequestFailure> {
        self.reader.push(bytes).map_err(|why| RequestFailure::garbage(&why))?;
        // The reader is set aside while what it gives is read.
        let mut reader = std::mem::take(&mut self.reader);
        while let Some(SseField { name, value }) = reader.next_field() {
            match name {
                b"data" => self.event(value, now)?,
                b"error" => return Err(RequestFailure::error_event(&message(value))),
                b"" | b"event" | b"id" | b"retry" => {}
                name => return Err(RequestFailure::garbage(&shortened(name))),
            }
        }
        self.reader = reader;
        Ok(())
    }

    /// Tokens: the server's count, else the events with text.
    pub(super) fn tokens(&self) -> u64 {
        self.usage.answer.unwrap_or(self.text_at.len() as u64)
    }

    /// Whether the answer is whole. Some servers close after the finish reason without a word more.
    pub(super) fn is_whole(&self) -> bool {
        self.ended || self.api != Api::Generate && self.reason.is_some()
    }

    fn event(&mut self, data: &[u8], now: u64) -> Result<(), RequestFailure> {
        if data == b"[DONE]" {
            self.ended = true;
            return Ok(());
        }
        let event: Value = match serde_json::from_slice(data) {
            Ok(event @ Value::Object(_)) => event,
            _ => return Err(RequestFailure::garbage(&shortened(data))),
        };
        if let Some(error) = event.get("error").filter(|error| !error.is_null()) {
            return Err(RequestFailure::error_event(&message(error.to_string().as_bytes())));
        }
        if let Some(usage) = event.get("usage").filter(|usage| usage.is_object()) {
            let details = &usage["prompt_tokens_details"];
            self.usage = UsageCounts {
                prompt: usage["prompt_tokens"].as_u64(),
                cached: usage["cached_tokens"].as_u64().or_else(|| details["cached_tokens"].as_u64()),
                answer: usage["completion_tokens"].as_u64(),
            };
        }
        let choice = &event["choices"][0];
        let (home, texts) = match self.api {
            Api::Generate => (&event, [&event["token"], &Value::Null]),
            Api::Completions => (choice, [&choice["text"], &Value::Null]),
            Api::Chat => (choice, ["content", "reasoning_content"].map(|name| &choice["delta"][name])),
        };
        if texts.iter().any(|text| text.as_str().is_some_and(|text| !text.is_empty())) {
            self.text_at.push(now);
        }
        if let Some(reason) = home["finish_reason"].as_str() {
            self.reason = Some(reason.to_owned());
        }
        self.ended |= self.api == Api::Generate && event["done"] == true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: &str = concat!(
        ": hello\r\n",
        r#"data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
        "\r\n\r\n",
        r#"data: {"choices": [{"delta": {"content": "a \"content\": \"b\""}, "finish_reason": null}]}"#,
        "\n\n",
        r#"data: {"choices":[{"delta":{"content":"\\"},"finish_reason":null}],"usage":null}"#,
        "\n\n",
        r#"data: {"choices":[{"delta":{},"finish_reason":"length"}]}"#,
        "\n\n",
        r#"data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,"#,
        r#""prompt_tokens_details":{"cached_tokens":4}}}"#,
        "\n\ndata: [DONE]\n\n",
    );

    fn read(api: Api, text: &str, step: usize) -> Result<MeasuredAnswer, RequestFailure> {
        let mut answer = MeasuredAnswer::new(api, 8);
        for (now, piece) in text.as_bytes().chunks(step).enumerate() {
            answer.push(piece, now as u64)?;
        }
        Ok(answer)
    }

    #[test]
    fn a_chat_stream_is_read_however_it_is_cut_into_pieces() {
        for step in [1, 2, 7, 64, CHAT.len()] {
            let answer = read(Api::Chat, CHAT, step).unwrap();
            assert_eq!((answer.text_at.len(), answer.tokens()), (2, 3), "in steps of {step}");
            assert_eq!((answer.reason.as_deref(), answer.ended), (Some("length"), true));
            assert_eq!(answer.usage.prompt.zip(answer.usage.cached), Some((9, 4)));
        }
    }

    #[test]
    fn generate_and_completions_are_read() {
        let text = "data: {\"token\":\"a\",\"gpu\":0}\n\ndata: {\"token\": \"\\\"done\\\": 1\", \"gpu\": 0}\n\n\
                    data: {\"done\":true,\"finish_reason\":\"stop\",\"usage\":{\"prompt_tokens\":5,\"cached_tokens\":0,\
                    \"completion_tokens\":2}}\n\n";
        let answer = read(Api::Generate, text, 5).unwrap();
        assert_eq!((answer.text_at.len(), answer.tokens(), answer.is_whole()), (2, 2, true));
        let text = "data: {\"choices\":[{\"text\":\"a\",\"finish_reason\":null}]}\n\n\
                    data: {\"choices\":[{\"text\":\"\",\"finish_reason\":\"stop\"}]}\n\n";
        let answer = read(Api::Completions, text, 50).unwrap();
        assert_eq!((answer.tokens(), answer.is_whole(), answer.ended), (1, true, false));
    }

    #[test]
    fn errors_and_garbage_are_told_apart() {
        let failure = |api, text: &str| read(api, text, 9).err().unwrap();
        let said = failure(Api::Generate, "data: {\"error\":{\"code\":\"x\",\"message\":\"It broke.\"}}\n");
        assert_eq!(said, RequestFailure::error_event("It broke."));
        assert_eq!(failure(Api::Chat, "data: {\"error\":\"no\"}\n"), RequestFailure::error_event("no"));
        for text in ["<html>\n", "data: hello\n", "data: {nonsense}\n"] {
            assert_eq!(failure(Api::Chat, text).kind, "garbage", "{text}");
        }
    }
}
