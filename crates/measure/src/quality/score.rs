//! Likelihood of given text: every model reads the same tokens side by side, so that distributions can be compared
//! where they arise and none has to be kept.

use cpu::{Compute, KvCache, KvLayout, Session};
use engine::backend::{BatchItem, LogitRows, PAGE};
use serving::LoadedModel;

use super::sample::{Document, TextKind};

/// Positions of one pass: bounds the logits in memory, and changes no result.
const CHUNK: usize = 128;

/// One model's figures over all documents.
#[derive(Default)]
pub(crate) struct Score {
    /// Tokens and their summed negative log-likelihood, of chat and of text.
    tokens: [usize; 2],
    nll: [f64; 2],
    /// Sums of the difference to the reference and of its square.
    delta: f64,
    delta_squares: f64,
    kl: f64,
    same_top: usize,
}

/// A row of logits as a distribution.
struct Distribution<'a> {
    logits: &'a [f32],
    /// What to take off a logit to have its log-likelihood.
    log_sum: f64,
}

impl<'a> Distribution<'a> {
    fn new(logits: &'a [f32]) -> Self {
        let most = logits[top(logits)];
        let sum: f64 = logits.iter().map(|logit| f64::from((logit - most).exp())).sum();
        Self { logits, log_sum: f64::from(most) + sum.ln() }
    }

    fn nll(&self, token: u32) -> f64 {
        self.log_sum - f64::from(self.logits[token as usize])
    }

    /// How far `other` is from this one, in nats.
    fn kl(&self, other: &Self) -> f64 {
        let pairs = self.logits.iter().zip(other.logits);
        let term = |(mine, theirs): (&f32, &f32)| {
            let (mine, theirs) = (f64::from(*mine) - self.log_sum, f64::from(*theirs) - other.log_sum);
            f64::from((mine as f32).exp()) * (mine - theirs)
        };
        pairs.map(term).sum()
    }
}

/// The likeliest token; the lower id of two that are equal.
pub(crate) fn top(logits: &[f32]) -> usize {
    let mut best = 0;
    for (i, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = i;
        }
    }
    best
}

/// Scores the documents with every model; the first is the reference.
pub(crate) fn score(models: &[LoadedModel], compute: &Compute, documents: &[Document]) -> Vec<Score> {
    let mut scores: Vec<Score> = models.iter().map(|_| Score::default()).collect();
    let mut sessions: Vec<(Session, Vec<Vec<u32>>)> = models.iter().map(session).collect();
    let mut reference = Vec::new();
    for document in documents {
        let tokens = &document.tokens;
        // Every token but the last is read to foretell the next.
        for position in (0..tokens.len() - 1).step_by(CHUNK) {
            let end = (position + CHUNK).min(tokens.len() - 1);
            for (i, (session, tables)) in sessions.iter_mut().enumerate() {
                let item = BatchItem {
                    tokens: &tokens[position..end],
                    history: &tokens[..position],
                    tables,
                    logits: LogitRows::All,
                };
                let logits = session.forward(compute, &models[i].weights, &[item]);
                if i == 0 {
                    reference.clear();
                    reference.extend_from_slice(logits);
                }
                scores[i].add(document, position, (logits, &reference));
            }
        }
    }
    scores
}

/// Room for one sequence of full length.
fn session(model: &LoadedModel) -> (Session, Vec<Vec<u32>>) {
    let config = &model.weights.config;
    let layout = KvLayout::new(config, model.weights.format);
    let (classes, pages) = (layout.classes.len(), config.sequence_len.div_ceil(PAGE));
    let session = Session::new(KvCache::new(&layout, &vec![pages; classes]));
    (session, vec![(0..pages as u32).collect(); classes])
}

impl Score {
    /// Adds the rows of logits from `position` on, beside the reference's.
    fn add(&mut self, document: &Document, position: usize, (logits, reference): (&[f32], &[f32])) {
        let part = usize::from(document.part == TextKind::Text);
        let targets = document.tokens.iter().zip(&document.scored).skip(position + 1);
        let width = logits.len() / (document.tokens.len() - 1 - position).min(CHUNK);
        let rows = logits.chunks_exact(width).zip(reference.chunks_exact(width));
        for ((own, reference), (token, _)) in rows.zip(targets).filter(|(_, (_, scored))| **scored) {
            let (own, reference) = (Distribution::new(own), Distribution::new(reference));
            let nll = own.nll(*token);
            let delta = nll - reference.nll(*token);
            self.tokens[part] += 1;
            self.nll[part] += nll;
            self.delta += delta;
            self.delta_squares += delta * delta;
            self.kl += reference.kl(&own);
            self.same_top += usize::from(top(own.logits) == top(reference.logits));
        }
    }

    fn n(&self) -> f64 {
        self.tokens.iter().sum::<usize>() as f64
    }

    /// Mean negative log-likelihood of a token, of chat and of text.
    pub(crate) fn parts(&self) -> [f64; 2] {
        [0, 1].map(|part| self.nll[part] / self.tokens[part] as f64)
    }

    /// The same over all tokens.
    pub(crate) fn nll(&self) -> f64 {
        self.nll.iter().sum::<f64>() / self.n()
    }

    /// How much more than the reference's it is.
    pub(crate) fn delta(&self) -> f64 {
        self.delta / self.n()
    }

    /// Standard error of that difference, as if tokens were independent.
    pub(crate) fn delta_error(&self) -> f64 {
        let variance = self.delta_squares / self.n() - self.delta().powi(2);
        (variance.max(0.0) / self.n()).sqrt()
    }

    /// Mean divergence from the reference's distribution, in nats.
    pub(crate) fn kl(&self) -> f64 {
        self.kl / self.n()
    }

    /// Share of tokens before which both have the same likeliest one.
    pub(crate) fn same_top(&self) -> f64 {
        self.same_top as f64 / self.n()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_distributions_over_two_tokens() {
        let even = Distribution::new(&[3.0, 3.0]);
        let odds = [0.0, 3.0f32.ln()];
        let uneven = Distribution::new(&odds);
        assert!((even.nll(0) - 2f64.ln()).abs() < 1e-6 && (uneven.nll(0) - 4f64.ln()).abs() < 1e-6);
        // 0.5 ln(0.5 / 0.25) + 0.5 ln(0.5 / 0.75)
        assert!((even.kl(&uneven) - 0.5 * (4f64 / 3.0).ln()).abs() < 1e-6);
        assert!(even.kl(&even).abs() < 1e-9);
        assert_eq!((top(even.logits), top(uneven.logits)), (0, 1));
    }

    #[test]
    fn a_document_is_scored_where_it_asks_for_it() {
        let document =
            Document { part: TextKind::Text, tokens: vec![0, 1, 0], scored: vec![false, true, false] };
        let mut score = Score::default();
        score.add(&document, 0, (&[0.0, 3.0f32.ln(), 9.0, 0.0], &[0.0, 0.0, 0.0, 9.0]));
        assert_eq!((score.tokens, score.same_top), ([0, 1], 0));
        // Three quarters against one half.
        assert!((score.delta() - (0.5f64 / 0.75).ln()).abs() < 1e-6);
    }
}
