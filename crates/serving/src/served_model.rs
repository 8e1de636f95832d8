//! A model in service with the engines that run it. Replaced as a whole by a swap; lives on until the last request that
//! began with it is done.

use std::sync::Arc;

use crate::load::LoadedModel;
use cpu::transformer::KvPlan;
use cpu::{Compute, Transformer, Weights};
use engine::{Guide, Handle, InvalidRequest, Request, Sampling, Sink};
use guides::{Calculator, Form, Grammars};
use tokenizer::{ChatError, Message, RenderedChat};
use tokio::sync::Semaphore;

use crate::error::{AdmitError, GrammarError};
use crate::options::Options;

/// A model in service.
pub struct ServedModel {
    /// Counts from 1 within this process.
    pub version: u64,
    /// Weights, tokenizer and identity.
    pub model: LoadedModel,
    /// Its engines, at least one.
    pub workers: Vec<Handle>,
    /// KV cache bytes, all workers together.
    pub kv_bytes: usize,
    grammars: Arc<Grammars>,
    /// How many more grammars may be read at once.
    grammar_reads: Arc<Semaphore>,
}

/// Bytes that a model in service holds.
#[derive(Clone, Copy)]
pub struct ModelMemory {
    /// Its version.
    pub version: u64,
    /// Matrices.
    pub matrices: u64,
    /// Embeddings.
    pub embeddings: u64,
    /// Reserved for the KV cache of each of its engines.
    pub kv_of_each: u64,
}

impl ServedModel {
    /// Starts engines for a model, with `kv_bytes` for the KV caches of all of them together.
    pub fn start(
        version: u64,
        model: LoadedModel,
        options: &Options,
        kv_bytes: usize,
    ) -> std::io::Result<Self> {
        let n_workers = options.workers.max(1);
        let Weights { config, format, .. } = &*model.weights;
        let step_tokens = options.engine.clone().checked().step_tokens;
        let plan = Arc::new(KvPlan::new(config, *format, kv_bytes / n_workers, step_tokens));
        let grammars =
            Grammars::new(Arc::clone(&model.tokenizer), model.chat.stop_tokens[0], options.grammar.clone());
        Ok(Self {
            version,
            workers: start_engines(version, &model, options, &plan)?,
            kv_bytes: n_workers * plan.bytes(),
            grammars: Arc::new(grammars),
            grammar_reads: Arc::new(Semaphore::new(options.grammar.slow_reads)),
            model,
        })
    }

    /// The index of the worker with the least to do.
    pub fn least_loaded(&self) -> usize {
        let load = |&worker: &usize| {
            let snapshot = self.workers[worker].snapshot();
            // One that is broken has nothing to do, but can do nothing either.
            (!snapshot.healthy, snapshot.queued_tokens, snapshot.running + snapshot.queued)
        };
        (0..self.workers.len()).min_by_key(load).unwrap_or(0)
    }

    /// Whether an engine has ended though requests may still come: it broke and could not be rebuilt.
    pub fn has_dead_engine(&self) -> bool {
        self.workers.iter().any(|worker| worker.watch().ended())
    }

    /// Queues a request with a worker.
    pub fn submit(
        &self,
        worker: usize,
        request: Request,
        sink: Box<dyn Sink>,
    ) -> Result<engine::Abort, AdmitError> {
        let engine = &self.workers[worker];
        engine.submit(request, sink).map_err(|refusal| AdmitError::refused(refusal, engine))
    }

    /// Seconds until the queue of the least loaded engine is likely to have drained.
    pub fn seconds_to_drain(&self) -> u64 {
        self.workers[self.least_loaded()].seconds_to_drain()
    }

    /// The tokens of a conversation, without its oldest turns if it has more than `budget`.
    pub fn render_chat(
        &self,
        messages: &[Message<'_>],
        budget: Option<usize>,
    ) -> Result<RenderedChat, ChatError> {
        self.model.chat.render(&self.model.tokenizer, messages, budget)
    }

    /// Reads a form that an answer must have. A read goes on by itself where its caller has gone.
    pub async fn guide(&self, form: Form) -> Result<Box<dyn Guide>, GrammarError> {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.grammar_reads).acquire_owned().await;
        let grammars = Arc::clone(&self.grammars);
        match tokio::task::spawn_blocking(move || grammars.read(&form, permit)).await {
            Ok(Ok(guide)) => Ok(guide),
            Ok(Err(guides::Error::Unavailable(error))) => {
                tracing::error!(%error, "grammar worker failed");
                Err(GrammarError::Unavailable)
            }
            Ok(Err(error)) => {
                if !matches!(error, guides::Error::Refused(_)) {
                    tracing::warn!(%error, "grammar read stopped");
                }
                Err(GrammarError::Refused(error))
            }
            Err(_) => Err(GrammarError::Unavailable),
        }
    }

    /// Bytes held and reserved.
    pub fn bytes(&self) -> u64 {
        (self.model.weights.bytes() + self.kv_bytes) as u64
    }

    /// The same by kind.
    pub fn memory(&self) -> ModelMemory {
        let weights = &self.model.weights;
        ModelMemory {
            version: self.version,
            matrices: weights.matrix_bytes() as u64,
            embeddings: weights.embedding_bytes() as u64,
            kv_of_each: (self.kv_bytes / self.workers.len().max(1)) as u64,
        }
    }

    /// A request for an answer of this model: it ends at the model's stop tokens, and has the calculator's results in it
    /// where the model calls the calculator.
    pub fn request(
        &self,
        prompt: Vec<u32>,
        max_tokens: usize,
        sampling: Sampling,
    ) -> Result<Request, InvalidRequest> {
        let LoadedModel { tokenizer, chat, .. } = &self.model;
        let request = Request::new(prompt, max_tokens, sampling, self.vocab_size(), self.sequence_len())?;
        let request = request.ending_at(Arc::clone(&chat.stop_tokens));
        Ok(match chat.calculator {
            Some(tokens) => request.guided(Box::new(Calculator::new(Arc::clone(tokenizer), tokens))),
            None => request,
        })
    }

    /// Whether a token is one of the model's.
    pub fn has_token(&self, id: u32) -> bool {
        (id as usize) < self.vocab_size() && self.model.tokenizer.token_bytes(id).is_some()
    }

    /// Ids of the vocabulary.
    fn vocab_size(&self) -> usize {
        self.model.weights.config.vocab_size
    }

    /// Positions of a sequence.
    pub fn sequence_len(&self) -> usize {
        self.model.weights.config.sequence_len
    }
}

/// Starts the engines of a model, each with a KV cache of this plan.
fn start_engines(
    version: u64,
    model: &LoadedModel,
    options: &Options,
    plan: &Arc<KvPlan>,
) -> std::io::Result<Vec<Handle>> {
    let engine = |i: usize| {
        let (weights, tokenizer) = (Arc::clone(&model.weights), Arc::clone(&model.tokenizer));
        let (isa, threads, plan) = (options.isa, options.threads, Arc::clone(plan));
        Handle::start(&format!("engine-{version}-{i}"), tokenizer, options.engine.clone(), move || {
            Transformer::new(Arc::clone(&weights), Compute::new(isa, threads), &plan)
        })
    };
    (0..options.workers.max(1)).map(engine).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use cpu::{Isa, WeightFormat};
    use engine::backend::{Backend, BatchItem, PageClass, SampleParams, Sampled, Shape};
    use engine::{Limits, Output, Refusal, Timeline};
    use registry::{Catalog, builtin, open};

    use super::*;

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
        Request::new(vec![1, 2, 3], 4, sampling, 4096, 512).unwrap()
    }

    #[test]
    fn a_dead_engine_is_passed_over_though_it_has_nothing_to_do() {
        let catalog = Catalog::new(None);
        let entry = catalog.find(&builtin::tag()).unwrap();
        let verified = open::open(&catalog, &entry, None).unwrap();
        let model = LoadedModel::load(verified, WeightFormat::Bf16, &Compute::new(Isa::SCALAR, 1)).unwrap();
        let workers = vec![mortal(&model), mortal(&model)];
        let settings = guides::Settings {
            command: Vec::new(),
            deadline: Duration::ZERO,
            slow_reads: 0,
            memory_bytes: 0,
        };
        let grammars = Arc::new(Grammars::new(Arc::clone(&model.tokenizer), 0, settings));
        let grammar_reads = Arc::new(Semaphore::new(1));
        let served = ServedModel { version: 1, model, workers, kv_bytes: 0, grammars, grammar_reads };
        assert_eq!(served.least_loaded(), 0);
        let (tell, told) = std::sync::mpsc::sync_channel(8);
        served
            .submit(0, request(), Box::new(move |output: Output, _: &Timeline| tell.send(output).is_ok()))
            .unwrap();
        assert!(told.iter().any(|event| matches!(event, Output::Failed(_))));
        for looks in 0.. {
            if served.has_dead_engine() {
                break;
            }
            assert!(looks < 20_000, "the engine cannot be rebuilt, so it ends");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(served.least_loaded(), 1);
        let refusal = served.submit(0, request(), Box::new(|_, _: &Timeline| true));
        assert!(matches!(refusal, Err(AdmitError::Engine { refusal: Refusal::Gone, .. })));
    }
}
