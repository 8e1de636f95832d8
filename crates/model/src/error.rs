//! What can be wrong with a checkpoint whose files could be read.

/// A checkpoint that is not a nanochat model, or not a whole one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor could not be read.
    #[error(transparent)]
    Format(#[from] formats::Error),
    /// A size that neither the metadata nor the tensors tell.
    #[error("the metadata has no `{field}`, and the tensors do not tell it")]
    MissingField {
        /// Name of the field in `model_config`.
        field: &'static str,
    },
    /// A size outside what this server supports.
    #[error("`{field}` is {value}, but must be {expected}")]
    InvalidField {
        /// Name of the field in `model_config`.
        field: &'static str,
        /// The value found.
        value: String,
        /// What is allowed.
        expected: String,
    },
    /// A field of the metadata that asks for what this server does not compute.
    #[error("the metadata's `{field}` is {value}, but only {expected} is supported")]
    Unsupported {
        /// Its name.
        field: String,
        /// The value found, as JSON.
        value: String,
        /// What is supported.
        expected: String,
    },
    /// A constant that is written in two places, and not the same.
    #[error("{first}, but {second}; an override `{over}` in models.toml can say which is right")]
    Contradiction {
        /// One value and its file.
        first: String,
        /// The other.
        second: String,
        /// The override.
        over: &'static str,
    },
    /// Tensors of a set, without one that always comes with them.
    #[error("tensor `{name}` is missing, which comes with {beside}")]
    IncompleteSet {
        /// Its name, prefixes stripped.
        name: String,
        /// What is there of the set.
        beside: &'static str,
    },
    /// A tensor that every model of this generation has.
    #[error("tensor `{name}` is missing")]
    MissingTensor {
        /// Its name, prefixes stripped.
        name: String,
    },
    /// A tensor of another shape than its model's sizes ask for.
    #[error("tensor `{name}` has shape {found:?}, but this model's sizes ask for {expected:?}")]
    WrongShape {
        /// Its name, prefixes stripped.
        name: String,
        /// The shape in the file.
        found: Vec<usize>,
        /// The shape that fits.
        expected: Vec<usize>,
    },
    /// Tensors that no supported generation has: a fork, or a short-lived experiment.
    #[error("not a supported nanochat architecture: unknown tensors {}", .names.join(", "))]
    UnknownTensors {
        /// The first few of them.
        names: Vec<String>,
    },
    /// A weight that is infinite or not a number.
    #[error("tensor `{name}` holds a value that is not finite")]
    NotFinite {
        /// Its name, prefixes stripped.
        name: String,
    },
}
