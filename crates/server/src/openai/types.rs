//! What is alike in streams and in complete responses.

use std::sync::Arc;

use engine::FinishReason;
use serde::Serialize;
use serving::ServedModel;
use tokenizer::Tokenizer;

use super::logprobs::PendingLogprobs;
use crate::clock;

/// Digits of the weights' identity in a fingerprint.
const FINGERPRINT_DIGITS: usize = 12;

/// A kind of completion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum CompletionKind {
    Chat,
    Text,
}

impl CompletionKind {
    /// The type of an answer.
    pub(super) fn object(self) -> &'static str {
        match self {
            Self::Chat => "chat.completion",
            Self::Text => "text_completion",
        }
    }

    /// The type of a piece of one.
    pub(super) fn chunk(self) -> &'static str {
        match self {
            Self::Chat => "chat.completion.chunk",
            Self::Text => "text_completion",
        }
    }
}

/// What every chunk and answer begins with.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) kind: CompletionKind,
    pub(super) id: String,
    /// Seconds since 1970.
    pub(super) created: u64,
    pub(super) model: String,
    pub(super) fingerprint: String,
}

impl Head {
    /// Of the answers to a request, by the weights that serve it.
    pub(super) fn new(kind: CompletionKind, request: &str, served: &ServedModel) -> Self {
        let prefix = match kind {
            CompletionKind::Chat => "chatcmpl",
            CompletionKind::Text => "cmpl",
        };
        let identity = served.model.identity.as_str();
        Self {
            kind,
            id: format!("{prefix}-{request}"),
            created: clock::unix(),
            model: served.model.tag.to_string(),
            fingerprint: format!("fp_{}", identity.get(..FINGERPRINT_DIGITS).unwrap_or(identity)),
        }
    }

    /// With choices, as an object of this type.
    pub(super) fn with<'a, C, U>(
        &'a self,
        object: &'static str,
        choices: &'a [C],
        usage: Option<U>,
    ) -> CompletionObject<'a, C, U> {
        let (id, created, model) = (self.id.as_str(), self.created, self.model.as_str());
        CompletionObject { id, object, created, model, system_fingerprint: &self.fingerprint, choices, usage }
    }
}

/// What is known of all answers to a request before they come.
pub(super) struct ResponseContext {
    pub(super) head: Head,
    /// Answers to each prompt.
    pub(super) choices: usize,
    /// What log probabilities are written with, if they are wanted.
    pub(super) tokenizer: Option<Arc<Tokenizer>>,
}

impl ResponseContext {
    /// The log probabilities of an answer, if they are wanted.
    pub(super) fn logprobs(&self) -> Option<PendingLogprobs> {
        self.tokenizer.as_ref().map(|tokenizer| PendingLogprobs::new(Arc::clone(tokenizer)))
    }
}

/// An answer, or a chunk of one.
#[derive(Serialize)]
pub(super) struct CompletionObject<'a, C, U> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    system_fingerprint: &'a str,
    choices: &'a [C],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<U>,
}

/// What answers took.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub(super) struct UsageObject {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
    prompt_tokens_details: PromptDetails,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
struct PromptDetails {
    cached_tokens: usize,
}

impl UsageObject {
    /// Adds the usage of the answer with this index, where each prompt has `choices` answers. Only the first answer to a
    /// prompt counts its tokens.
    pub(super) fn add(&mut self, usage: engine::Usage, index: usize, choices: usize) {
        if index.is_multiple_of(choices) {
            self.prompt_tokens += usage.prompt_tokens;
            self.prompt_tokens_details.cached_tokens += usage.cached_tokens;
        }
        self.completion_tokens += usage.completion_tokens;
        self.total_tokens = self.prompt_tokens + self.completion_tokens;
    }
}

/// Why an answer ended, in the API's words.
pub(super) fn reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop | FinishReason::StopText => "stop",
        FinishReason::Length => "length",
    }
}
