//! Complete responses.

use engine::{FinishReason, GeneratedToken, Output, Usage};
use serde::Serialize;

use super::logprobs::{ChatLogprobs, LogprobEntry, PendingLogprobs, TextLogprobs};
use super::types::{CompletionKind, ResponseContext, UsageObject, reason};

/// One answer, as far as it was heard.
pub(super) struct CompleteAnswer {
    text: String,
    entries: Vec<LogprobEntry>,
    logprobs: Option<PendingLogprobs>,
    end: Option<(FinishReason, Usage)>,
}

impl CompleteAnswer {
    pub(super) fn new(response: &ResponseContext) -> Self {
        Self { text: String::new(), entries: Vec::new(), logprobs: response.logprobs(), end: None }
    }

    /// Adds an output of the engine.
    pub(super) fn add(&mut self, output: Output) {
        match output {
            Output::Tokens(tokens) => {
                for GeneratedToken { token, text, logprobs } in tokens {
                    self.text.push_str(&text);
                    self.add_entries(|pending| pending.token(token, logprobs, &text));
                }
            }
            Output::Text(text) => {
                self.text.push_str(&text);
                self.add_entries(|pending| pending.held(&text));
            }
            Output::Finished { reason, usage } => {
                self.end = Some((reason, usage));
                self.add_entries(|pending| pending.finish(reason));
            }
            Output::Admitted | Output::Failed(_) => {}
        }
    }

    /// The log probabilities that an output completes, if they were asked for.
    fn add_entries(&mut self, take: impl FnOnce(&mut PendingLogprobs) -> Vec<LogprobEntry>) {
        self.entries.extend(self.logprobs.as_mut().map(take).unwrap_or_default());
    }
}

/// The answer to a request: all of its choices.
pub(super) fn render(response: &ResponseContext, answers: &[CompleteAnswer]) -> Vec<u8> {
    let mut usage = UsageObject::default();
    for (index, answer) in answers.iter().enumerate() {
        if let Some((_, took)) = answer.end {
            usage.add(took, index, response.choices);
        }
    }
    let head = &response.head;
    let answers = answers.iter().enumerate();
    // Texts and numbers can always be written.
    let written = match head.kind {
        CompletionKind::Chat => {
            let choices: Vec<ChatChoice<'_>> = answers.map(|(i, answer)| ChatChoice::of(i, answer)).collect();
            serde_json::to_vec(&head.with(head.kind.object(), &choices, Some(usage)))
        }
        CompletionKind::Text => {
            let choices: Vec<TextChoice<'_>> = answers.map(|(i, answer)| TextChoice::of(i, answer)).collect();
            serde_json::to_vec(&head.with(head.kind.object(), &choices, Some(usage)))
        }
    };
    written.unwrap_or_default()
}

#[derive(Serialize)]
struct ChatChoice<'a> {
    index: usize,
    message: ChatMessage<'a>,
    logprobs: Option<ChatLogprobs>,
    finish_reason: Option<&'static str>,
}

#[derive(Serialize)]
struct ChatMessage<'a> {
    role: &'static str,
    content: &'a str,
    /// There is none.
    refusal: Option<()>,
}

impl<'a> ChatChoice<'a> {
    fn of(index: usize, answer: &'a CompleteAnswer) -> Self {
        let logprobs = |pending: &PendingLogprobs| ChatLogprobs::new(&answer.entries, pending.tokenizer());
        Self {
            index,
            message: ChatMessage { role: "assistant", content: &answer.text, refusal: None },
            logprobs: answer.logprobs.as_ref().map(logprobs),
            finish_reason: answer.end.map(|(end, _)| reason(end)),
        }
    }
}

#[derive(Serialize)]
struct TextChoice<'a> {
    index: usize,
    text: &'a str,
    logprobs: Option<TextLogprobs>,
    finish_reason: Option<&'static str>,
}

impl<'a> TextChoice<'a> {
    fn of(index: usize, answer: &'a CompleteAnswer) -> Self {
        let logprobs = |pending: &PendingLogprobs| TextLogprobs::new(&answer.entries, pending.tokenizer());
        Self {
            index,
            text: &answer.text,
            logprobs: answer.logprobs.as_ref().map(logprobs),
            finish_reason: answer.end.map(|(end, _)| reason(end)),
        }
    }
}
