//! Greedy answers, and how far two sets of them are the same.

use std::sync::Arc;

use cpu::{Compute, KvCache, KvLayout, Session};
use engine::Guide as _;
use engine::backend::{BatchItem, LogitRows, PAGE};
use guides::Calculator;
use serving::LoadedModel;

use super::sample::ANSWER_TOKENS;
use super::score::top;

/// Prompts answered at a time: bounds the keys and values in memory, and changes no result.
const BATCH: usize = 16;

/// A sequence on its way.
struct GreedySequence {
    tokens: Vec<u32>,
    prompt: usize,
    /// Tokens that were read.
    read: usize,
    tables: Vec<Vec<u32>>,
    calculator: Option<Calculator>,
}

impl GreedySequence {
    /// What is to be read of it.
    fn item(&self) -> BatchItem<'_> {
        let (history, tokens) = self.tokens.split_at(self.read);
        BatchItem { tokens, history, tables: &self.tables, logits: LogitRows::Last }
    }
}

/// One answer a prompt. The calculator's results are put into it as a server does: what the model would say in their
/// place nobody ever sees.
pub(crate) fn answers(model: &LoadedModel, compute: &Compute, prompts: &[Vec<u32>]) -> Vec<Vec<u32>> {
    let config = &model.weights.config;
    let layout = KvLayout::new(config, model.weights.format);
    let (classes, pages) = (layout.classes.len(), config.sequence_len.div_ceil(PAGE));
    let mut session = Session::new(KvCache::new(&layout, &vec![BATCH * pages; classes]));
    let mut answers = Vec::new();
    for prompts in prompts.chunks(BATCH) {
        let begin = |(i, prompt): (usize, &Vec<u32>)| {
            let first = i * pages;
            let table = (first as u32..(first + pages) as u32).collect();
            let calculator =
                model.chat.calculator.map(|tokens| Calculator::new(Arc::clone(&model.tokenizer), tokens));
            let tables = vec![table; classes];
            GreedySequence { tokens: prompt.clone(), prompt: prompt.len(), read: 0, tables, calculator }
        };
        let mut batch: Vec<GreedySequence> = prompts.iter().enumerate().map(begin).collect();
        while step(model, compute, (&mut session, &mut batch)) {}
        answers.extend(batch.into_iter().map(|sequence| sequence.tokens[sequence.prompt..].to_vec()));
    }
    answers
}

/// Adds a token to every answer that goes on; whether there was one.
fn step(
    model: &LoadedModel,
    compute: &Compute,
    (session, batch): (&mut Session, &mut [GreedySequence]),
) -> bool {
    let mut going: Vec<&mut GreedySequence> = batch
        .iter_mut()
        .filter(|sequence| {
            let answer = &sequence.tokens[sequence.prompt..];
            let has_ended = answer.last().is_some_and(|last| model.chat.stop_tokens.contains(last));
            answer.len() < ANSWER_TOKENS && !has_ended
        })
        .collect();
    if going.is_empty() {
        return false;
    }
    let rows: Vec<BatchItem<'_>> = going.iter().map(|sequence| sequence.item()).collect();
    let logits = session.forward(compute, &model.weights, &rows);
    for (sequence, logits) in going.iter_mut().zip(logits.chunks_exact(model.weights.config.vocab_size)) {
        sequence.read = sequence.tokens.len();
        let forced = sequence.calculator.as_ref().and_then(|calculator| calculator.forced().first());
        let token = forced.copied().unwrap_or(top(logits) as u32);
        if let Some(calculator) = &mut sequence.calculator {
            calculator.accept(token);
        }
        sequence.tokens.push(token);
    }
    true
}

/// How far answers agree with a reference's.
pub(crate) struct Agreement {
    answers: usize,
    equal: usize,
    leading: f64,
}

impl Agreement {
    /// Compares answer by answer.
    pub(crate) fn of(reference: &[Vec<u32>], given: &[Vec<u32>]) -> Self {
        let mut agreement = Self { answers: reference.len(), equal: 0, leading: 0.0 };
        for (expected, found) in reference.iter().zip(given) {
            let leading = expected.iter().zip(found).take_while(|(a, b)| a == b).count();
            agreement.equal += usize::from(expected == found);
            agreement.leading += leading as f64 / expected.len().max(found.len()).max(1) as f64;
        }
        agreement
    }

    /// Share of answers that are the same in full.
    pub(crate) fn equal(&self) -> f64 {
        self.equal as f64 / self.answers as f64
    }

    /// Mean share of an answer's tokens before the two part; of the longer one.
    pub(crate) fn leading(&self) -> f64 {
        self.leading / self.answers as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_agree_up_to_where_they_part() {
        let reference = [vec![1, 2, 3, 4], vec![5, 6], vec![7]];
        let given = [vec![1, 2, 9, 4], vec![5, 6], vec![7, 8]];
        let agreement = Agreement::of(&reference, &given);
        assert!((agreement.equal() - 1.0 / 3.0).abs() < 1e-9);
        assert!((agreement.leading() - (0.5 + 1.0 + 0.5) / 3.0).abs() < 1e-9);
    }
}
