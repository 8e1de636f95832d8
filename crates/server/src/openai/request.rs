//! What chat and text completions take alike: how tokens are chosen, where answers end, and how they are told.

use std::sync::Arc;

use engine::{Penalties, Sampling};
use serde_json::Value;

use super::parameters::{invalid, number, object, whole, wrong_type};
use super::prompts::Prompts;
use super::response_format::{self, ResponseFormat};
use crate::fields::{BodyFields, short};
use crate::parse::Rules;
use crate::problem::Problem;
use crate::random::random_u64;

/// Most answers to one prompt.
const MAX_CHOICES: i64 = 8;
/// Most texts that end an answer, and characters of each.
const MAX_STOPS: usize = 16;
const MAX_STOP_CHARS: usize = 256;
/// A smaller penalty for what was said before would make logits infinite.
const LEAST_REPETITION: f64 = 0.01;
/// Up to here every whole number is a float.
const EXACT: f64 = 9_007_199_254_740_992.0;
/// Most tokens whose logits are changed.
const MAX_BIASES: usize = 1024;
/// What may be added to a logit, and taken from it.
const MAX_BIAS: f64 = 100.0;
/// Most likely tokens that are named beside each of an answer.
pub(super) const MAX_LOGPROBS: i64 = 20;

/// A checked body, before there is a model for it.
pub(super) struct CompletionRequest {
    pub(super) common: Common,
    /// Most tokens of each answer.
    pub(super) max_tokens: usize,
    /// How many of the likeliest tokens are named beside each of an answer, if log probabilities are wanted.
    pub(super) logprobs: Option<usize>,
    pub(super) prompts: Prompts,
    /// Fields that were ignored because the settings say so.
    pub(super) ignored: Vec<String>,
}

/// What both kinds of completion take.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Common {
    pub(crate) model: String,
    /// How an answer is streamed; `None` if it comes when it is complete.
    pub(crate) stream: Option<StreamUsage>,
    /// Answers to each prompt.
    pub(crate) choices: usize,
    pub(crate) sampling: Sampling,
    pub(crate) stops: Vec<String>,
    pub(crate) format: ResponseFormat,
}

/// Whether a stream ends with its usage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StreamUsage {
    Omitted,
    Included,
}

impl Common {
    pub(super) fn read(fields: &mut BodyFields, rules: &Rules<'_>) -> Result<Self, Problem> {
        let model = fields.needed_text("model")?;
        let stream = stream(fields)?;
        let choices = fields.whole_in("n", 1..=MAX_CHOICES)?.unwrap_or(1) as usize;
        let sampling = sampling(fields, rules)?;
        let stops = stops(fields)?;
        let format = response_format::read(fields)?;
        Ok(Self { model, stream, choices, sampling, stops, format })
    }
}

fn stream(fields: &mut BodyFields) -> Result<Option<StreamUsage>, Problem> {
    let streams = fields.flag("stream")?.unwrap_or(false);
    let at = fields.pointer("stream_options");
    let Some(options) = fields.take("stream_options") else {
        return Ok(streams.then_some(StreamUsage::Omitted));
    };
    let mut options = object(options, at.clone())?;
    options.only(&["include_usage", "include_obfuscation"])?;
    let with_usage = options.flag("include_usage")?.unwrap_or(false);
    // Padding of events: it changes no answer, and is not added.
    options.flag("include_obfuscation")?;
    if !streams {
        return Err(invalid(&at, "The parameter 'stream_options' is for streams: with 'stream' true only."));
    }
    Ok(Some(if with_usage { StreamUsage::Included } else { StreamUsage::Omitted }))
}

/// The most tokens of an answer, with no upper bound: the context limits it. Several names must agree.
pub(super) fn max_tokens(fields: &mut BodyFields, names: &[&str]) -> Result<Option<usize>, Problem> {
    let mut found: Option<i64> = None;
    for name in names {
        let Some(value) = fields.whole_in(name, 1..=i64::MAX)? else { continue };
        if found.is_some_and(|found| found != value) {
            let detail = format!("The parameters {} have different values.", names.join(" and "));
            return Err(invalid(&fields.pointer(name), detail));
        }
        found = Some(value);
    }
    Ok(found.map(|found| found as usize))
}

fn sampling(fields: &mut BodyFields, rules: &Rules<'_>) -> Result<Sampling, Problem> {
    let (limits, defaults) = (rules.limits, rules.defaults);
    let mut number = |name: &str, bounds, default: f64| {
        fields.number_in(name, bounds).map(|value| value.unwrap_or(default) as f32)
    };
    let temperature = number("temperature", 0.0..=limits.temperature, defaults.temperature)?;
    let min_p = number("min_p", 0.0..=1.0, 0.0)?;
    let top_p = number("top_p", f64::MIN_POSITIVE..=1.0, 1.0)?;
    let penalties = Penalties {
        frequency: number("frequency_penalty", -2.0..=2.0, 0.0)?,
        presence: number("presence_penalty", -2.0..=2.0, 0.0)?,
        repetition: number("repetition_penalty", LEAST_REPETITION..=2.0, 1.0)?,
    };
    // -1 is how others write that all are candidates.
    let top_k = fields.whole_in("top_k", -1..=limits.top_k as i64)?.unwrap_or(defaults.top_k as i64).max(0);
    let (bias, seed) = (bias(fields)?, seed(fields)?);
    Ok(Sampling { temperature, top_k: top_k as usize, top_p, min_p, penalties, bias, seed })
}

/// What is added to logits, by id in ascending order. Whether the ids exist is for the weights to say.
fn bias(fields: &mut BodyFields) -> Result<Arc<[(u32, f32)]>, Problem> {
    let at = fields.pointer("logit_bias");
    let biases = match fields.take("logit_bias") {
        None => return Ok(Arc::default()),
        Some(Value::Object(biases)) => biases,
        Some(other) => return Err(wrong_type(&at, "an object", &other)),
    };
    if biases.len() > MAX_BIASES {
        let detail = format!("{} tokens have a bias, but at most {MAX_BIASES} may.", biases.len());
        return Err(invalid(&at, detail));
    }
    let mut read = Vec::with_capacity(biases.len());
    for (key, value) in &biases {
        // Written in one way only, so that no token has two.
        let Some(id) = key.parse::<u32>().ok().filter(|id| id.to_string() == *key) else {
            let key = short(key);
            return Err(invalid(&at, format!("Biases are given by token id, and '{key}' is none.")));
        };
        read.push((id, number(value, &at, -MAX_BIAS..=MAX_BIAS)? as f32));
    }
    read.sort_unstable_by_key(|(id, _)| *id);
    Ok(read.into())
}

/// The seed, of which negative ones count by their bits; or one of our own choosing.
fn seed(fields: &mut BodyFields) -> Result<u64, Problem> {
    let at = fields.pointer("seed");
    let Some(value) = fields.take("seed") else { return Ok(random_u64() >> 11) };
    match (value.as_u64(), value.as_i64()) {
        (Some(seed), _) => Ok(seed),
        (None, Some(seed)) => Ok(seed as u64),
        // As a float it is exact only where floats are.
        (None, None) if value.as_f64().is_some_and(|seed| seed.abs() > EXACT) => {
            let detail = format!(
                "Invalid value for 'seed': {value}; it must be between {} and {}.",
                i64::MIN,
                u64::MAX
            );
            Err(invalid(&at, detail))
        }
        (None, None) => whole(&value, &at, i64::MIN..=i64::MAX).map(|seed| seed as u64),
    }
}

/// The seed of an answer: the request's own for the first, and for the others one mixed from it and their place, so that
/// each differs and all are the same again.
pub(super) fn seed_of(seed: u64, choice: usize) -> u64 {
    if choice == 0 {
        return seed;
    }
    // SplitMix64: its state after so many steps, mixed.
    let mut mixed = seed.wrapping_add((choice as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

fn stops(fields: &mut BodyFields) -> Result<Vec<String>, Problem> {
    let at = fields.pointer("stop");
    let list = match fields.take("stop") {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(text @ Value::String(_)) => vec![text],
        Some(other) => return Err(wrong_type(&at, "a string or an array of strings", &other)),
    };
    if list.len() > MAX_STOPS {
        return Err(invalid(
            &at,
            format!("{} texts end an answer, but at most {MAX_STOPS} may.", list.len()),
        ));
    }
    let stop = |value: Value| match value {
        Value::String(text) if (1..=MAX_STOP_CHARS).contains(&text.chars().count()) => Ok(text),
        Value::String(text) => {
            let chars = text.chars().count();
            let detail = format!(
                "A text that ends an answer has 1 to {MAX_STOP_CHARS} characters, but this has {chars}."
            );
            Err(invalid(&at, detail))
        }
        other => Err(wrong_type(&at, "a string or an array of strings", &other)),
    };
    list.into_iter().map(stop).collect()
}
