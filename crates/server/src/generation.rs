//! The weights that serve, with the engines that run them. Replaced as a whole by a swap; lives on until the
//! last request that began with it is done.

use std::sync::Arc;

use cpu::transformer::KvPlan;
use cpu::{Compute, Transformer, Weights};
use engine::{Handle, InvalidRequest, Refusal, Request, Sampling, Sink};
use guides::{Calculator, Grammars};
use registry::LoadedModel;

use crate::openai::Forms;
use crate::options::Options;

/// One set of weights in service.
pub(crate) struct Generation {
    /// Counts from 1 within this process.
    pub(crate) number: u64,
    pub(crate) model: LoadedModel,
    pub(crate) workers: Vec<Handle>,
    /// Bytes set aside for keys and values, all workers together.
    pub(crate) kv_bytes: usize,
    pub(crate) forms: Forms,
}

/// What a generation holds.
#[derive(Clone, Copy)]
pub(crate) struct Held {
    /// Its number.
    pub(crate) generation: u64,
    /// Bytes of matrices.
    pub(crate) matrices: u64,
    /// Bytes of embeddings.
    pub(crate) embeddings: u64,
    /// Bytes set aside for keys and values by each of its engines.
    pub(crate) kv_of_each: u64,
}

impl Generation {
    /// Starts engines for a model, with so many bytes for keys and values of all of them together.
    pub(crate) fn start(
        number: u64,
        model: LoadedModel,
        options: &Options,
        kv_bytes: usize,
    ) -> std::io::Result<Self> {
        let limits = options.limits.engine.clone().checked();
        let n_workers = options.workers.max(1);
        let Weights { config, format, .. } = &*model.weights;
        let plan = Arc::new(KvPlan::new(config, *format, kv_bytes / n_workers, limits.step_tokens));
        let worker = |i: usize| {
            let (weights, tokenizer) = (Arc::clone(&model.weights), Arc::clone(&model.tokenizer));
            let (isa, threads, plan) = (options.isa, options.threads, Arc::clone(&plan));
            Handle::start(&format!("engine-{number}-{i}"), tokenizer, limits.clone(), move || {
                Transformer::new(Arc::clone(&weights), Compute::new(isa, threads), &plan)
            })
        };
        let workers = (0..n_workers).map(worker).collect::<Result<_, _>>()?;
        let grammars =
            Grammars::new(Arc::clone(&model.tokenizer), model.chat.stop_tokens[0], options.grammars());
        let forms = Forms::new(grammars, options.limits.grammar_reads);
        let kv_bytes = n_workers * plan.bytes();
        Ok(Self { number, model, workers, kv_bytes, forms })
    }

    /// The worker with the least to do.
    pub(crate) fn least_loaded(&self) -> (usize, &Handle) {
        let load = |worker: &Handle| {
            let snapshot = worker.snapshot();
            // One that is broken has nothing to do, but can do nothing either.
            (!snapshot.healthy, snapshot.queued_tokens, snapshot.running + snapshot.queued)
        };
        let best = self.workers.iter().enumerate().min_by_key(|(_, worker)| load(worker));
        best.unwrap_or((0, &self.workers[0]))
    }

    /// Whether an engine has ended though requests may still come: it broke and could not be rebuilt.
    pub(crate) fn has_dead_engine(&self) -> bool {
        self.workers.iter().any(|worker| worker.watch().ended())
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

    /// Bytes held and set aside.
    pub(crate) fn bytes(&self) -> u64 {
        (self.model.weights.bytes() + self.kv_bytes) as u64
    }

    /// The same by kind.
    pub(crate) fn held(&self) -> Held {
        let weights = &self.model.weights;
        Held {
            generation: self.number,
            matrices: weights.matrix_bytes() as u64,
            embeddings: weights.embedding_bytes() as u64,
            kv_of_each: (self.kv_bytes / self.workers.len().max(1)) as u64,
        }
    }

    /// A request for an answer of this model: it ends at the model's stop tokens, and has the calculator's results in it
    /// where the model calls the calculator.
    pub(crate) fn request(
        &self,
        prompt: Vec<u32>,
        max_tokens: usize,
        sampling: Sampling,
    ) -> Result<Request, InvalidRequest> {
        let LoadedModel { weights, tokenizer, chat, .. } = &self.model;
        let bounds = (weights.config.vocab_size, weights.config.sequence_len);
        let request = Request::new(prompt, max_tokens, sampling, bounds)?;
        let request = request.ending_at(Arc::clone(&chat.stop_tokens));
        Ok(match chat.calculator {
            Some(tokens) => request.guided(Box::new(Calculator::new(Arc::clone(tokenizer), tokens))),
            None => request,
        })
    }

    /// Whether a token is one of the model's.
    pub(crate) fn has_token(&self, id: u32) -> bool {
        (id as usize) < self.model.weights.config.vocab_size && self.model.tokenizer.token_bytes(id).is_some()
    }

    /// Positions of a sequence.
    pub(crate) fn sequence_len(&self) -> usize {
        self.model.weights.config.sequence_len
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use cpu::{Isa, WeightFormat};
    use engine::backend::{Backend, BatchItem, PageClass, SampleParams, Sampled, Shape};
    use engine::{Limits, StreamEvent};
    use registry::{Catalog, LoadOptions, builtin, load};

    use super::*;
    use crate::clock;

    /// A backend whose first batch is its last.
    struct Broken(Shape);

    impl Backend for Broken {
        fn shape(&self) -> &Shape {
            &self.0
        }

        fn forward(&mut self, _: &[BatchItem<'_>]) {
            panic!("as the test wants it")
        }

        fn sample(&mut self, _: &[SampleParams<'_>]) -> Vec<Sampled> {
            panic!("after a batch that panicked")
        }
    }

    /// An engine around [`Broken`] that can be built only once.
    fn mortal(model: &LoadedModel) -> Handle {
        let built = AtomicBool::new(false);
        let build = move || {
            assert!(!built.swap(true, Ordering::SeqCst), "as the test wants it");
            let classes = vec![PageClass { window: 512, n_pages: 64 }];
            Broken(Shape { vocab_size: 4096, sequence_len: 512, classes })
        };
        Handle::start("mortal", Arc::clone(&model.tokenizer), Limits::default(), build).unwrap()
    }

    fn request() -> Request {
        let sampling = Sampling { temperature: 0.0, top_k: 0, seed: 0, ..Sampling::default() };
        Request::new(vec![1, 2, 3], 4, sampling, (4096, 512)).unwrap()
    }

    #[test]
    fn a_dead_engine_is_passed_over_though_it_has_nothing_to_do() {
        let (catalog, options) = (Catalog::new(None), LoadOptions { format: WeightFormat::Bf16, step: None });
        let entry = catalog.find(&builtin::tag()).unwrap();
        let model =
            load::open(&catalog, &entry, &options).unwrap().load(&Compute::new(Isa::SCALAR, 1)).unwrap();
        let workers = vec![mortal(&model), mortal(&model)];
        let settings = guides::Settings {
            command: Vec::new(),
            deadline: Duration::ZERO,
            slow_reads: 0,
            memory_bytes: 0,
        };
        let forms = Forms::new(Grammars::new(Arc::clone(&model.tokenizer), 0, settings), 1);
        let generation = Generation { number: 1, model, workers, kv_bytes: 0, forms };
        assert_eq!(generation.least_loaded().0, 0);
        let (tell, told) = std::sync::mpsc::sync_channel(8);
        generation
            .submit(0, request(), Box::new(move |event: StreamEvent| tell.send(event).is_ok()))
            .unwrap();
        assert!(told.iter().any(|event| matches!(event, StreamEvent::Failed(_))));
        let begun = clock::now();
        while !generation.has_dead_engine() {
            assert!(begun.elapsed() < Duration::from_secs(20), "the engine cannot be rebuilt, so it ends");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(generation.least_loaded().0, 1);
        let refusal = generation.submit(0, request(), Box::new(|_| true));
        assert_eq!(refusal.err(), Some(Refusal::Gone));
    }
}
