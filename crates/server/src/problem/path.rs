//! Paths that do not exist: whose clients ask for them, and what they meant.

/// Paths of the contract and of OpenAI's API, as they are written.
const PATHS: [&str; 12] = [
    "/health",
    "/livez",
    "/readyz",
    "/generate",
    "/models",
    "/models/swap",
    "/stats",
    "/stats/history",
    "/tokenize",
    "/detokenize",
    "/v1/chat/completions",
    "/v1/completions",
];

/// What OpenAI's clients may ask for, from their base URL on, and this server has not.
const OPENAI_OTHERS: [&str; 21] = [
    "/assistants",
    "/audio",
    "/batches",
    "/chat/completions",
    "/containers",
    "/conversations",
    "/edits",
    "/embeddings",
    "/engines",
    "/evals",
    "/files",
    "/fine_tuning",
    "/images",
    "/messages",
    "/moderations",
    "/realtime",
    "/responses",
    "/threads",
    "/uploads",
    "/vector_stores",
    "/videos",
];

/// Whether those who ask at a path read errors as OpenAI's clients do, whether there is anything at it or not.
pub(super) fn is_openai(path: &str) -> bool {
    let path = tidy(path);
    is_below(&path, "/v1")
        || ["/tokenize", "/detokenize"].contains(&path.as_str())
        || without_base(&path).is_some()
        || is_other(&path)
}

/// The rest of the sentence that there is nothing at a path.
pub(super) fn advice(path: &str) -> String {
    let tidy = tidy(path);
    let exists = PATHS.contains(&tidy.as_str()) || is_below(&tidy, "/v1/models");
    if is_below(&tidy, "/v1/v1") {
        "; the client's base_url must end in /v1, and has it twice.".to_owned()
    } else if exists && tidy != path {
        format!("; did you mean {}?", named(&tidy))
    } else if let Some(operation) = without_base(&tidy).filter(|_| !exists) {
        let right = named(&format!("/v1{operation}"));
        format!("; OpenAI's API is at {right}: the client's base_url must end in /v1.")
    } else if is_other(tidy.strip_prefix("/v1").unwrap_or(&tidy)) {
        "; of OpenAI's API this server has chat completions, completions and models alone.".to_owned()
    } else {
        ".".to_owned()
    }
}

/// A path with one slash before each of its parts and none at its end.
fn tidy(path: &str) -> String {
    let parts = path.split('/').filter(|part| !part.is_empty());
    parts.flat_map(|part| ["/", part]).collect()
}

/// A path that exists, without the name of a model, which may be anything.
fn named(path: &str) -> String {
    let is_model = path != "/v1/models" && is_below(path, "/v1/models");
    if is_model { "/v1/models/{model}".to_owned() } else { path.to_owned() }
}

fn is_below(path: &str, base: &str) -> bool {
    path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn is_other(path: &str) -> bool {
    OPENAI_OTHERS.iter().any(|other| is_below(path, other))
}

/// The operation of a path that is one of this server's from OpenAI's API, but for another base URL. `/models` and what
/// is below `/models/swap` are the contract's.
fn without_base(path: &str) -> Option<&str> {
    let completions = ["/chat/completions", "/completions"].into_iter().find(|end| path.ends_with(end));
    let is_model = path.starts_with("/models/") && !is_below(path, "/models/swap");
    completions.or(is_model.then_some(path))
}
