//! The text to measure on: conversations and prose that the built-in model was not trained on, and questions of the
//! kinds that it was made for.

use anyhow::{Context as _, bail};
use model::Config;
use registry::LoadedModel;
use serde_json::Value;
use tokenizer::{Message, Role, Tokenizer};

use super::greedy::ANSWER_TOKENS;
use crate::place;

const CHAT: &str = "goldens/quality/chat.jsonl";
const OWN_KIND: &str = "goldens/quality/own_kind.jsonl";
const TEXT: &str = "goldens/quality/text.txt";
/// Fewer prompts of a file than these say nothing about shares.
const MIN_PROMPTS: usize = 100;

/// Which kind of text a document is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    Chat,
    Text,
}

/// At most a context full of tokens, the first of which is BOS.
pub(crate) struct Document {
    pub(crate) part: Part,
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
        let (tokenizer, config) = (&*model.tokenizer, &model.weights.config);
        let chat = conversations(CHAT)?;
        let mut prompts = prompts(model, CHAT, &chat)?;
        let small_talk = prompts.len();
        prompts.extend(self::prompts(model, OWN_KIND, &conversations(OWN_KIND)?)?);
        let documents = chat.iter().map(|conversation| Document::chat(tokenizer, config, conversation));
        let mut documents = documents.collect::<anyhow::Result<Vec<_>>>()?;
        let ids = tokenizer.encode(&read(TEXT)?);
        documents.extend(ids.chunks(config.sequence_len - 1).map(|ids| Document::text(tokenizer, ids)));
        Ok(Self { documents, prompts, small_talk })
    }

    /// Tokens that are scored, of chat and of text.
    pub(crate) fn scored(&self) -> [usize; 2] {
        [Part::Chat, Part::Text].map(|part| {
            let documents = self.documents.iter().filter(|document| document.part == part);
            documents.map(|document| document.scored.iter().filter(|scored| **scored).count()).sum()
        })
    }
}

impl Document {
    /// A conversation. The tokens that begin a turn are given, as they are to a server, and not scored.
    fn chat(tokenizer: &Tokenizer, config: &Config, conversation: &Conversation) -> anyhow::Result<Self> {
        let mut tokens = render(tokenizer, conversation)?;
        tokens.truncate(config.sequence_len);
        let special = tokenizer.special();
        let given = [special.bos, special.user_start, special.assistant_start];
        let scored = tokens.iter().map(|token| !given.contains(token)).collect();
        Ok(Self { part: Part::Chat, tokens, scored })
    }

    fn text(tokenizer: &Tokenizer, ids: &[u32]) -> Self {
        let tokens = [&[tokenizer.special().bos], ids].concat();
        let scored = (0..tokens.len()).map(|i| i > 0).collect();
        Self { part: Part::Text, tokens, scored }
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
        let prompt = render(&model.tokenizer, &conversation[..asked])?;
        if prompt.len() + ANSWER_TOKENS <= model.weights.config.sequence_len {
            prompts.push(prompt);
        }
    }
    if prompts.len() < MIN_PROMPTS {
        bail!("{path} gives {} prompts that fit the context, {MIN_PROMPTS} are needed", prompts.len());
    }
    Ok(prompts)
}

fn render(tokenizer: &Tokenizer, conversation: &[(Role, String)]) -> anyhow::Result<Vec<u32>> {
    let messages: Vec<Message<'_>> =
        conversation.iter().map(|(role, content)| Message { role: *role, content }).collect();
    Ok(tokenizer.render_chat(&messages, None)?.ids)
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
