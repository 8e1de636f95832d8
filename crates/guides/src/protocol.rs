//! What the server and its worker say to each other, in frames.

use tokenizer::Vocabulary;

use crate::frame::{self, Fields};

/// The byte on the worker's socket, and the first of a message to a forked process: a process for a grammar, or a copy of an
/// answer.
pub(crate) const FORK: u8 = b'+';
/// The first byte of a message to a forked process that asks for the sets of an answer.
pub(crate) const SETS: u8 = b'?';
/// What a forked process says of its grammar.
pub(crate) const READ: u8 = 1;
pub(crate) const REFUSED: u8 = 0;
/// The number of sets of an answer that cannot be followed any further.
pub(crate) const LOST: u32 = u32::MAX;

/// What the server says first.
pub(crate) struct Start {
    /// Bytes of address space for a grammar.
    pub(crate) memory_bytes: u64,
    /// Seconds of CPU time to read it.
    pub(crate) cpu_seconds: u32,
    /// The token that ends an answer.
    pub(crate) end: u32,
    /// The model's tokens.
    pub(crate) vocabulary: Vocabulary,
}

impl Start {
    pub(crate) fn write(&self) -> Vec<u8> {
        let Vocabulary { pattern, ranks, special, merges } = &self.vocabulary;
        let mut payload = self.memory_bytes.to_le_bytes().to_vec();
        frame::push_list(&mut payload, &[self.cpu_seconds, self.end]);
        frame::push_bytes(&mut payload, pattern.as_bytes());
        for (bytes, id) in frame::push_count(&mut payload, ranks) {
            frame::push(&mut payload, *id);
            frame::push_bytes(&mut payload, bytes);
        }
        for (name, id) in frame::push_count(&mut payload, special) {
            frame::push(&mut payload, *id);
            frame::push_bytes(&mut payload, name.as_bytes());
        }
        frame::push(&mut payload, u32::from(merges.is_some()));
        for (left, right) in frame::push_count(&mut payload, merges.as_deref().unwrap_or_default()) {
            frame::push(&mut payload, *left);
            frame::push(&mut payload, *right);
        }
        payload
    }

    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let mut fields = Fields(payload);
        let memory_bytes = u64::from_le_bytes(fields.bytes(8)?.try_into().ok()?);
        let [cpu_seconds, end] = fields.list()?[..] else { return None };
        let pattern = fields.text()?;
        let ranks = fields.each(|fields| {
            let id = fields.number()?;
            Some((fields.byte_string()?.to_vec(), id))
        })?;
        let special = fields.each(|fields| {
            let id = fields.number()?;
            Some((fields.text()?, id))
        })?;
        let has_merges = fields.number()? == 1;
        let merges = fields.each(|fields| Some((fields.number()?, fields.number()?)))?;
        let vocabulary = Vocabulary { pattern, ranks, special, merges: has_merges.then_some(merges) };
        Some(Self { memory_bytes, cpu_seconds, end, vocabulary })
    }
}
