//! Answers as they come: chunks of choices, then what they took for those who asked, then `[DONE]`.

use engine::FinishReason;
use serde::Serialize;

use super::answer::Telling;
use super::common::Stream;
use super::likely::{ChatLikely, Entry, TextLikely, Waiting};
use super::wire::{IsFirst, Kind, Usage, reason};
use crate::events::{About, Said};
use crate::sse::{Frames, data};

/// Writes chunks.
pub(super) struct Chunks {
    telling: Telling,
    stream: Stream,
    choices: Vec<Choice>,
    usage: Usage,
}

/// An answer that is being told.
struct Choice {
    /// Whether its first chunk was written.
    began: bool,
    waiting: Option<Waiting>,
}

/// A piece of an answer.
struct Piece<'a> {
    index: usize,
    text: &'a str,
    entries: Vec<Entry>,
    end: Option<FinishReason>,
}

impl Chunks {
    pub(super) fn new(telling: Telling, stream: Stream, count: usize) -> Self {
        let choice = || Choice { began: false, waiting: telling.waiting() };
        let choices = std::iter::repeat_with(choice).take(count).collect();
        Self { telling, stream, choices, usage: Usage::default() }
    }

    fn piece(&self, piece: Piece<'_>, out: &mut Vec<u8>) {
        let Piece { index, text, entries, end } = piece;
        let finish_reason = end.map(reason);
        let tokenizer = self.choices[index].waiting.as_ref().map(Waiting::tokenizer);
        let tokenizer = tokenizer.filter(|_| !entries.is_empty());
        match self.telling.head.kind {
            Kind::Chat => {
                let logprobs = tokenizer.map(|tokenizer| ChatLikely::new(&entries, tokenizer));
                let content = (end.is_none() || !text.is_empty() || logprobs.is_some()).then_some(text);
                let delta = Delta { role: None, content };
                self.write(ChatChoice { index, delta, logprobs, finish_reason }, out);
            }
            Kind::Text => {
                let logprobs = tokenizer.map(|tokenizer| TextLikely::new(&entries, tokenizer));
                self.write(TextChoice { index, text, logprobs, finish_reason }, out);
            }
        }
    }

    /// The first chunk of a chat's choice says who speaks.
    fn begin(&mut self, index: usize, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.choices[index].began, true) || self.telling.head.kind == Kind::Text {
            return;
        }
        let delta = Delta { role: Some("assistant"), content: Some("") };
        self.write(ChatChoice { index, delta, logprobs: None, finish_reason: None }, out);
    }

    fn write<C: Serialize>(&self, choice: C, out: &mut Vec<u8>) {
        // With the choices there is no usage yet, which those who asked for it are told.
        let usage = (self.stream == Stream::WithUsage).then_some(None::<Usage>);
        data(out, &self.telling.head.with(self.telling.head.kind.chunk(), &[choice], usage));
    }
}

impl Frames for Chunks {
    fn say(&mut self, about: &About, said: Said, out: &mut Vec<u8>) {
        let index = about.index;
        self.begin(index, out);
        let mut waiting = self.choices[index].waiting.as_mut();
        let (text, entries, end) = match said {
            Said::Token { token, text, logprobs } => {
                let entries = waiting.map(|waiting| waiting.token(token, logprobs, &text));
                (text, entries, None)
            }
            Said::Text(text) => {
                let entries = waiting.map(|waiting| waiting.held(&text));
                (text, entries, None)
            }
            Said::Finished { reason, usage, .. } => {
                self.usage.add(usage, IsFirst::of(index, self.telling.choices));
                let entries = waiting.as_mut().map(|waiting| waiting.finish(reason));
                (String::new(), entries, Some(reason))
            }
            Said::Failed(_) => return,
        };
        let entries = entries.unwrap_or_default();
        if !text.is_empty() || !entries.is_empty() || end.is_some() {
            self.piece(Piece { index, text: &text, entries, end }, out);
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        if self.stream == Stream::WithUsage {
            let head = &self.telling.head;
            data(out, &head.with::<ChatChoice<'_>, _>(head.kind.chunk(), &[], Some(self.usage)));
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }
}

#[derive(Serialize)]
struct ChatChoice<'a> {
    index: usize,
    delta: Delta<'a>,
    logprobs: Option<ChatLikely>,
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
struct TextChoice<'a> {
    index: usize,
    text: &'a str,
    logprobs: Option<TextLikely>,
    finish_reason: Option<&'static str>,
}
