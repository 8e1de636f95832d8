//! What goes over the wire, alike in streams and whole answers.

use engine::FinishReason;
use serde::Serialize;

use crate::clock;
use crate::generation::Generation;

/// Digits of the weights' identity in a fingerprint.
const FINGERPRINT_DIGITS: usize = 12;

/// A kind of completion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Chat,
    Text,
}

impl Kind {
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
    pub(super) kind: Kind,
    pub(super) id: String,
    /// Seconds since 1970.
    pub(super) created: u64,
    pub(super) model: String,
    pub(super) fingerprint: String,
}

impl Head {
    /// Of the answers to a request, by the weights that serve it.
    pub(super) fn new(kind: Kind, request: &str, generation: &Generation) -> Self {
        let prefix = match kind {
            Kind::Chat => "chatcmpl",
            Kind::Text => "cmpl",
        };
        let identity = generation.model.identity.as_str();
        Self {
            kind,
            id: format!("{prefix}-{request}"),
            created: clock::unix(),
            model: generation.model.tag.to_string(),
            fingerprint: format!("fp_{}", identity.get(..FINGERPRINT_DIGITS).unwrap_or(identity)),
        }
    }

    /// With choices, as an object of this type.
    pub(super) fn with<'a, C, U>(
        &'a self,
        object: &'static str,
        choices: &'a [C],
        usage: Option<U>,
    ) -> Object<'a, C, U> {
        let (id, created, model) = (self.id.as_str(), self.created, self.model.as_str());
        Object { id, object, created, model, system_fingerprint: &self.fingerprint, choices, usage }
    }
}

/// An answer, or a chunk of one.
#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the names callers read")]
pub(super) struct Object<'a, C, U> {
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
pub(super) struct Usage {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
    prompt_tokens_details: PromptDetails,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
struct PromptDetails {
    cached_tokens: usize,
}

impl Usage {
    /// Adds what an answer took. Of all answers to one prompt, the first stands for the prompt.
    pub(super) fn add(&mut self, usage: engine::Usage, is_first: IsFirst) {
        if is_first == IsFirst::Yes {
            self.prompt_tokens += usage.prompt_tokens;
            self.prompt_tokens_details.cached_tokens += usage.cached_tokens;
        }
        self.completion_tokens += usage.completion_tokens;
        self.total_tokens = self.prompt_tokens + self.completion_tokens;
    }
}

/// Whether an answer is the first to its prompt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum IsFirst {
    Yes,
    No,
}

impl IsFirst {
    /// Of the answer with this index, where each prompt has so many.
    pub(super) fn of(index: usize, choices: usize) -> Self {
        if index.is_multiple_of(choices) { Self::Yes } else { Self::No }
    }
}

/// Why an answer ended, in the API's words.
pub(super) fn reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop | FinishReason::StopText => "stop",
        FinishReason::Length => "length",
    }
}
