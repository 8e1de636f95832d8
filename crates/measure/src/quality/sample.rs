//! The text to measure on: conversations and prose that the built-in model was not trained on, and questions of the
//! kinds that it was made for.

use anyhow::{Context as _, bail};
use serde_json::Value;
use serving::LoadedModel;
use tokenizer::{Message, Role};

use crate::place;

const CHAT: &str = "goldens/quality/chat.jsonl";
const OWN_KIND: &str = "goldens/quality/own_kind.jsonl";
const TEXT: &str = "goldens/quality/text.txt";
/// Fewer prompts of a file than these say nothing about shares.
const MIN_PROMPTS: usize = 100;

/// Longest answer, the token that ends it included.
pub(crate) const ANSWER_TOKENS: usize = 64;

/// Which kind of text a document is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TextKind {
    Chat,
    Text,
}

/// At most a context full of tokens, the first of which is BOS.
pub(crate) struct Document {
    pub(crate) part: TextKind,
    pub(crate) tokens: Vec<u32>,
    /// Whether a token is one that a model is asked to foretell, for each of them.
    pub(crate) scored: Vec<bool>,
}

/// Everything that is measured on.
pub(crate) struct Sample {
    pub(crate) documents: Vec<Document>,
    /// Conversations up to where the assistant's last answer begins: the small talk, then those of its own kind.
    pub(crate) prompts: Vec<Vec<u32>>,
    /// How many prompts are small talk.
    pub(crate) small_talk: usize,
}

type Conversation = Vec<(Role, String)>;

impl Sample {
    /// Reads the files and cuts them to the model's context.
    pub(crate) fn read(model: &LoadedModel) -> anyhow::Result<Self> {
        let chat = conversations(CHAT)?;
        let mut prompts = prompts(model, CHAT, &chat)?;
        let small_talk = prompts.len();
        prompts.extend(self::prompts(model, OWN_KIND, &conversations(OWN_KIND)?)?);
        let documents = chat.iter().map(|conversation| Document::chat(model, conversation));
        let mut documents = documents.collect::<anyhow::Result<Vec<_>>>()?;
        let ids = model.tokenizer.encode(&read(TEXT)?);
        let chunks = ids.chunks(model.weights.config.sequence_len - 1);
        documents.extend(chunks.map(|ids| Document::text(model.chat.bos, ids)));
        Ok(Self { documents, prompts, small_talk })
    }

    /// Tokens that are scored, of chat and of text.
    pub(crate) fn scored(&self) -> [usize; 2] {
        [TextKind::Chat, TextKind::Text].map(|part| {
            let documents = self.documents.iter().filter(|document| document.part == part);
            documents.map(|document| document.scored.iter().filter(|scored| **scored).count()).sum()
        })
    }
}

impl Document {
    /// A conversation. The tokens that begin a turn are given, as they are to a server, and not scored.
    fn chat(model: &LoadedModel, conversation: &Conversation) -> anyhow::Result<Self> {
        let mut tokens = render(model, conversation)?;
        tokens.truncate(model.weights.config.sequence_len);
        let marks = model.chat.messages.context("the model takes no messages")?;
        let given = [model.chat.bos, marks.user_start, marks.assistant_start];
        let scored = tokens.iter().map(|token| !given.contains(token)).collect();
        Ok(Self { part: TextKind::Chat, tokens, scored })
    }

    fn text(bos: u32, ids: &[u32]) -> Self {
        let tokens = [&[bos], ids].concat();
        let scored = (0..tokens.len()).map(|i| i > 0).collect();
        Self { part: TextKind::Text, tokens, scored }
    }
}

fn read(path: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(place::root().join(path)).with_context(|| path.to_owned())
}

/// Every conversation of a file.
fn conversations(path: &str) -> anyhow::Result<Vec<Conversation>> {
    let parse = |(i, line)| conversation(line).with_context(|| format!("{path}, line {}", i + 1));
    read(path)?.lines().enumerate().map(parse).collect()
}

/// The prompts of a file's conversations that leave room for an answer.
fn prompts(model: &LoadedModel, path: &str, conversations: &[Conversation]) -> anyhow::Result<Vec<Vec<u32>>> {
    let mut prompts = Vec::new();
    for conversation in conversations {
        let asked = conversation.iter().rposition(|(role, _)| *role == Role::User).map_or(0, |last| last + 1);
        let prompt = render(model, &conversation[..asked])?;
        if prompt.len() + ANSWER_TOKENS <= model.weights.config.sequence_len {
            prompts.push(prompt);
        }
    }
    if prompts.len() < MIN_PROMPTS {
        bail!("{path} gives {} prompts that fit the context, {MIN_PROMPTS} are needed", prompts.len());
    }
    Ok(prompts)
}

fn render(model: &LoadedModel, conversation: &[(Role, String)]) -> anyhow::Result<Vec<u32>> {
    let messages: Vec<Message<'_>> =
        conversation.iter().map(|(role, content)| Message { role: *role, content }).collect();
    Ok(model.chat.render(&model.tokenizer, &messages, None)?.ids)
}

fn conversation(line: &str) -> anyhow::Result<Conversation> {
    let parsed: Value = serde_json::from_str(line)?;
    let messages = parsed["messages"].as_array().context("there are no messages")?;
    let message = |message: &Value| {
        let role = match message["role"].as_str() {
            Some("user") => Role::User,
            Some("assistant") => Role::Assistant,
            other => bail!("the role {other:?} is not known"),
        };
        Ok((role, message["content"].as_str().context("a message has no text")?.to_owned()))
    };
    messages.iter().map(message).collect()
}
