//! The text to measure on: conversations and prose that the built-in model was not trained on.

use anyhow::{Context as _, bail};
use model::Config;
use registry::LoadedModel;
use serde_json::Value;
use tokenizer::{Message, Role, Tokenizer};

use super::greedy::ANSWER_TOKENS;
use crate::shell;

const CHAT: &str = "goldens/quality/chat.jsonl";
const TEXT: &str = "goldens/quality/text.txt";
/// Fewer prompts than these say nothing about shares.
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
    /// Conversations up to where the assistant's last answer begins.
    pub(crate) prompts: Vec<Vec<u32>>,
}

type Conversation = Vec<(Role, String)>;

impl Sample {
    /// Reads the files and cuts them to the model's context.
    pub(crate) fn read(model: &LoadedModel) -> anyhow::Result<Self> {
        let (tokenizer, config) = (&*model.tokenizer, &model.weights.config);
        let chat = std::fs::read_to_string(shell::root().join(CHAT)).context(CHAT)?;
        let text = std::fs::read_to_string(shell::root().join(TEXT)).context(TEXT)?;
        let (mut documents, mut prompts) = (Vec::new(), Vec::new());
        for (i, line) in chat.lines().enumerate() {
            let conversation = conversation(line).with_context(|| format!("{CHAT}, line {}", i + 1))?;
            documents.push(Document::chat(tokenizer, config, &conversation)?);
            let asked =
                conversation.iter().rposition(|(role, _)| *role == Role::User).map_or(0, |last| last + 1);
            let prompt = render(tokenizer, &conversation[..asked])?;
            if prompt.len() + ANSWER_TOKENS <= config.sequence_len {
                prompts.push(prompt);
            }
        }
        if prompts.len() < MIN_PROMPTS {
            bail!("{CHAT} gives {} prompts that fit the context, {MIN_PROMPTS} are needed", prompts.len());
        }
        let ids = tokenizer.encode(&text);
        documents.extend(ids.chunks(config.sequence_len - 1).map(|ids| Document::text(tokenizer, ids)));
        Ok(Self { documents, prompts })
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
