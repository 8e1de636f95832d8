//! Where the weights of a model come from, as `models.toml` and the `source` of a ModelInfo write it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Longest owner, name, bucket or revision, in bytes.
const MAX_NAME: usize = 200;

/// A place that has models.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// Inside the binary.
    Builtin,
    /// A directory under the storage root that somebody put there.
    Local,
    /// A directory or a file of weights elsewhere on this machine: `local:/PATH`. Callers see `local`.
    Path(PathBuf),
    /// A repository of the Hugging Face Hub: `huggingface:OWNER/NAME[@REVISION]`.
    HuggingFace {
        /// `OWNER/NAME`.
        repository: String,
        /// A branch, tag or commit; the main branch if absent.
        revision: Option<String>,
    },
    /// A prefix in a bucket of an S3-compatible store: `s3://BUCKET/PREFIX`.
    S3 {
        /// The bucket.
        bucket: String,
        /// The prefix, without slashes at its ends.
        prefix: String,
    },
    /// A directory on a web server: `https://HOST/PATH`. Plain `http` is taken on loopback addresses only.
    Https {
        /// Scheme, host and path, without a slash at the end.
        url: String,
    },
}

impl Source {
    /// Whether its files have to be fetched before they can be loaded.
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::HuggingFace { .. } | Self::S3 { .. } | Self::Https { .. })
    }

    /// The same with the revision that is said elsewhere.
    pub(crate) fn at_revision(self, other: Option<&str>) -> Self {
        match self {
            Self::HuggingFace { repository, revision } => {
                Self::HuggingFace { repository, revision: revision.or(other.map(str::to_owned)) }
            }
            source => source,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builtin => f.write_str("builtin"),
            Self::Local | Self::Path(_) => f.write_str("local"),
            Self::HuggingFace { repository, revision: None } => write!(f, "huggingface:{repository}"),
            Self::HuggingFace { repository, revision: Some(revision) } => {
                write!(f, "huggingface:{repository}@{revision}")
            }
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Https { url } => f.write_str(url),
        }
    }
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("local:") {
            let path = PathBuf::from(path);
            return if path.is_absolute() {
                Ok(Self::Path(path))
            } else {
                Err(wrong("local:…", "an absolute path after local:"))
            };
        }
        if let Some(rest) = text.strip_prefix("huggingface:") {
            return hugging_face(rest)
                .ok_or_else(|| wrong(text, "huggingface:OWNER/NAME or huggingface:OWNER/NAME@REVISION"));
        }
        if let Some(rest) = text.strip_prefix("s3://") {
            return s3(rest).ok_or_else(|| wrong(text, "s3://BUCKET/PREFIX"));
        }
        if text.starts_with("https://") || text.starts_with("http://") {
            return https(text)
                .ok_or_else(|| wrong(text, "https://HOST/PATH without user, query or fragment"));
        }
        Err(wrong(text, "one of huggingface:OWNER/NAME, s3://BUCKET/PREFIX, https://HOST/PATH, local:/PATH"))
    }
}

fn wrong(text: &str, expected: &str) -> String {
    let shown: String = text.chars().take(MAX_NAME).collect();
    format!("source is \"{shown}\", but must be {expected}")
}

fn hugging_face(text: &str) -> Option<Source> {
    let (repository, revision) = match text.split_once('@') {
        Some((repository, revision)) => (repository, Some(revision)),
        None => (text, None),
    };
    let (owner, name) = repository.split_once('/')?;
    let revision_is_fine = revision.is_none_or(|revision| revision.split('/').all(is_name));
    (is_name(owner) && is_name(name) && revision_is_fine).then(|| Source::HuggingFace {
        repository: repository.to_owned(),
        revision: revision.map(str::to_owned),
    })
}

fn s3(text: &str) -> Option<Source> {
    let (bucket, prefix) = text.split_once('/').unwrap_or((text, ""));
    let prefix = prefix.trim_matches('/');
    let fine = is_name(bucket) && (prefix.is_empty() || prefix.split('/').all(is_name));
    fine.then(|| Source::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
}

fn https(text: &str) -> Option<Source> {
    let (scheme, rest) = text.split_once("://")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit_once(':').map_or(authority, |(host, port)| {
        if port.bytes().all(|b| b.is_ascii_digit()) { host } else { authority }
    });
    let loopback = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    let of_host = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']');
    let path = path.trim_end_matches('/');
    let fine = !host.is_empty()
        && authority.bytes().all(of_host)
        && (scheme == "https" || loopback)
        && (path.is_empty() || path.split('/').all(is_name));
    let url = if path.is_empty() {
        format!("{scheme}://{authority}")
    } else {
        format!("{scheme}://{authority}/{path}")
    };
    fine.then_some(Source::Https { url })
}

/// A part of a name that means nothing to a path or a URL.
fn is_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'~' | b'+' | b'=');
    !text.is_empty() && text.len() <= MAX_NAME && text != "." && text != ".." && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_the_same() {
        for text in [
            "huggingface:karpathy/nanochat-d32",
            "huggingface:karpathy/nanochat-d32@refs/pr/1",
            "s3://models/team-a/d20",
            "s3://models",
            "https://weights.example.org/nanochat/d20",
            "http://127.0.0.1:8080/d20",
        ] {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), text);
        }
        assert_eq!("local:/srv/d20".parse::<Source>().unwrap().to_string(), "local", "no path is told");
    }

    #[test]
    fn no_path_of_this_machine_is_told() {
        let error = "local:home/somebody/d20".parse::<Source>().unwrap_err();
        assert!(error.contains("absolute path") && !error.contains("somebody"), "{error}");
    }

    #[test]
    fn what_could_lead_elsewhere_is_refused_with_what_is_expected() {
        for text in [
            "",
            "d20",
            "huggingface:d20",
            "huggingface:a/b/c",
            "huggingface:../b",
            "huggingface:a/b@../../x",
            "huggingface:a/b?x=1",
            "s3://",
            "s3://bucket/../other",
            "https://",
            "https://user:secret@host/x",
            "https://host/a?b=c",
            "https://host/a#b",
            "https://host/%2e%2e/b",
            "http://weights.example.org/d20",
            "file:///etc/passwd",
            "local:relative/path",
        ] {
            let error = text.parse::<Source>().unwrap_err();
            assert!(error.contains("must be"), "{text}: {error}");
        }
    }
}
