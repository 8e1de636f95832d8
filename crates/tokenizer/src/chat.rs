//! How a model's conversations are written as tokens, cut to a budget by whole turns. Data beside the tokenizer: a tokenizer
//! needs none of it. Roles and sizes are the server's to check.

use std::sync::Arc;

use crate::vocabulary::NANOCHAT_SPECIAL;
use crate::{Error, Tokenizer};

/// How the prompts of a model begin, how its conversations are written, and which tokens end its answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatFormat {
    /// The token that begins a text.
    pub bos: u32,
    /// The tokens around messages; a base model has none and takes no conversations.
    pub messages: Option<MessageTokens>,
    /// The tokens around expressions that the calculator evaluates, and around its results.
    pub calculator: Option<CalculatorTokens>,
    /// The tokens that end an answer. A model that begins a new text has ended its answer too.
    pub stop_tokens: Arc<[u32]>,
}

/// The tokens around messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the id of nanochat's token with its name")]
pub struct MessageTokens {
    pub user_start: u32,
    pub user_end: u32,
    pub assistant_start: u32,
    pub assistant_end: u32,
}

/// The tokens around an expression and around its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the id of nanochat's token with its name")]
pub struct CalculatorTokens {
    pub python_start: u32,
    pub python_end: u32,
    pub output_start: u32,
    pub output_end: u32,
}

/// What the token that begins a text is called: by nanochat, and by autoresearch.
const BOS: [&str; 2] = ["<|bos|>", "<|reserved_0|>"];

impl ChatFormat {
    /// nanochat's format: its nine special tokens, or of a base model the one that begins a text and none of the others.
    pub fn nanochat(tokenizer: &Tokenizer) -> Result<Self, Error> {
        let [_, others @ ..] = NANOCHAT_SPECIAL;
        let bos = BOS.into_iter().find_map(|name| tokenizer.special(name));
        let bos = bos.ok_or(Error::MissingSpecial { name: BOS[0] })?;
        let ids = others.map(|name| tokenizer.special(name));
        let known: Vec<u32> = ids.iter().flatten().copied().collect();
        let Ok([user_start, user_end, assistant_start, assistant_end, rest @ ..]) =
            <[u32; 8]>::try_from(known)
        else {
            let missing = others.into_iter().zip(ids).find(|(_, id)| id.is_none()).map(|(name, _)| name);
            return match missing.filter(|_| ids.iter().any(Option::is_some)) {
                Some(name) => Err(Error::MissingSpecial { name }),
                None => Ok(Self { bos, messages: None, calculator: None, stop_tokens: [bos].into() }),
            };
        };
        let [python_start, python_end, output_start, output_end] = rest;
        Ok(Self {
            bos,
            messages: Some(MessageTokens { user_start, user_end, assistant_start, assistant_end }),
            calculator: Some(CalculatorTokens { python_start, python_end, output_start, output_end }),
            stop_tokens: [assistant_end, bos].into(),
        })
    }

    /// Renders a conversation as a prompt that ends where the assistant's reply begins.
    ///
    /// The ids are BOS, the messages each between their start and end tokens, then `assistant_start`.
    /// Roles need not alternate: messages are rendered in the order given. A leading system message
    /// must be followed by a user message and becomes the head of its text, with a blank line between.
    ///
    /// A format without tokens for messages gives [`ChatError::NoChatTokens`].
    ///
    /// With a `prompt_budget` in tokens the oldest turns are left out until the prompt fits. A turn is a
    /// user message and everything up to the next user message; what comes before the first user message
    /// is a turn of its own. Decided here:
    /// - BOS and the last turn always stay; if they alone are over the budget, the result is
    ///   [`ChatError::TooLong`].
    /// - The system text outranks old turns. It moves to the first user message that is kept, and is left
    ///   out only when it does not fit beside the last turn; then as many turns as fit are kept without it.
    pub fn render(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message<'_>],
        prompt_budget: Option<usize>,
    ) -> Result<RenderedChat, ChatError> {
        let marks = self.messages.ok_or(ChatError::NoChatTokens)?;
        let chat = Chat::new(tokenizer, self.bos, marks, messages)?;
        let budget = prompt_budget.unwrap_or(usize::MAX);
        if let Some(system) = chat.system
            && let Some(rendered) = chat.fit_with_system(system, budget)
        {
            return Ok(rendered);
        }
        let first = chat.turns.partition_point(|turn| chat.len_from(turn) > budget);
        let Some(turn) = chat.turns.get(first) else {
            let tokens = chat.turns.last().map_or(N_FRAME_IDS, |turn| chat.len_from(turn));
            return Err(ChatError::TooLong { tokens, budget });
        };
        Ok(RenderedChat { ids: chat.frame(&[], turn.start), dropped_messages: turn.first_message })
    }
}

/// Who wrote a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions before the first user message.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// One message of a conversation. Its text never becomes a special token, whatever it spells.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Who wrote it.
    pub role: Role,
    /// What it says.
    pub content: &'a str,
}

/// A prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedChat {
    /// Token ids, from BOS to `assistant_start`.
    pub ids: Vec<u32>,
    /// How many of the messages are left out of `ids`, a system message among them.
    pub dropped_messages: usize,
}

/// Why a conversation has no prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChatError {
    /// The tokenizer is one of a base model: it has no tokens that begin and end messages.
    #[error("the tokenizer has no chat tokens")]
    NoChatTokens,
    /// There are no messages.
    #[error("the conversation has no messages")]
    NoMessages,
    /// A system message that is not first, or not followed by a user message.
    #[error("the system message at index {index} is not the first or not followed by a user message")]
    MisplacedSystem {
        /// Its place among the messages.
        index: usize,
    },
    /// BOS, the last turn and `assistant_start`, without any system text, are over the budget.
    #[error("the last turn needs {tokens} tokens, more than the {budget} there are")]
    TooLong {
        /// What they need.
        tokens: usize,
        /// The budget.
        budget: usize,
    },
}

/// BOS before the messages and `assistant_start` after them.
const N_FRAME_IDS: usize = 2;

/// A checked conversation, its messages but for the system text already encoded.
struct Chat<'a> {
    tokenizer: &'a Tokenizer,
    bos: u32,
    marks: MessageTokens,
    messages: &'a [Message<'a>],
    system: Option<&'a str>,
    /// The ids of all messages after the system message, one after the other, in their start and end tokens.
    ids: Vec<u32>,
    /// From oldest to newest; at least one.
    turns: Vec<Turn>,
}

/// A user message and all that follows it up to the next one, or what comes before the first of them.
struct Turn {
    /// Place of its first message in the conversation.
    first_message: usize,
    /// Where its first message starts in `Chat::ids`.
    start: usize,
    /// Where its first message ends in `Chat::ids`.
    first_end: usize,
}

impl<'a> Chat<'a> {
    fn new(
        tokenizer: &'a Tokenizer,
        bos: u32,
        marks: MessageTokens,
        messages: &'a [Message<'a>],
    ) -> Result<Chat<'a>, ChatError> {
        let system = leading_system(messages)?;
        let mut chat = Chat { tokenizer, bos, marks, messages, system, ids: Vec::new(), turns: Vec::new() };
        for (first_message, message) in messages.iter().enumerate().skip(usize::from(system.is_some())) {
            let start = chat.ids.len();
            let (open, close) = chat.marks(message.role);
            chat.ids.push(open);
            chat.ids.extend(tokenizer.encode(message.content));
            chat.ids.push(close);
            if chat.turns.is_empty() || message.role == Role::User {
                chat.turns.push(Turn { first_message, start, first_end: chat.ids.len() });
            }
        }
        Ok(chat)
    }

    /// The tokens around a message.
    fn marks(&self, role: Role) -> (u32, u32) {
        match role {
            Role::System | Role::User => (self.marks.user_start, self.marks.user_end),
            Role::Assistant => (self.marks.assistant_start, self.marks.assistant_end),
        }
    }

    /// Length of the prompt from this turn on, without the system text.
    fn len_from(&self, turn: &Turn) -> usize {
        self.ids.len() - turn.start + N_FRAME_IDS
    }

    /// The prompt of `head` and the encoded messages from `start` on.
    fn frame(&self, head: &[u32], start: usize) -> Vec<u32> {
        [&[self.bos], head, &self.ids[start..], &[self.marks.assistant_start]].concat()
    }

    /// The prompt with the system text and as many turns as fit, if it fits at all.
    ///
    /// Joining two texts can change the tokens at the seam, so the true length is known only by encoding. The
    /// lengths apart are a close estimate: the search starts there and walks to the border, instead of encoding
    /// the system text once for every turn.
    fn fit_with_system(&self, system: &str, budget: usize) -> Option<RenderedChat> {
        let head = format!("{system}\n\n");
        let head_len = self.tokenizer.encode(&head).len();
        let estimate = self.turns.partition_point(|turn| self.len_from(turn) + head_len > budget);
        let (before, after) = self.turns.split_at(estimate);
        before
            .iter()
            .rev()
            .map_while(|turn| self.merge_system(&head, turn, budget))
            .last()
            .or_else(|| after.iter().find_map(|turn| self.merge_system(&head, turn, budget)))
    }

    /// The prompt from this turn on with the system text at the head of its first message, if it fits.
    fn merge_system(&self, head: &str, turn: &Turn, budget: usize) -> Option<RenderedChat> {
        let (open, close) = self.marks(Role::User);
        let text = format!("{head}{}", self.messages[turn.first_message].content);
        let mut merged = vec![open];
        merged.extend(self.tokenizer.encode(&text));
        merged.push(close);
        let ids = self.frame(&merged, turn.first_end);
        // The system message is before the turn, and kept.
        (ids.len() <= budget).then_some(RenderedChat { ids, dropped_messages: turn.first_message - 1 })
    }
}

/// The text of a system message at the start, once it is known that there is none anywhere else.
fn leading_system<'a>(messages: &'a [Message<'a>]) -> Result<Option<&'a str>, ChatError> {
    let (first, rest) = messages.split_first().ok_or(ChatError::NoMessages)?;
    if let Some(at) = rest.iter().position(|message| message.role == Role::System) {
        return Err(ChatError::MisplacedSystem { index: at + 1 });
    }
    if first.role != Role::System {
        return Ok(None);
    }
    match rest.first() {
        Some(Message { role: Role::User, .. }) => Ok(Some(first.content)),
        _ => Err(ChatError::MisplacedSystem { index: 0 }),
    }
}
