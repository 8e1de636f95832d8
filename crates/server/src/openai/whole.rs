//! Answers told as a whole.

use engine::{FinishReason, Usage as Took};
use serde::Serialize;

use super::answer::Telling;
use super::likely::{ChatLikely, Entry, TextLikely, Waiting};
use super::wire::{IsFirst, Kind, Usage, reason};
use crate::events::Said;

/// One answer, as far as it was heard.
pub(super) struct Whole {
    text: String,
    entries: Vec<Entry>,
    waiting: Option<Waiting>,
    end: Option<(FinishReason, Took)>,
}

impl Whole {
    pub(super) fn new(telling: &Telling) -> Self {
        Self { text: String::new(), entries: Vec::new(), waiting: telling.waiting(), end: None }
    }

    /// Takes what is said of it.
    pub(super) fn add(&mut self, said: Said) {
        let waiting = self.waiting.as_mut();
        let entries = match said {
            Said::Token { token, text, logprobs } => {
                self.text.push_str(&text);
                waiting.map(|waiting| waiting.token(token, logprobs, &text))
            }
            Said::Text(text) => {
                self.text.push_str(&text);
                waiting.map(|waiting| waiting.held(&text))
            }
            Said::Finished { reason, usage, .. } => {
                self.end = Some((reason, usage));
                waiting.map(|waiting| waiting.finish(reason))
            }
            Said::Failed(_) => None,
        };
        self.entries.extend(entries.unwrap_or_default());
    }
}

/// The answer to a request: all of its choices.
pub(super) fn tell(telling: &Telling, answers: &[Whole]) -> Vec<u8> {
    let mut usage = Usage::default();
    for (index, answer) in answers.iter().enumerate() {
        if let Some((_, took)) = answer.end {
            usage.add(took, IsFirst::of(index, telling.choices));
        }
    }
    let head = &telling.head;
    let answers = answers.iter().enumerate();
    // Texts and numbers can always be written.
    let written = match head.kind {
        Kind::Chat => {
            let choices: Vec<ChatChoice<'_>> = answers.map(ChatChoice::of).collect();
            serde_json::to_vec(&head.with(head.kind.object(), &choices, Some(usage)))
        }
        Kind::Text => {
            let choices: Vec<TextChoice<'_>> = answers.map(TextChoice::of).collect();
            serde_json::to_vec(&head.with(head.kind.object(), &choices, Some(usage)))
        }
    };
    written.unwrap_or_default()
}

#[derive(Serialize)]
struct ChatChoice<'a> {
    index: usize,
    message: Message<'a>,
    logprobs: Option<ChatLikely>,
    finish_reason: Option<&'static str>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
    /// There is none.
    refusal: Option<()>,
}

impl<'a> ChatChoice<'a> {
    fn of((index, answer): (usize, &'a Whole)) -> Self {
        let likely = |waiting: &Waiting| ChatLikely::new(&answer.entries, waiting.tokenizer());
        Self {
            index,
            message: Message { role: "assistant", content: &answer.text, refusal: None },
            logprobs: answer.waiting.as_ref().map(likely),
            finish_reason: answer.end.map(|(end, _)| reason(end)),
        }
    }
}

#[derive(Serialize)]
struct TextChoice<'a> {
    index: usize,
    text: &'a str,
    logprobs: Option<TextLikely>,
    finish_reason: Option<&'static str>,
}

impl<'a> TextChoice<'a> {
    fn of((index, answer): (usize, &'a Whole)) -> Self {
        let likely = |waiting: &Waiting| TextLikely::new(&answer.entries, waiting.tokenizer());
        Self {
            index,
            text: &answer.text,
            logprobs: answer.waiting.as_ref().map(likely),
            finish_reason: answer.end.map(|(end, _)| reason(end)),
        }
    }
}
