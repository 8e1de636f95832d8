//! Answers as they come: chunks of choices, then what they took for those who asked, then `[DONE]`.

use engine::{FinishReason, GeneratedToken, Output};
use serde::Serialize;

use super::logprobs::{ChatLogprobs, LogprobEntry, PendingLogprobs, TextLogprobs};
use super::request::StreamUsage;
use super::types::{CompletionKind, ResponseContext, UsageObject, reason};
use crate::events::EventStream;
use crate::respond::Frames;
use crate::sse::data;

/// Writes chunks.
pub(super) struct Chunks {
    response: ResponseContext,
    stream: StreamUsage,
    choices: Vec<OpenChoice>,
    usage: UsageObject,
}

/// An answer that is being told.
struct OpenChoice {
    /// Whether its first chunk was written.
    began: bool,
    logprobs: Option<PendingLogprobs>,
}

/// A piece of an answer.
struct Piece<'a> {
    index: usize,
    text: &'a str,
    entries: Vec<LogprobEntry>,
    end: Option<FinishReason>,
}

impl Chunks {
    pub(super) fn new(response: ResponseContext, stream: StreamUsage, count: usize) -> Self {
        let choice = || OpenChoice { began: false, logprobs: response.logprobs() };
        let choices = std::iter::repeat_with(choice).take(count).collect();
        Self { response, stream, choices, usage: UsageObject::default() }
    }

    /// The log probabilities that an output completes, if they were asked for.
    fn entries(
        &mut self,
        index: usize,
        take: impl FnOnce(&mut PendingLogprobs) -> Vec<LogprobEntry>,
    ) -> Vec<LogprobEntry> {
        self.choices[index].logprobs.as_mut().map(take).unwrap_or_default()
    }

    fn piece(&self, piece: Piece<'_>, out: &mut Vec<u8>) {
        let Piece { index, text, entries, end } = piece;
        if text.is_empty() && entries.is_empty() && end.is_none() {
            return;
        }
        let finish_reason = end.map(reason);
        let tokenizer = self.choices[index].logprobs.as_ref().map(PendingLogprobs::tokenizer);
        let tokenizer = tokenizer.filter(|_| !entries.is_empty());
        match self.response.head.kind {
            CompletionKind::Chat => {
                let logprobs = tokenizer.map(|tokenizer| ChatLogprobs::new(&entries, tokenizer));
                let content = (end.is_none() || !text.is_empty() || logprobs.is_some()).then_some(text);
                let delta = Delta { role: None, content };
                self.chunk(ChatDelta { index, delta, logprobs, finish_reason }, out);
            }
            CompletionKind::Text => {
                let logprobs = tokenizer.map(|tokenizer| TextLogprobs::new(&entries, tokenizer));
                self.chunk(TextDelta { index, text, logprobs, finish_reason }, out);
            }
        }
    }

    /// The first chunk of a chat's choice says who speaks.
    fn begin(&mut self, index: usize, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.choices[index].began, true)
            || self.response.head.kind == CompletionKind::Text
        {
            return;
        }
        let delta = Delta { role: Some("assistant"), content: Some("") };
        self.chunk(ChatDelta { index, delta, logprobs: None, finish_reason: None }, out);
    }

    fn chunk<C: Serialize>(&self, choice: C, out: &mut Vec<u8>) {
        // With the choices there is no usage yet, which those who asked for it are told.
        let usage = (self.stream == StreamUsage::Included).then_some(None::<UsageObject>);
        data(out, &self.response.head.with(self.response.head.kind.chunk(), &[choice], usage));
    }
}

impl Frames for Chunks {
    fn write(&mut self, answer: &EventStream, output: Output, out: &mut Vec<u8>) {
        let index = answer.meta().index;
        self.begin(index, out);
        match output {
            Output::Tokens(tokens) => {
                for GeneratedToken { token, text, logprobs } in tokens {
                    let entries = self.entries(index, |pending| pending.token(token, logprobs, &text));
                    self.piece(Piece { index, text: &text, entries, end: None }, out);
                }
            }
            Output::Text(text) => {
                let entries = self.entries(index, |pending| pending.held(&text));
                self.piece(Piece { index, text: &text, entries, end: None }, out);
            }
            Output::Finished { reason, usage } => {
                self.usage.add(usage, index, self.response.choices);
                let entries = self.entries(index, |pending| pending.finish(reason));
                self.piece(Piece { index, text: "", entries, end: Some(reason) }, out);
            }
            Output::Admitted | Output::Failed(_) => {}
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        if self.stream == StreamUsage::Included {
            let head = &self.response.head;
            data(out, &head.with::<ChatDelta<'_>, _>(head.kind.chunk(), &[], Some(self.usage)));
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }
}

#[derive(Serialize)]
struct ChatDelta<'a> {
    index: usize,
    delta: Delta<'a>,
    logprobs: Option<ChatLogprobs>,
    finish_reason: Option<&'static str>,
}

#[derive(Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
}

#[derive(Serialize)]
struct TextDelta<'a> {
    index: usize,
    text: &'a str,
    logprobs: Option<TextLogprobs>,
    finish_reason: Option<&'static str>,
}
