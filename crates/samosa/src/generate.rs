//! `samosa generate`: one answer to standard output, without a server.

use std::io::{IsTerminal, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use anyhow::{Context, Result, bail};
use clap::ArgMatches;
use engine::{Compute, Failure, Handle, Request, Sampling, StreamEvent, Transformer};
use registry::{LoadedModel, Tag, plan};
use server::Options;
use tokenizer::{Message, Role};

use crate::given;

pub(crate) fn run(options: &Options, matches: &ArgMatches) -> Result<()> {
    let message = message(matches)?;
    let (model, kv_bytes) = load(options, matches)?;
    let request = request(options, &model, matches, &message)?;
    let seed = request.sampling().seed;
    let handle = start(options, &model, kv_bytes)?;
    let (tell, events) = sync_channel(request.max_tokens() + 4);
    let sink = move |event| tell.try_send(event).is_ok();
    handle.submit(request, Box::new(sink)).map_err(|_| anyhow::anyhow!("the engine takes no request"))?;
    let mut out = std::io::stdout().lock();
    for event in events {
        match event {
            StreamEvent::Token { text, .. } | StreamEvent::Text(text) => {
                out.write_all(text.as_bytes())?;
                out.flush()?;
            }
            StreamEvent::Finished { usage, timings, .. } => {
                writeln!(out)?;
                if std::io::stderr().is_terminal() {
                    let tokens = usage.completion_tokens;
                    let rate = tokens as f64 / timings.decode.as_secs_f64().max(1e-9);
                    let first = timings.prefill.as_secs_f64() * 1e3;
                    eprintln!(
                        "[{} · {tokens} tokens · first after {first:.0} ms · {rate:.0} tokens/s · seed {seed}]",
                        model.tag
                    );
                }
                return Ok(());
            }
            StreamEvent::Failed(Failure::NotFinite) => bail!("the model gave a result that is not a number"),
            StreamEvent::Failed(Failure::Deadline | Failure::QueueTimeout) => {
                bail!("the answer took too long")
            }
            StreamEvent::Failed(Failure::Internal | Failure::Aborted | Failure::Constraint) => {
                bail!("the engine broke")
            }
            StreamEvent::Admitted => {}
        }
    }
    bail!("the engine gave the answer up")
}

fn message(matches: &ArgMatches) -> Result<String> {
    let mut message = given(matches, "message", String::new());
    if message == "-" {
        message.clear();
        std::io::stdin().read_to_string(&mut message).context("standard input could not be read as text")?;
    }
    if message.trim().is_empty() {
        bail!("the message is empty");
    }
    Ok(message)
}

/// A model in memory, and bytes for its keys and values.
fn load(options: &Options, matches: &ArgMatches) -> Result<(LoadedModel, usize)> {
    let catalog = options.catalog();
    let first = options.first_tag()?;
    let tag = match matches.get_one::<String>("model") {
        Some(name) => Tag::new(name).with_context(|| format!("{name:?} is not a model's tag"))?,
        None => first.clone(),
    };
    let load = options.load_options(&tag, Some(&first));
    let opened = registry::load::find(&catalog, &catalog.find(&tag)?, &load)?.open()?;
    let plan = plan::alone(opened.needs(options.kv_bytes as u64, 1), &tag)?;
    let model = opened.verify(&catalog)?.load(&Compute::new(options.isa, options.threads))?;
    Ok((model, plan.kv as usize))
}

fn request(options: &Options, model: &LoadedModel, matches: &ArgMatches, message: &str) -> Result<Request> {
    let system = matches.get_one::<String>("system");
    let mut messages: Vec<Message<'_>> =
        system.iter().map(|text| Message { role: Role::System, content: text.as_str() }).collect();
    messages.push(Message { role: Role::User, content: message });
    let prompt = model.tokenizer.render_chat(&messages, None)?.ids;
    let defaults = options.defaults;
    let sampling = Sampling {
        temperature: given(matches, "temperature", defaults.temperature) as f32,
        top_k: given(matches, "top-k", defaults.top_k) as usize,
        seed: match matches.get_one::<u64>("seed") {
            Some(seed) => *seed,
            None => getrandom::u64()? >> 11,
        },
        ..Sampling::default()
    };
    let max_tokens = given(matches, "max-tokens", defaults.max_tokens) as usize;
    let config = &model.weights.config;
    let (tokens, room) = (prompt.len(), config.sequence_len - 1);
    Request::new(prompt, max_tokens, sampling, (config.vocab_size, config.sequence_len))
        .map_err(|_| anyhow::anyhow!("the message has {tokens} tokens, but this model takes at most {room}"))
}

fn start(options: &Options, model: &LoadedModel, kv_bytes: usize) -> Result<Handle> {
    let limits = options.limits.engine.clone();
    let (weights, tokenizer) = (Arc::clone(&model.weights), Arc::clone(&model.tokenizer));
    let (isa, threads, step_tokens) = (options.isa, options.threads, limits.step_tokens);
    let build =
        move || Transformer::new(Arc::clone(&weights), Compute::new(isa, threads), kv_bytes, step_tokens);
    Handle::start("engine", tokenizer, limits, build).context("the engine could not be started")
}
