//! The metrics of one answer, taken from the times of the engine's steps: what a slow reader or socket adds is not the
//! engine's.

use std::time::{Duration, Instant};

use engine::{Output, Timeline};

use super::Metrics;

/// Observes the outputs of one answer.
pub(crate) struct AnswerMetrics {
    /// When its request had been read.
    begun: Instant,
    prompt_tokens: usize,
    last_token: Option<Instant>,
    tokens: u64,
}

impl AnswerMetrics {
    pub(crate) fn new(begun: Instant, prompt_tokens: usize) -> Self {
        Self { begun, prompt_tokens, last_token: None, tokens: 0 }
    }

    /// Observes an output and the times up to it.
    pub(crate) fn observe(&mut self, output: &Output, timeline: &Timeline, metrics: &Metrics) {
        match output {
            Output::Admitted => metrics.requests.admitted(self.prompt_tokens, self.queue(timeline)),
            Output::Tokens(tokens) => self.tokens(tokens.len(), timeline, metrics),
            Output::Finished { .. } => self.finished(timeline, metrics),
            Output::Text(_) | Output::Failed(_) => {}
        }
    }

    /// From the reading of the request to its admission.
    fn queue(&self, timeline: &Timeline) -> Duration {
        timeline.admitted.map_or(Duration::ZERO, |admitted| admitted.duration_since(self.begun))
    }

    fn tokens(&mut self, count: usize, timeline: &Timeline, metrics: &Metrics) {
        let requests = &metrics.requests;
        requests.tokens.inc_by(count as u64);
        metrics.token_rate.add(count as u64);
        let Some(at) = timeline.last_token else { return };
        match self.share(at, count) {
            // The first token has a time of its own.
            None => {
                let took = at.duration_since(self.begun);
                requests.first_token_seconds.observe(took.as_secs_f64());
                requests.prefill_seconds.observe(took.saturating_sub(self.queue(timeline)).as_secs_f64());
                metrics.first_token.add(at, took);
            }
            Some(share) => {
                let during_swap = metrics.weights.are_on_their_way();
                for _ in 0..count {
                    requests.inter_token_seconds.observe(share.as_secs_f64());
                    if during_swap {
                        requests.inter_token_during_swap_seconds.observe(share.as_secs_f64());
                    }
                    metrics.inter_token.add(at, share);
                }
            }
        }
        self.tokens += count as u64;
    }

    /// The share of each token of a step in the time since the last one; none with the first step.
    fn share(&mut self, at: Instant, count: usize) -> Option<Duration> {
        let last = self.last_token.replace(at);
        last.map(|last| at.duration_since(last) / count.max(1) as u32)
    }

    fn finished(&self, timeline: &Timeline, metrics: &Metrics) {
        let Some(finished) = timeline.finished else { return };
        let requests = &metrics.requests;
        let whole = finished.duration_since(self.begun);
        requests.whole_seconds.observe(whole.as_secs_f64());
        requests.answer_size.observe(self.tokens as f64);
        let (Some(first), Some(last)) = (timeline.first_token, timeline.last_token) else {
            requests.prefill_seconds.observe(whole.saturating_sub(self.queue(timeline)).as_secs_f64());
            requests.decode_seconds.observe(0.0);
            return;
        };
        requests.decode_seconds.observe(finished.duration_since(first).as_secs_f64());
        if self.tokens > 1 {
            let mean = last.duration_since(first).as_secs_f64() / (self.tokens - 1) as f64;
            requests.per_output_token_seconds.observe(mean);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn tokens_of_one_step_share_the_time_since_the_last_one() {
        let begun = clock::now();
        let mut answer = AnswerMetrics::new(begun, 3);
        let mut shares = Vec::new();
        for (ms, tokens) in [(100, 1), (130, 3), (140, 1), (180, 8)] {
            let share = answer.share(begun + Duration::from_millis(ms), tokens);
            shares.extend(std::iter::repeat_n(share, tokens));
        }
        let ms = |share: &Option<Duration>| share.map(|share| share.as_millis());
        let [first, gaps @ ..] = &shares[..] else { panic!("{shares:?}") };
        assert_eq!(ms(first), None, "the first token has a time of its own");
        assert!(gaps[..3].iter().all(|share| ms(share) == Some(10)), "{gaps:?}");
        let sum: Duration = gaps.iter().flatten().sum();
        assert_eq!((gaps.len(), sum), (12, Duration::from_millis(80)), "all of the time, and no more");
    }
}
