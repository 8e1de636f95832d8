//! What was said, and files of it.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::command::{Existing, SaveFormat};
use crate::MAX_BODY_BYTES;

/// Who may have said something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Author {
    User,
    Assistant,
}

impl Author {
    fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// A conversation as far as it was answered.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Transcript {
    /// Instructions before it.
    pub(super) system: Option<String>,
    messages: Vec<(Author, String)>,
    /// A message that has no answer yet.
    pub(super) unanswered: Option<String>,
}

impl Transcript {
    /// Messages that count.
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// What is sent, with `text` as the last message.
    pub(super) fn question(&self, text: &str) -> Value {
        let system = self.system.iter().map(|text| json!({ "role": "system", "content": text }));
        let said = self.messages.iter().map(|(role, text)| json!({ "role": role.as_str(), "content": text }));
        system.chain(said).chain([json!({ "role": "user", "content": text })]).collect()
    }

    /// A message was answered.
    pub(super) fn answered(&mut self, text: String, answer: String) {
        self.messages.extend([(Author::User, text), (Author::Assistant, answer)]);
        self.unanswered = None;
    }

    /// Takes the last message of the user away, and whatever followed it.
    pub(super) fn undo(&mut self) -> Option<String> {
        if self.unanswered.is_some() {
            return self.unanswered.take();
        }
        let last = self.messages.iter().rposition(|(role, _)| *role == Author::User)?;
        self.messages.drain(last..).next().map(|(_, text)| text)
    }

    /// Forgets all that was said; instructions stay.
    pub(super) fn reset(&mut self) {
        (self.messages, self.unanswered) = (Vec::new(), None);
    }

    /// Writes it to a file; the error is a sentence.
    pub(super) fn save(
        &self,
        path: &Path,
        format: SaveFormat,
        existing: Existing,
        model: Option<&str>,
    ) -> Result<(), String> {
        let text = match format {
            SaveFormat::Json => self.json(model),
            SaveFormat::Markdown => self.markdown(model.unwrap_or("assistant")),
        };
        let mut options = OpenOptions::new();
        match existing {
            Existing::Kept => options.write(true).create_new(true),
            Existing::Replaced => options.write(true).create(true).truncate(true),
        };
        let name = path.display();
        let written = options.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => format!("{name} exists already; /save! {name} replaces it."),
            _ => format!("{name} was not written: {error}."),
        })
    }

    fn json(&self, model: Option<&str>) -> String {
        let mut messages = self.question("");
        if let Some(messages) = messages.as_array_mut() {
            messages.pop();
            let unanswered = self.unanswered.iter().map(|text| json!({ "role": "user", "content": text }));
            messages.extend(unanswered);
        }
        format!("{:#}\n", json!({ "model_tag": model, "messages": messages }))
    }

    fn markdown(&self, model: &str) -> String {
        let system = self.system.iter().map(|text| ("System", text));
        let said = self.messages.iter().map(|(role, text)| match role {
            Author::User => ("You", text),
            Author::Assistant => (model, text),
        });
        let unanswered = self.unanswered.iter().map(|text| ("You", text));
        let parts = system.chain(said).chain(unanswered);
        parts.map(|(who, text)| format!("## {who}\n\n{text}\n")).collect::<Vec<_>>().join("\n")
    }

    /// Reads what [`Transcript::save`] wrote as JSON, or an array of messages; the error is a sentence.
    pub(super) fn load(path: &Path) -> Result<Self, String> {
        let name = path.display();
        let mut bytes = Vec::new();
        let read =
            File::open(path).and_then(|file| file.take(MAX_BODY_BYTES as u64 + 1).read_to_end(&mut bytes));
        read.map_err(|error| format!("{name} could not be read: {error}."))?;
        if bytes.len() > MAX_BODY_BYTES {
            return Err(format!(
                "{name} has more than {MAX_BODY_BYTES} bytes, and no conversation may have more."
            ));
        }
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|error| format!("{name} is no conversation in JSON: {error}."))?;
        let (messages, at) = if value.is_array() {
            (&value, String::new())
        } else {
            (&value["messages"], "/messages".to_owned())
        };
        let list = messages.as_array().ok_or_else(|| format!("{name} has no array of messages."))?;
        Self::of(list, &at).map_err(|why| format!("{name}: {why}"))
    }

    fn of(list: &[Value], at: &str) -> Result<Self, String> {
        let mut conversation = Self::default();
        for (i, message) in list.iter().enumerate() {
            let content = message["content"].as_str().filter(|content| !content.is_empty());
            let content =
                content.ok_or_else(|| format!("{at}/{i}/content must be a text with something in it."))?;
            match message["role"].as_str() {
                Some("system") if i == 0 => conversation.system = Some(content.to_owned()),
                Some("user") => conversation.messages.push((Author::User, content.to_owned())),
                Some("assistant") => conversation.messages.push((Author::Assistant, content.to_owned())),
                _ => {
                    let found = &message["role"];
                    return Err(format!(
                        "{at}/{i}/role must be user, assistant or, for the first message, system, but is {found}."
                    ));
                }
            }
        }
        if let Some((_, text)) = conversation.messages.pop_if(|(role, _)| *role == Author::User) {
            conversation.unanswered = Some(text);
        }
        Ok(conversation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation() -> Transcript {
        let mut conversation = Transcript { system: Some("Be brief.".to_owned()), ..Transcript::default() };
        conversation.answered("One?".to_owned(), "1 \x1b[0m \"x\"".to_owned());
        conversation.answered("Two\nlines?".to_owned(), "2".to_owned());
        conversation
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("talk.json");
        let mut said = conversation();
        for unanswered in [None, Some("Three?".to_owned())] {
            said.unanswered = unanswered;
            said.save(&path, SaveFormat::Json, Existing::Replaced, Some("d20")).unwrap();
            assert_eq!(Transcript::load(&path).unwrap(), said);
        }
        let kept = said.save(&path, SaveFormat::Markdown, Existing::Kept, None).unwrap_err();
        assert!(kept.contains("exists already; /save! "), "{kept}");
        assert_eq!(Transcript::load(&path).unwrap(), said);
        said.unanswered = None;
        said.save(&path, SaveFormat::Markdown, Existing::Replaced, Some("d20")).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("## System\n\nBe brief.\n\n## You\n\nOne?\n\n## d20\n\n1"), "{text}");
        assert!(Transcript::load(&path).unwrap_err().contains("is no conversation in JSON"));
    }

    #[test]
    fn what_is_no_conversation_is_refused_at_its_place() {
        let of = |value: Value| Transcript::of(value.as_array().unwrap(), "/messages").unwrap_err();
        let robot = of(json!([{ "role": "user", "content": "x" }, { "role": "robot", "content": "x" }]));
        assert!(robot.contains("/messages/1/role") && robot.contains("\"robot\""), "{robot}");
        assert!(of(json!([{ "role": "user", "content": "" }])).contains("/messages/0/content"));
        assert!(
            of(json!([{ "role": "user", "content": "x" }, { "role": "system", "content": "x" }]))
                .contains("1/role")
        );
        assert!(Transcript::load(Path::new("/nowhere/talk.json")).unwrap_err().contains("could not be read"));
    }

    #[test]
    fn exchanges_are_undone_from_the_end() {
        let mut said = conversation();
        assert_eq!(said.question("Three?").as_array().unwrap().len(), 6);
        said.unanswered = Some("Three?".to_owned());
        assert_eq!(said.undo().as_deref(), Some("Three?"));
        assert_eq!(said.undo().as_deref(), Some("Two\nlines?"));
        assert_eq!((said.len(), said.undo().as_deref(), said.undo()), (2, Some("One?"), None));
        assert_eq!(said.system.as_deref(), Some("Be brief."));
    }
}
