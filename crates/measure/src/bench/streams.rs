//! An engine as a server starts it, and callers that note when each of their tokens came.

use std::cell::Cell;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use cpu::transformer::KvPlan;
use cpu::{Compute, Transformer};
use engine::{Handle, Limits, Output, Request, Sampling, Timeline};
use serving::LoadedModel;

use super::checkpoint::numbers::Numbers;
use super::clock;
use super::setup::Setup;

/// Bytes for keys and values: what the server sets aside if nothing is said.
pub(crate) const KV_BYTES: usize = 1 << 30;
/// The most that a stream may take; an engine that is slower than this is broken.
const PATIENCE: Duration = Duration::from_mins(5);
/// How often a caller who waits looks.
const LOOK: Duration = Duration::from_millis(1);

/// An engine with a model.
pub(crate) struct Service {
    handle: Handle,
    /// Ids that a prompt may have: all but the special ones.
    ordinary: u32,
    vocab_size: usize,
    /// Positions of the longest sequence.
    sequence_len: usize,
    /// Prompts so far. Each is another one, so that none was seen before.
    prompts: Cell<u64>,
}

impl Service {
    /// Starts an engine for a model, as the server does, but that it guesses at most so many tokens ahead: none where
    /// the figure shall not depend on what the text is.
    pub(crate) fn start(
        setup: &Setup,
        model: &LoadedModel,
        speculation_tokens: usize,
    ) -> anyhow::Result<Self> {
        let limits = Limits { speculation_tokens, ..Limits::default() }.checked();
        let (weights, tokenizer) = (Arc::clone(&model.weights), Arc::clone(&model.tokenizer));
        let (isa, threads) = (setup.isa, setup.threads);
        let plan = KvPlan::new(&weights.config, weights.format, KV_BYTES, limits.step_tokens);
        let handle = Handle::start("engine-bench", tokenizer, limits, move || {
            Transformer::new(Arc::clone(&weights), Compute::new(isa, threads), &plan)
        })?;
        let config = &model.weights.config;
        let ordinary = model.chat.bos;
        let (vocab_size, sequence_len) = (config.vocab_size, config.sequence_len);
        Ok(Self { handle, ordinary, vocab_size, sequence_len, prompts: Cell::new(0) })
    }

    /// A prompt that nobody had before.
    pub(crate) fn prompt(&self, tokens: usize) -> Vec<u32> {
        self.prompts.set(self.prompts.get() + 1);
        let mut numbers = Numbers::new(self.prompts.get());
        (0..tokens).map(|_| numbers.below(self.ordinary)).collect()
    }

    /// Asks for exactly `tokens` tokens, each the likeliest.
    pub(crate) fn ask(&self, prompt: Vec<u32>, tokens: usize) -> anyhow::Result<BenchStream> {
        let likeliest = Sampling { temperature: 0.0, ..Sampling::default() };
        self.ask_for(prompt, tokens, &likeliest, |request| request)
    }

    /// Asks for exactly `tokens` tokens, with what `add` adds to the request.
    pub(crate) fn ask_for(
        &self,
        prompt: Vec<u32>,
        tokens: usize,
        sampling: &Sampling,
        add: impl Fn(Request) -> Request,
    ) -> anyhow::Result<BenchStream> {
        let request = Request::new(prompt, tokens, sampling.clone(), self.vocab_size, self.sequence_len)
            .map_err(|why| anyhow::anyhow!("the engine cannot take this request: {why:?}"))?;
        let request = add(request);
        let came = Arc::new(Mutex::new(Vec::with_capacity(tokens)));
        let (tell, over) = sync_channel(1);
        let noted = Arc::clone(&came);
        let sink = move |output: Output, _: &Timeline| {
            match output {
                Output::Tokens(tokens) => {
                    let mut came = noted.lock().unwrap_or_else(PoisonError::into_inner);
                    came.extend(std::iter::repeat_n(clock::now(), tokens.len()));
                }
                Output::Finished { .. } => return tell.try_send(true).is_ok(),
                Output::Failed(_) => return tell.try_send(false).is_ok(),
                Output::Admitted | Output::Text(_) => {}
            }
            true
        };
        let asked = clock::now();
        let submitted = self.handle.submit(request, Box::new(sink));
        submitted.map_err(|why| anyhow::anyhow!("the engine refused a request: {why:?}"))?;
        Ok(BenchStream { asked, came, over, wanted: tokens })
    }

    /// Asks and waits for the end.
    pub(crate) fn answer(&self, prompt: Vec<u32>, tokens: usize) -> anyhow::Result<Times> {
        self.ask(prompt, tokens)?.finish()
    }
}

/// A request that is being answered.
pub(crate) struct BenchStream {
    asked: Instant,
    came: Arc<Mutex<Vec<Instant>>>,
    over: Receiver<bool>,
    wanted: usize,
}

impl BenchStream {
    /// Waits until so many tokens came.
    pub(crate) fn wait_for(&self, tokens: usize) -> anyhow::Result<()> {
        while self.came.lock().unwrap_or_else(PoisonError::into_inner).len() < tokens {
            if self.asked.elapsed() > PATIENCE {
                bail!("{tokens} tokens did not come in {} s", PATIENCE.as_secs());
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Waits for the end.
    pub(crate) fn finish(self) -> anyhow::Result<Times> {
        let complete = self.over.recv_timeout(PATIENCE).context("a stream did not end")?;
        let came = std::mem::take(&mut *self.came.lock().unwrap_or_else(PoisonError::into_inner));
        if !complete || came.len() != self.wanted {
            bail!("a stream ended after {} of {} tokens", came.len(), self.wanted);
        }
        Ok(Times { asked: self.asked, came })
    }
}

/// When a request was made and its tokens came.
pub(crate) struct Times {
    pub(crate) asked: Instant,
    pub(crate) came: Vec<Instant>,
}

impl Times {
    /// Seconds from the request to its first token.
    pub(crate) fn first(&self) -> f64 {
        (self.came[0] - self.asked).as_secs_f64()
    }

    /// Tokens per second after the first one.
    pub(crate) fn rate(&self) -> f64 {
        let span = self.came[self.came.len() - 1] - self.came[0];
        (self.came.len() - 1) as f64 / span.as_secs_f64()
    }

    /// Seconds between one token and the next, of those that came within a span of time.
    pub(crate) fn gaps(&self, (from, to): (Instant, Instant)) -> impl Iterator<Item = f64> {
        let pairs = self.came.windows(2).filter(move |pair| pair[0] >= from && pair[1] <= to);
        pairs.map(|pair| (pair[1] - pair[0]).as_secs_f64())
    }
}

/// From when on all streams were decoding until the first of them ended.
pub(crate) fn all_decoding(streams: &[Times]) -> anyhow::Result<(Instant, Instant)> {
    let from = streams.iter().filter_map(|stream| stream.came.first()).max();
    let to = streams.iter().filter_map(|stream| stream.came.last()).min();
    match (from, to) {
        (Some(&from), Some(&to)) if from < to => Ok((from, to)),
        _ => bail!("the streams never decoded all at once"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(begun: Instant, came_ms: &[u64]) -> Times {
        let came = came_ms.iter().map(|ms| begun + Duration::from_millis(*ms)).collect();
        Times { asked: begun, came }
    }

    #[test]
    fn only_the_time_in_which_all_decode_counts() {
        let begun = clock::now();
        let streams = [times(begun, &[10, 20, 30, 40]), times(begun, &[18, 28, 38, 48])];
        let (from, to) = all_decoding(&streams).unwrap();
        assert_eq!([from, to].map(|at| (at - begun).as_millis()), [18, 40]);
        let gaps: Vec<f64> = streams.iter().flat_map(|stream| stream.gaps((from, to))).collect();
        assert_eq!(gaps, [0.01; 4]);
        assert_eq!(streams[1].first(), 0.018);
        assert_eq!(streams[1].rate(), 100.0);
        assert!(all_decoding(&[times(begun, &[1, 2]), times(begun, &[3, 4])]).is_err());
    }
}
