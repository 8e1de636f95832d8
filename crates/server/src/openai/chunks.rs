//! Answers as they come: chunks of choices, then what they took for those who asked, then `[DONE]`.

use engine::FinishReason;
use serde::Serialize;

use super::logprobs::{ChatLogprobs, LogprobEntry, PendingLogprobs, TextLogprobs};
use super::request::StreamUsage;
use super::types::{CompletionKind, ResponseContext, UsageObject, reason};
use crate::events::{AnswerMeta, AnswerOutput};
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

    fn piece(&self, piece: Piece<'_>, out: &mut Vec<u8>) {
        let Piece { index, text, entries, end } = piece;
        let finish_reason = end.map(reason);
        let tokenizer = self.choices[index].logprobs.as_ref().map(PendingLogprobs::tokenizer);
        let tokenizer = tokenizer.filter(|_| !entries.is_empty());
        match self.response.head.kind {
            CompletionKind::Chat => {
                let logprobs = tokenizer.map(|tokenizer| ChatLogprobs::new(&entries, tokenizer));
                let content = (end.is_none() || !text.is_empty() || logprobs.is_some()).then_some(text);
                let delta = Delta { role: None, content };
                self.write(ChatDelta { index, delta, logprobs, finish_reason }, out);
            }
            CompletionKind::Text => {
                let logprobs = tokenizer.map(|tokenizer| TextLogprobs::new(&entries, tokenizer));
                self.write(TextDelta { index, text, logprobs, finish_reason }, out);
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
        self.write(ChatDelta { index, delta, logprobs: None, finish_reason: None }, out);
    }

    fn write<C: Serialize>(&self, choice: C, out: &mut Vec<u8>) {
        // With the choices there is no usage yet, which those who asked for it are told.
        let usage = (self.stream == StreamUsage::Included).then_some(None::<UsageObject>);
        data(out, &self.response.head.with(self.response.head.kind.chunk(), &[choice], usage));
    }
}

impl Frames for Chunks {
    fn say(&mut self, meta: &AnswerMeta, said: AnswerOutput, out: &mut Vec<u8>) {
        let index = meta.index;
        self.begin(index, out);
        let mut pending = self.choices[index].logprobs.as_mut();
        let (text, entries, end) = match said {
            AnswerOutput::Token { token, text, logprobs } => {
                let entries = pending.map(|pending| pending.token(token, logprobs, &text));
                (text, entries, None)
            }
            AnswerOutput::Text(text) => {
                let entries = pending.map(|pending| pending.held(&text));
                (text, entries, None)
            }
            AnswerOutput::Finished { reason, usage, .. } => {
                self.usage.add(usage, index, self.response.choices);
                let entries = pending.as_mut().map(|pending| pending.finish(reason));
                (String::new(), entries, Some(reason))
            }
            AnswerOutput::Failed(_) => return,
        };
        let entries = entries.unwrap_or_default();
        if !text.is_empty() || !entries.is_empty() || end.is_some() {
            self.piece(Piece { index, text: &text, entries, end }, out);
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
