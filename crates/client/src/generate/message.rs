//! What is asked: from the arguments, files, and standard input.

use std::fmt;
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use clap::ArgMatches;
use serde_json::{Value, json};

use crate::MAX_BODY_BYTES;

/// Where the question is.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum MessageSource {
    Message { first: Option<MessageText>, files: Vec<PathBuf> },
    Conversation(PathBuf),
}

/// Where a message begins.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum MessageText {
    Argument(String),
    /// What standard input held, as far as it was read. Nothing at all would be a wrong argument.
    Input(Vec<u8>),
}

impl MessageSource {
    /// Where the arguments say that it is; an error if that is nowhere.
    pub(super) fn read(matches: &ArgMatches) -> Result<Self> {
        if let Some(path) = matches.get_one::<PathBuf>("messages") {
            return Ok(Self::Conversation(path.clone()));
        }
        let files: Vec<PathBuf> = matches.get_many("file").into_iter().flatten().cloned().collect();
        let first = match matches.get_one::<String>("message").map(String::as_str) {
            Some("-") => Some(MessageText::Input(input()?)),
            Some(message) => Some(MessageText::Argument(message.to_owned())),
            None if !files.is_empty() => None,
            None if std::io::stdin().is_terminal() => bail!("{NOTHING}"),
            None => match input()? {
                empty if empty.is_empty() => bail!("{NOTHING}, and standard input is empty"),
                found => Some(MessageText::Input(found)),
            },
        };
        Ok(Self::Message { first, files })
    }

    /// The messages of the request.
    pub(super) fn messages(self, system: Option<&str>) -> Result<Value> {
        let (first, files) = match self {
            Self::Conversation(path) => return conversation(&path),
            Self::Message { first, files } => (first, files),
        };
        let mut parts = match first {
            None => Vec::new(),
            Some(MessageText::Argument(message)) => vec![message],
            Some(MessageText::Input(bytes)) => {
                vec![text(checked(bytes, &"standard input")?, &"standard input")?]
            }
        };
        for path in files {
            parts.push(text(bytes_of(&path)?, &path.display())?);
        }
        let message = parts.join("\n\n");
        if message.trim().is_empty() {
            bail!("the message is empty");
        }
        let system = system.map(|content| json!({ "role": "system", "content": content }));
        let user = json!({ "role": "user", "content": message });
        Ok(system.into_iter().chain([user]).collect())
    }
}

const NOTHING: &str = "no message is given: not as an argument, not with --file, not with --messages";

fn input() -> Result<Vec<u8>> {
    some(std::io::stdin().lock(), &"standard input")
}

fn bytes_of(path: &PathBuf) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|error| anyhow!("{}: {error}", path.display()))?;
    checked(some(file, &path.display())?, &path.display())
}

/// All bytes, or more than any request may have.
fn some(from: impl Read, name: &dyn fmt::Display) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = from.take(MAX_BODY_BYTES as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| anyhow!("{name} could not be read: {error}"))?;
    Ok(bytes)
}

fn checked(bytes: Vec<u8>, name: &dyn fmt::Display) -> Result<Vec<u8>> {
    if bytes.len() > MAX_BODY_BYTES {
        bail!("{name} has more than {MAX_BODY_BYTES} bytes, and no request may have more");
    }
    Ok(bytes)
}

/// The text, without the line end that programs put behind the last line: nobody means to ask about that.
fn text(bytes: Vec<u8>, name: &dyn fmt::Display) -> Result<String> {
    let mut text = String::from_utf8(bytes)
        .map_err(|error| anyhow!("{name} is not UTF-8 from byte {} on", error.utf8_error().valid_up_to()))?;
    if text.ends_with('\n') {
        text.truncate(text.len() - if text.ends_with("\r\n") { 2 } else { 1 });
    }
    Ok(text)
}

/// An array of messages; what is in them is the service's to judge.
fn conversation(path: &PathBuf) -> Result<Value> {
    let name = path.display();
    let value: Value =
        serde_json::from_slice(&bytes_of(path)?).map_err(|error| anyhow!("{name} is not JSON: {error}"))?;
    if value.is_array() {
        return Ok(value);
    }
    let kind = match value {
        Value::Object(_) => "an object",
        Value::String(_) => "a string",
        Value::Number(_) => "a number",
        _ => "no list",
    };
    bail!("{name} must hold an array of messages, each with role and content, but holds {kind}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(first: Option<&str>, files: &[&[u8]]) -> Result<Value> {
        let directory = tempfile::tempdir().unwrap();
        let path = |i: usize| directory.path().join(format!("part-{i}"));
        for (i, bytes) in files.iter().enumerate() {
            std::fs::write(path(i), bytes).unwrap();
        }
        let first = first.map(|text| MessageText::Argument(text.to_owned()));
        MessageSource::Message { first, files: (0..files.len()).map(path).collect() }
            .messages(Some("Be brief."))
    }

    #[test]
    fn files_follow_the_message() {
        let messages = message(Some("Look:"), &[b"one\n", b"two"]).unwrap();
        assert_eq!(messages[0], json!({ "role": "system", "content": "Be brief." }));
        assert_eq!(messages[1], json!({ "role": "user", "content": "Look:\n\none\n\ntwo" }));
        for alone in ["alone", "alone\n", "alone\r\n"] {
            assert_eq!(message(None, &[alone.as_bytes()]).unwrap()[1]["content"], "alone");
        }
        assert_eq!(message(None, &[b"two\n\n"]).unwrap()[1]["content"], "two\n");
    }

    #[test]
    fn what_no_message_can_hold_is_said() {
        let said = |first, files: &[&[u8]]| format!("{:#}", message(first, files).unwrap_err());
        assert!(said(Some("x"), &[b"ab\xff"]).ends_with("part-0 is not UTF-8 from byte 2 on"));
        let large = said(None, &[&vec![b'x'; MAX_BODY_BYTES + 1]]);
        assert!(large.contains("part-0 has more than 1048576 bytes"), "{large}");
        assert_eq!(said(Some(" \n"), &[]), "the message is empty");
    }
}
