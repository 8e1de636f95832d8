//! The clock of one answer. It runs on the engine's thread and is read at the engine's steps: what a slow reader or
//! socket adds is not the engine's.

use std::time::{Duration, Instant};

use engine::StreamEvent;

use super::Metrics;
use crate::clock;

/// When what happened to a request.
pub(crate) struct StreamClock {
    begun: Instant,
    submitted: Instant,
    prompt_tokens: usize,
    /// From `begun` to admission.
    queue: Duration,
    first_token: Option<Instant>,
    last_token: Option<Instant>,
    /// The share of each token that comes with this step in the time since the last one; none with the first step.
    share: Option<Duration>,
    tokens: u64,
}

impl StreamClock {
    /// The clock of a request that is about to be given to an engine.
    pub(crate) fn new(begun: Instant, prompt_tokens: usize) -> Self {
        Self {
            begun,
            submitted: clock::now(),
            prompt_tokens,
            queue: Duration::ZERO,
            first_token: None,
            last_token: None,
            share: None,
            tokens: 0,
        }
    }

    /// The request waited so long in the engine's queue.
    pub(crate) fn waited(&mut self, queue: Duration, metrics: &Metrics) {
        self.queue = self.submitted.duration_since(self.begun) + queue;
        metrics.requests.admitted(self.prompt_tokens, self.queue);
    }

    /// So many tokens come with a step.
    pub(crate) fn tokens_come(&mut self, tokens: usize) {
        self.tokens_come_at(clock::now(), tokens);
    }

    fn tokens_come_at(&mut self, now: Instant, tokens: usize) {
        self.share = self.last_token.map(|last| now.duration_since(last) / tokens.max(1) as u32);
        self.last_token = Some(now);
    }

    /// An event is on its way to the caller.
    pub(crate) fn heard(&mut self, event: &StreamEvent, metrics: &Metrics) {
        match event {
            StreamEvent::Token { .. } => self.token(metrics),
            StreamEvent::Finished { .. } => self.finished(metrics),
            StreamEvent::Admitted | StreamEvent::Text(_) | StreamEvent::Failed(_) => {}
        }
    }

    fn token(&mut self, metrics: &Metrics) {
        self.tokens += 1;
        metrics.requests.tokens.inc();
        metrics.token_rate.add(1);
        let times = &metrics.requests.times;
        if self.first_token.is_none() {
            let now = self.last_token.unwrap_or_else(clock::now);
            self.first_token = Some(now);
            let took = now.duration_since(self.begun);
            times.first_token.observe(took.as_secs_f64());
            times.prefill.observe(took.saturating_sub(self.queue).as_secs_f64());
            metrics.first_token.add(now, took);
        } else if let (Some(share), Some(at)) = (self.share, self.last_token) {
            times.inter_token.observe(share.as_secs_f64());
            if metrics.weights.are_on_their_way() {
                times.inter_token_during_swap.observe(share.as_secs_f64());
            }
            metrics.inter_token.add(at, share);
        }
    }

    fn finished(&self, metrics: &Metrics) {
        let now = clock::now();
        let times = &metrics.requests.times;
        let whole = now.duration_since(self.begun);
        times.whole.observe(whole.as_secs_f64());
        metrics.requests.answer_size.observe(self.tokens as f64);
        let Some(first) = self.first_token else {
            times.prefill.observe(whole.saturating_sub(self.queue).as_secs_f64());
            times.decode.observe(0.0);
            return;
        };
        times.decode.observe(now.duration_since(first).as_secs_f64());
        if let Some(last) = self.last_token.filter(|_| self.tokens > 1) {
            let mean = last.duration_since(first).as_secs_f64() / (self.tokens - 1) as f64;
            times.per_output_token.observe(mean);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_one_step_share_the_time_since_the_last_one() {
        let begun = clock::now();
        let mut clock = StreamClock::new(begun, 3);
        let mut shares = Vec::new();
        for (ms, tokens) in [(100, 1), (130, 3), (140, 1), (180, 8)] {
            clock.tokens_come_at(begun + Duration::from_millis(ms), tokens);
            shares.extend(std::iter::repeat_n(clock.share, tokens));
        }
        let ms = |share: &Option<Duration>| share.map(|share| share.as_millis());
        let [first, gaps @ ..] = &shares[..] else { panic!("{shares:?}") };
        assert_eq!(ms(first), None, "the first token has a time of its own");
        assert!(gaps[..3].iter().all(|share| ms(share) == Some(10)), "{gaps:?}");
        let sum: Duration = gaps.iter().flatten().sum();
        assert_eq!((gaps.len(), sum), (12, Duration::from_millis(80)), "all of the time, and no more");
    }
}
