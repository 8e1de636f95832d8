//! What it costs to ask for more than an answer: other sampling, log probabilities, a form.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use engine::{Guide, Penalties, Request, Sampling};
use guides::{Form, Grammars, Settings};
use serde_json::json;
use serving::LoadedModel;

use super::clock;
use super::decode::{PROMPT, together};
use super::formats::Format;
use super::report::{Figure, Report};
use super::setup::Setup;
use super::streams::Service;
use crate::GRAMMAR_WORKER;

/// Streams at a time.
const STREAMS: [usize; 2] = [1, 16];
/// Tokens of each.
const TOKENS: usize = 64;
/// Runs of each wish, in turns with plain ones, since the machine's speed swings.
const ROUNDS: usize = 7;

/// Something to ask for.
struct Wish {
    name: &'static str,
    sampling: Sampling,
    logprobs: Option<usize>,
    form: Option<Box<dyn Guide>>,
}

impl Wish {
    fn new(name: &'static str, sampling: Sampling) -> Self {
        Self { name, sampling, logprobs: None, form: None }
    }

    fn add_to(&self, request: Request) -> Request {
        let request = match self.logprobs {
            Some(top) => request.with_logprobs(top),
            None => request,
        };
        match &self.form {
            Some(form) => request.guided(form.fork()),
            None => request,
        }
    }
}

/// Measures each wish beside answers that ask for nothing: the share of their speed.
pub(crate) fn measure(
    setup: &Setup,
    format: &Format,
    service: &Service,
    model: &LoadedModel,
    report: &mut Report,
) -> anyhow::Result<()> {
    let plain = Wish::new("plain", Sampling { top_k: 50, ..Sampling::default() });
    let wishes = wishes(model)?;
    for n in STREAMS {
        let rate = |wish: &Wish| -> anyhow::Result<f64> {
            let ask = || service.ask_for(service.prompt(PROMPT), TOKENS, &wish.sampling, |r| wish.add_to(r));
            Ok(together((0..n).map(|_| ask()))?.rate)
        };
        for wish in &wishes {
            let rounds = if setup.quick { ROUNDS / 2 } else { ROUNDS };
            let pairs: Vec<(f64, f64)> =
                (0..rounds).map(|_| Ok((rate(wish)?, rate(&plain)?))).collect::<anyhow::Result<_>>()?;
            let rates: Vec<f64> = pairs.iter().map(|(asked, _)| *asked).collect();
            let shares: Vec<f64> = pairs.iter().map(|(asked, plain)| 100.0 * asked / plain).collect();
            let name = format!("{}, {n} stream{}", wish.name, if n == 1 { "" } else { "s" });
            report.add(Figure::new(name.clone(), format.name, clock::median(&rates), "tok/s"));
            let name = format!("{name}, of plain");
            report.add(Figure::new(name, format.name, clock::median(&shares), "%"));
        }
    }
    Ok(())
}

fn wishes(model: &LoadedModel) -> anyhow::Result<Vec<Wish>> {
    let settings = Settings {
        command: vec!["/proc/self/exe".into(), GRAMMAR_WORKER.into()],
        deadline: Duration::from_secs(2),
        slow_reads: 1,
        memory_bytes: 128 << 20,
    };
    let grammars = Grammars::new(Arc::clone(&model.tokenizer), model.chat.stop_tokens[0], settings);
    // It never comes to an end, so that all answers are equally long.
    let dish = json!({
        "type": "object",
        "properties": {
            "name": { "type": "string" },
            "price": { "type": "number" },
            "tags": { "type": "array", "items": { "enum": ["hot", "sweet", "sour"] } },
        },
        "required": ["name", "price", "tags"],
        "additionalProperties": false,
    });
    let schema = json!({ "type": "array", "items": dish, "minItems": 10_000 });
    // Keys are fixed texts, which are taken without sampling and computed together.
    let keys = ["name_of_the_dish_on_the_menu", "price_in_euros_with_taxes", "calories_of_one_portion"];
    let long = json!({
        "type": "object",
        "properties": { keys[0]: { "enum": ["hot", "sweet"] }, keys[1]: { "type": "integer" }, keys[2]: { "type": "integer" } },
        "required": keys,
        "additionalProperties": false,
    });
    let long_keys = json!({ "type": "array", "items": long, "minItems": 10_000 });
    let penalties = Penalties { frequency: 0.5, presence: 0.5, repetition: 1.1 };
    let bias: Arc<[(u32, f32)]> = (0..300).map(|i| (i * 7, 0.5)).collect();
    let top_k = Sampling { top_k: 50, ..Sampling::default() };
    let read = |schema| grammars.read(&Form::JsonSchema(schema), ()).context("the schema of the benchmark");
    let (form, long_keys) = (read(schema)?, read(long_keys)?);
    Ok(vec![
        Wish::new("all candidates", Sampling::default()),
        Wish::new("top_p of all candidates", Sampling { top_p: 0.95, ..Sampling::default() }),
        Wish::new("penalties and 300 biases", Sampling { penalties, bias, ..top_k.clone() }),
        Wish { logprobs: Some(5), ..Wish::new("log probabilities", top_k.clone()) },
        Wish { form: Some(form), ..Wish::new("JSON of a schema", top_k.clone()) },
        Wish { form: Some(long_keys), ..Wish::new("JSON with long keys", top_k) },
    ])
}
