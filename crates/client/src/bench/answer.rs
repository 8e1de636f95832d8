//! Bytes of an event stream to tokens and their times.
//!
//! One pass over the bytes of an event tells whether it carries text; only the first event and those that say
//! something besides (the end, the usage, an error) are parsed as JSON.

use serde_json::Value;

use super::exchange::Failure;
use super::target::Api;
use crate::http::{message, shortened};

/// Longest line of a stream: whatever is longer is no event.
const MAX_LINE: usize = 1 << 20;
/// Token times that room is made for at once.
const MAX_RESERVED: u64 = 1 << 16;

/// Tokens that the server counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) prompt: Option<u64>,
    /// Those of the prompt that it had read before.
    pub(crate) cached: Option<u64>,
    pub(crate) answer: Option<u64>,
}

/// One answer as far as it came.
pub(crate) struct Answer {
    api: Api,
    /// When each event with text came, in microseconds of the run.
    pub(crate) text_at: Vec<u64>,
    pub(crate) usage: Usage,
    /// Why the model stopped, in the server's word.
    pub(crate) reason: Option<String>,
    /// The server said that this was all.
    pub(crate) ended: bool,
    seen_first: bool,
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
}

impl Answer {
    pub(crate) fn new(api: Api, max_tokens: u64) -> Self {
        Self {
            api,
            text_at: Vec::with_capacity(max_tokens.min(MAX_RESERVED) as usize + 4),
            usage: Usage::default(),
            reason: None,
            ended: false,
            seen_first: false,
            partial: Vec::new(),
        }
    }

    /// Takes bytes that came at `now`, in microseconds of the run.
    pub(crate) fn push(&mut self, mut bytes: &[u8], now: u64) -> Result<(), Failure> {
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            bytes = &rest[1..];
            if self.partial.is_empty() {
                self.line(line, now)?;
            } else {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(line);
                self.line(&whole, now)?;
                whole.clear();
                self.partial = whole;
            }
        }
        if self.partial.len() + bytes.len() > MAX_LINE {
            return Err(Failure::Garbage(format!("a line longer than {MAX_LINE} bytes")));
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    /// Tokens: the server's count, else the events with text.
    pub(crate) fn tokens(&self) -> u64 {
        self.usage.answer.unwrap_or(self.text_at.len() as u64)
    }

    /// Whether the answer is whole. Some servers close after the finish reason without a word more.
    pub(crate) fn is_whole(&self) -> bool {
        self.ended || self.api != Api::Generate && self.reason.is_some()
    }

    fn line(&mut self, line: &[u8], now: u64) -> Result<(), Failure> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Some(data) = line.strip_prefix(b"data:") {
            return self.event(data.trim_ascii(), now);
        }
        if let Some(said) = line.strip_prefix(b"error:") {
            return Err(Failure::ErrorEvent(message(said)));
        }
        let known: [&[u8]; 4] = [b":", b"event:", b"id:", b"retry:"];
        if line.is_empty() || known.iter().any(|field| line.starts_with(field)) {
            return Ok(());
        }
        Err(Failure::Garbage(shortened(line)))
    }

    fn event(&mut self, data: &[u8], now: u64) -> Result<(), Failure> {
        if data == b"[DONE]" {
            self.ended = true;
            return Ok(());
        }
        if !(data.starts_with(b"{") && data.ends_with(b"}")) {
            return Err(Failure::Garbage(shortened(data)));
        }
        let Glance { has_text, says_more } = Glance::at(self.api, data);
        if has_text {
            self.text_at.push(now);
        }
        if says_more || !std::mem::replace(&mut self.seen_first, true) {
            let event = serde_json::from_slice(data).map_err(|_| Failure::Garbage(shortened(data)))?;
            self.read(&event)?;
        }
        Ok(())
    }

    /// What an event says besides text.
    fn read(&mut self, event: &Value) -> Result<(), Failure> {
        if let Some(error) = event.get("error").filter(|error| !error.is_null()) {
            return Err(Failure::ErrorEvent(message(error.to_string().as_bytes())));
        }
        if let Some(usage) = event.get("usage").filter(|usage| usage.is_object()) {
            let details = &usage["prompt_tokens_details"];
            self.usage = Usage {
                prompt: usage["prompt_tokens"].as_u64(),
                cached: usage["cached_tokens"].as_u64().or_else(|| details["cached_tokens"].as_u64()),
                answer: usage["completion_tokens"].as_u64(),
            };
        }
        let home = if self.api == Api::Generate { event } else { &event["choices"][0] };
        if let Some(reason) = home["finish_reason"].as_str() {
            self.reason = Some(reason.to_owned());
        }
        self.ended |= self.api == Api::Generate && event["done"] == true;
        Ok(())
    }
}

/// What one pass over an event's bytes tells.
#[derive(PartialEq, Eq, Debug)]
struct Glance {
    has_text: bool,
    says_more: bool,
}

impl Glance {
    fn at(api: Api, event: &[u8]) -> Self {
        let mut seen = Self { has_text: false, says_more: false };
        for (name, value) in (Members { rest: event }) {
            let is_text = value.starts_with(b"\"") && !value.starts_with(b"\"\"");
            match (api, name) {
                (Api::Generate, b"token")
                | (Api::Completions, b"text")
                | (Api::Chat, b"content" | b"reasoning_content") => seen.has_text |= is_text,
                (_, b"error") | (Api::Generate, b"done") => seen.says_more |= !value.starts_with(b"null"),
                (_, b"usage") => seen.says_more |= value.starts_with(b"{"),
                (_, b"finish_reason") => seen.says_more |= is_text,
                _ => {}
            }
        }
        seen
    }
}

/// Names of members at any depth, each with the bytes from its value on. Text inside strings is passed over.
struct Members<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let open = self.rest.iter().position(|&byte| byte == b'"')?;
            let text = &self.rest[open + 1..];
            let end = string_end(text)?;
            self.rest = &text[end + 1..];
            if let Some(value) = self.rest.trim_ascii_start().strip_prefix(b":") {
                return Some((&text[..end], value.trim_ascii_start()));
            }
        }
    }
}

/// Where the quote is that ends a string.
fn string_end(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
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

    fn read(api: Api, text: &str, step: usize) -> Result<Answer, Failure> {
        let mut answer = Answer::new(api, 8);
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
        assert_eq!(said, Failure::ErrorEvent("It broke.".to_owned()));
        assert_eq!(failure(Api::Chat, "data: {\"error\":\"no\"}\n"), Failure::ErrorEvent("no".to_owned()));
        for text in ["<html>\n", "data: hello\n", "data: {nonsense}\n"] {
            assert!(matches!(failure(Api::Chat, text), Failure::Garbage(_)), "{text}");
        }
        let long = "x".repeat(MAX_LINE + 1);
        assert!(matches!(read(Api::Chat, &long, long.len()).err(), Some(Failure::Garbage(_))));
    }

    #[test]
    fn an_unfinished_string_is_no_member() {
        for text in ["\"a", "\"a\\", "\"a\\\"", "\"a\"", "{\"a\" 1}"] {
            assert_eq!(Members { rest: text.as_bytes() }.next(), None, "{text}");
        }
    }
}
