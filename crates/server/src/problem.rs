//! Every error a caller can see, as `application/problem+json` (RFC 9457). The one place that knows statuses; what to do
//! about each is in `advice`, how one is written in `response`, which errors of ours become one in `from`, and what a path
//! that does not exist was meant to be in `path`.

mod advice;
mod from;
mod path;
pub(crate) mod response;

use axum::http::StatusCode;

/// Declares the codes once, with what belongs to each.
macro_rules! codes {
    ($(#[doc = $meaning:literal] $name:ident, $code:literal, $status:ident, $retryable:literal;)*) => {
        /// What went wrong, as a stable word.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Code { $(#[doc = $meaning] $name,)* }

        impl Code {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The word in the body.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The status of the answer.
            pub fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            /// What it says, in a sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning.trim_ascii(),)* }
            }

            /// Whether the same request may succeed later.
            pub fn retryable(self) -> bool {
                match self { $(Self::$name => $retryable,)* }
            }
        }
    };
}

codes! {
    /// The body is not JSON.
    InvalidJson, "invalid_json", BAD_REQUEST, false;
    /// An empty list of messages.
    NoMessages, "no_messages", BAD_REQUEST, false;
    /// More messages than allowed.
    TooManyMessages, "too_many_messages", BAD_REQUEST, false;
    /// A message without text.
    EmptyMessage, "empty_message", BAD_REQUEST, false;
    /// A message over the limit.
    MessageTooLong, "message_too_long", BAD_REQUEST, false;
    /// All messages together over the limit.
    ConversationTooLong, "conversation_too_long", BAD_REQUEST, false;
    /// A role that does not exist, or not there.
    InvalidRole, "invalid_role", BAD_REQUEST, false;
    /// Out of range.
    InvalidTemperature, "invalid_temperature", BAD_REQUEST, false;
    /// Out of range.
    InvalidTopK, "invalid_top_k", BAD_REQUEST, false;
    /// Out of range.
    InvalidMaxTokens, "invalid_max_tokens", BAD_REQUEST, false;
    /// The header `X-Seed` is no number.
    InvalidSeed, "invalid_seed", BAD_REQUEST, false;
    /// The conversation does not fit the model's context.
    PromptTooLong, "prompt_too_long", BAD_REQUEST, false;
    /// A grammar or a schema that takes too long to follow.
    TooComplex, "too_complex", BAD_REQUEST, false;
    /// A value that is out of range or makes no sense, where no other word is nearer.
    InvalidValue, "invalid_value", BAD_REQUEST, false;
    /// A field that others support.
    UnsupportedField, "unsupported_field", BAD_REQUEST, false;
    /// A value that others support.
    UnsupportedValue, "unsupported_value", BAD_REQUEST, false;
    /// A field the contract does not know.
    UnknownField, "unknown_field", UNPROCESSABLE_ENTITY, false;
    /// A field that must be there.
    MissingField, "missing_field", UNPROCESSABLE_ENTITY, false;
    /// A value of another JSON type.
    WrongType, "wrong_type", UNPROCESSABLE_ENTITY, false;
    /// No key, or a wrong one.
    Unauthorized, "unauthorized", UNAUTHORIZED, false;
    /// The key is good, but not for this.
    Forbidden, "forbidden", FORBIDDEN, false;
    /// The Host header is missing, repeated or none.
    InvalidHost, "invalid_host", BAD_REQUEST, false;
    /// The server does not answer to that name.
    HostNotAllowed, "host_not_allowed", FORBIDDEN, false;
    /// No such path.
    NotFound, "not_found", NOT_FOUND, false;
    /// No such model.
    ModelNotFound, "model_not_found", NOT_FOUND, false;
    /// The path exists, the method does not.
    MethodNotAllowed, "method_not_allowed", METHOD_NOT_ALLOWED, false;
    /// The body came too slowly.
    RequestTimeout, "request_timeout", REQUEST_TIMEOUT, true;
    /// A swap to another model runs.
    SwapInProgress, "swap_in_progress", CONFLICT, true;
    /// Other weights serve than the caller believes.
    PreconditionFailed, "precondition_failed", PRECONDITION_FAILED, false;
    /// The body is over the limit.
    BodyTooLarge, "body_too_large", PAYLOAD_TOO_LARGE, false;
    /// The body is not declared as JSON, or is encoded.
    UnsupportedMediaType, "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, false;
    /// A transfer coding other than chunked, or chunked twice.
    UnsupportedTransferCoding, "unsupported_transfer_coding", NOT_IMPLEMENTED, false;
    /// The headers are over the limit.
    HeadersTooLarge, "headers_too_large", REQUEST_HEADER_FIELDS_TOO_LARGE, false;
    /// The checkpoint cannot be served.
    BadCheckpoint, "bad_checkpoint", UNPROCESSABLE_ENTITY, false;
    /// No model is loaded.
    NoModel, "no_model", SERVICE_UNAVAILABLE, true;
    /// As many requests wait as may.
    QueueFull, "queue_full", SERVICE_UNAVAILABLE, true;
    /// It would wait, or has waited, longer than requests may.
    QueueTimeout, "queue_timeout", SERVICE_UNAVAILABLE, true;
    /// It took as long as any request may.
    DeadlineExceeded, "deadline_exceeded", SERVICE_UNAVAILABLE, true;
    /// As many connections are in use as may be.
    TooManyConnections, "too_many_connections", SERVICE_UNAVAILABLE, true;
    /// The server finishes what it has and takes nothing new.
    Draining, "draining", SERVICE_UNAVAILABLE, true;
    /// The server stops.
    ShuttingDown, "shutting_down", SERVICE_UNAVAILABLE, true;
    /// No key is configured, so nobody may call.
    NotConfigured, "not_configured", SERVICE_UNAVAILABLE, false;
    /// The caller read too slowly.
    SlowClient, "slow_client", REQUEST_TIMEOUT, true;
    /// The new model does not fit.
    OutOfMemory, "out_of_memory", INSUFFICIENT_STORAGE, false;
    /// The model storage has no room for the new model's files.
    StorageFull, "storage_full", INSUFFICIENT_STORAGE, false;
    /// The place that a model is fetched from did not give it.
    SourceFailed, "source_failed", BAD_GATEWAY, true;
    /// The model storage cannot be read.
    StorageFailed, "storage_failed", INTERNAL_SERVER_ERROR, true;
    /// The server broke.
    Internal, "internal", INTERNAL_SERVER_ERROR, true;
}

/// How the callers of a route read errors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ErrorShape {
    /// As problem details.
    Details,
    /// As OpenAI's clients do; see [`crate::openai::error`].
    OpenAi,
}

impl ErrorShape {
    /// At a path, whether there is anything at it or not.
    pub(crate) fn at(path: &str) -> Self {
        if path::is_openai(path) { Self::OpenAi } else { Self::Details }
    }
}

/// An error on its way to a caller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// What.
    pub code: Code,
    /// One plain sentence with the field, the limit and the value.
    pub detail: String,
    /// JSON pointer to the field.
    pub param: Option<String>,
    /// Seconds after which to try again.
    pub retry_after: Option<u64>,
}

impl Problem {
    /// A problem with a sentence.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), param: None, retry_after: None }
    }

    /// The field it is about.
    #[must_use]
    pub fn at(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// When to try again, in seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_words() {
        let words: std::collections::BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(words.len(), Code::ALL.len());
        assert!(words.iter().all(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
    }
}
