//! The weights that serve, with the engines that run them. Replaced as a whole by a swap; lives on until the
//! last request that began with it is done.

use std::sync::Arc;

use engine::{Compute, Handle, Refusal, Request, Sink, Transformer};
use registry::LoadedModel;

use crate::options::Options;

/// One set of weights in service.
pub(crate) struct Generation {
    /// Counts from 1 within this process.
    pub(crate) number: u64,
    pub(crate) model: LoadedModel,
    pub(crate) workers: Vec<Handle>,
}

impl Generation {
    /// Starts engines for a model.
    pub(crate) fn start(number: u64, model: LoadedModel, options: &Options) -> std::io::Result<Self> {
        let worker = |i: usize| {
            let (weights, tokenizer) = (Arc::clone(&model.weights), Arc::clone(&model.tokenizer));
            let (isa, threads, kv_bytes) = (options.isa, options.threads, options.kv_bytes);
            let limits = options.limits.engine.clone().checked();
            let step_tokens = limits.step_tokens;
            Handle::start(&format!("engine-{number}-{i}"), tokenizer, limits, move || {
                Transformer::new(Arc::clone(&weights), Compute::new(isa, threads), kv_bytes, step_tokens)
            })
        };
        let workers = (0..options.workers.max(1)).map(worker).collect::<Result<_, _>>()?;
        Ok(Self { number, model, workers })
    }

    /// The worker with the least to do.
    pub(crate) fn least_loaded(&self) -> (usize, &Handle) {
        let load = |worker: &Handle| {
            let snapshot = worker.snapshot();
            (snapshot.queued_tokens, snapshot.running + snapshot.queued)
        };
        let best = self.workers.iter().enumerate().min_by_key(|(_, worker)| load(worker));
        best.unwrap_or((0, &self.workers[0]))
    }

    /// Queues a request with a worker.
    pub(crate) fn submit(
        &self,
        worker: usize,
        request: Request,
        sink: Box<dyn Sink>,
    ) -> Result<engine::Abort, Refusal> {
        self.workers[worker].submit(request, sink)
    }

    /// Positions of a sequence.
    pub(crate) fn sequence_len(&self) -> usize {
        self.model.weights.config.sequence_len
    }
}
