//! What to do about each error, for the reference of the book. A code without its sentence does not compile.

use super::Code;

impl Code {
    /// What a caller or an operator can do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::InvalidJson => "Send one JSON object; the sentence has line and column.",
            Self::NoMessages => "Send at least one message.",
            Self::TooManyMessages | Self::ConversationTooLong => "Leave the oldest messages out.",
            Self::EmptyMessage => "Send no message without text; only an assistant's may be empty.",
            Self::MessageTooLong => "Shorten the message, or cut it into several turns.",
            Self::InvalidRole => {
                "Use `user` and `assistant`; a `system` message may only lead, with a user's after it."
            }
            Self::InvalidTemperature => "Choose one from 0 to 2.",
            Self::InvalidTopK => "Choose one from 0 to 200; 0 keeps all.",
            Self::InvalidMaxTokens => "Choose at least 1, and no more than the sentence says.",
            Self::InvalidSeed => "Send a whole number from 0 to 18446744073709551615.",
            Self::PromptTooLong => "Leave the oldest messages out, or set `CONTEXT_OVERFLOW=drop`.",
            Self::TooComplex => "Make the form smaller: fewer alternatives, shorter bounds.",
            Self::InvalidValue => "Take a value from the range that the sentence names.",
            Self::UnsupportedField => "Leave the field out.",
            Self::UnsupportedValue => "Leave the field out, or take a value that the sentence names.",
            Self::UnknownField => {
                "Leave the field out; for callers that cannot be changed, name it in `IGNORED_REQUEST_FIELDS`."
            }
            Self::MissingField => "Send the field that `param` points at.",
            Self::WrongType => "Send the type that the sentence names, at the place that `param` points at.",
            Self::Unauthorized => "Send the key as `X-Internal-API-Key` or `Authorization: Bearer`.",
            Self::Forbidden => "Use one of the admin keys.",
            Self::InvalidHost => "Send one `Host` header with a name.",
            Self::HostNotAllowed => "Name the host in `ALLOWED_HOSTS`, or come by a name that is there.",
            Self::NotFound => "Take a path that the API has, letter by letter.",
            Self::ModelNotFound => "Take a tag from `GET /models`, or a name from `GET /v1/models`.",
            Self::MethodNotAllowed => "Take a method from the `Allow` header.",
            Self::RequestTimeout => "Send the whole body within `BODY_TIMEOUT`.",
            Self::SwapInProgress => "Wait for the swap to end; `/stats` shows how far it is.",
            Self::PreconditionFailed => "Ask `/stats` what serves, and decide anew.",
            Self::BodyTooLarge => "Send less: the sentence names the limit.",
            Self::UnsupportedMediaType => "Send `Content-Type: application/json`, and no `Content-Encoding`.",
            Self::UnsupportedTransferCoding => {
                "Send a `Content-Length`, or `Transfer-Encoding: chunked` alone."
            }
            Self::HeadersTooLarge => "Send fewer or shorter headers: cookies, mostly.",
            Self::BadCheckpoint => "Mend the files: `samosa models verify TAG` says what is wrong with them.",
            Self::NoModel => "Swap to a model that loads; `/health` says why there is none.",
            Self::QueueFull | Self::QueueTimeout => {
                "Come back after `Retry-After`; if it happens often, add a replica."
            }
            Self::DeadlineExceeded => "Ask for fewer tokens, or raise `REQUEST_TIMEOUT`.",
            Self::TooManyConnections => "Keep fewer connections open, or raise `MAX_CONNECTIONS`.",
            Self::Draining | Self::ShuttingDown => "Ask another replica, or this one once it is back.",
            Self::NotConfigured => "Set `INTERNAL_API_KEY` or `INTERNAL_API_KEY_FILE`.",
            Self::SlowClient => "Read the stream as it comes; look for a proxy that holds it back.",
            Self::OutOfMemory => {
                "Take a smaller format (`NANOCHAT_DTYPE`), less `KV_CACHE_MB`, or `SWAP_MODE=serial`."
            }
            Self::StorageFull => "Make room in `MODEL_STORAGE_PATH`; what was fetched is kept.",
            Self::SourceFailed => "Ask again later, as what was fetched is kept; `/stats` names what failed.",
            Self::StorageFailed => "See to the disk and its permissions; the log has the path.",
            Self::Internal => "Report it with the `request_id`, by which the log has what happened.",
        }
    }
}
