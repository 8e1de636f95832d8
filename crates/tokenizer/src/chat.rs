//! Conversations into prompts, as nanochat renders them in training, cut to a budget by whole turns.
//! What is decided about truncation is on [`Tokenizer::render_chat`]. Roles and sizes are the server's to check.

use crate::Tokenizer;

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

pub(crate) fn render(
    tokenizer: &Tokenizer,
    messages: &[Message<'_>],
    prompt_budget: Option<usize>,
) -> Result<RenderedChat, ChatError> {
    if !tokenizer.special().has_chat() {
        return Err(ChatError::NoChatTokens);
    }
    let chat = Chat::new(tokenizer, messages)?;
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

/// A checked conversation, its messages but for the system text already encoded.
struct Chat<'a> {
    tokenizer: &'a Tokenizer,
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
    fn new(tokenizer: &'a Tokenizer, messages: &'a [Message<'a>]) -> Result<Chat<'a>, ChatError> {
        let system = leading_system(messages)?;
        let mut chat = Chat { tokenizer, messages, system, ids: Vec::new(), turns: Vec::new() };
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
        let special = self.tokenizer.special();
        match role {
            Role::System | Role::User => (special.user_start, special.user_end),
            Role::Assistant => (special.assistant_start, special.assistant_end),
        }
    }

    /// Length of the prompt from this turn on, without the system text.
    fn len_from(&self, turn: &Turn) -> usize {
        self.ids.len() - turn.start + N_FRAME_IDS
    }

    /// The prompt of `head` and the encoded messages from `start` on.
    fn frame(&self, head: &[u32], start: usize) -> Vec<u32> {
        let special = self.tokenizer.special();
        [&[special.bos], head, &self.ids[start..], &[special.assistant_start]].concat()
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
