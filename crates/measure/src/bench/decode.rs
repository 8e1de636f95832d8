//! Tokens per second, and from one token to the next, while some number of streams decode.

use engine::Limits;
use serving::LoadedModel;

use super::formats::Format;
use super::limits;
use super::report::{Figure, Report};
use super::setup::Setup;
use super::streams::{BenchStream, Service, Times, all_decoding};
use super::{clock, kernels};

/// Streams at a time.
const STREAMS: [usize; 6] = [1, 4, 8, 16, 32, 64];
/// Tokens of a stream that repeats itself: most of them after it began to.
const REPEATING: usize = 512;
/// Answers among which the one that repeats itself most is looked for.
const CANDIDATES: usize = 12;
/// Tokens of each prompt: few, since decoding is what is measured.
pub(crate) const PROMPT: usize = 8;

/// Measures every number of streams.
pub(crate) fn measure(
    setup: &Setup,
    limits: limits::Limits,
    format: &Format,
    service: &Service,
    report: &mut Report,
) -> anyhow::Result<()> {
    let bytes = kernels::bytes(setup.depth, format.held) as f64;
    for n in STREAMS {
        let mut rates = Vec::new();
        let mut gaps = Vec::new();
        for _ in 0..setup.runs() {
            let run = decode(service, n, tokens(setup, n))?;
            rates.push(run.rate);
            gaps.extend(run.gaps);
        }
        let least = limits.least_seconds(bytes, format.arithmetic, kernels::operations(setup.depth, n, n));
        let name = format!("decode, {n} stream{}", if n == 1 { "" } else { "s" });
        let rate = Figure::new(name.clone(), format.name, clock::median(&rates), "tok/s");
        report.add(rate.of_limit(n as f64 / least));
        for percent in [50.0, 95.0, 99.0] {
            let gap = clock::percentile(&gaps, percent) * 1e3;
            report.add(Figure::new(format!("{name}, between tokens p{percent}"), format.name, gap, "ms"));
        }
    }
    Ok(())
}

/// Measures one stream whose text runs in circles, without guesses and with as many as the server makes. Of the answers
/// that random weights give some do so before long: the one that gains most is taken.
pub(crate) fn speculation(
    setup: &Setup,
    format: &Format,
    without: &Service,
    model: &LoadedModel,
    report: &mut Report,
) -> anyhow::Result<()> {
    let with = Service::start(setup, model, Limits::default().speculation_tokens)?;
    let rate = |service: &Service, prompt: &[u32]| -> anyhow::Result<f64> {
        Ok(service.answer(prompt.to_vec(), REPEATING)?.rate())
    };
    let mut best: Option<(f64, Vec<u32>)> = None;
    for _ in 0..CANDIDATES {
        let prompt = with.prompt(PROMPT);
        let guessed = rate(&with, &prompt)?;
        if best.as_ref().is_none_or(|(most, _)| guessed > *most) {
            best = Some((guessed, prompt));
        }
    }
    let Some((guessed, prompt)) = best else { return Ok(()) };
    let plain = rate(without, &prompt)?;
    let name = "one stream that repeats itself";
    report.add(Figure::new(format!("{name}, no guesses"), format.name, plain, "tok/s"));
    report.add(Figure::new(format!("{name}, guesses"), format.name, guessed, "tok/s"));
    report.add(Figure::new(format!("{name}, gain"), format.name, guessed / plain, "times"));
    Ok(())
}

/// Tokens of each stream in a run: enough that a run lasts some tenths of a second at least.
fn tokens(setup: &Setup, streams: usize) -> usize {
    let tokens = if streams == 1 { 128 } else { 48 };
    if setup.quick { tokens / 2 } else { tokens }
}

/// One run of streams that decode together.
pub(crate) struct Together {
    /// Tokens per second of all of them.
    pub(crate) rate: f64,
    /// Seconds between tokens.
    pub(crate) gaps: Vec<f64>,
}

/// Lets `n` streams decode together.
pub(crate) fn decode(service: &Service, n: usize, tokens: usize) -> anyhow::Result<Together> {
    together((0..n).map(|_| service.ask(service.prompt(PROMPT), tokens)))
}

/// Watches streams that decode together.
pub(crate) fn together(
    streams: impl Iterator<Item = anyhow::Result<BenchStream>>,
) -> anyhow::Result<Together> {
    let asked = streams.collect::<Result<Vec<_>, _>>()?;
    let times = asked.into_iter().map(BenchStream::finish).collect::<Result<Vec<Times>, _>>()?;
    let span = all_decoding(&times)?;
    let gaps: Vec<f64> = times.iter().flat_map(|stream| stream.gaps(span)).collect();
    let seconds = (span.1 - span.0).as_secs_f64();
    let came = times.iter().flat_map(|stream| &stream.came).filter(|at| **at > span.0 && **at <= span.1);
    Ok(Together { rate: came.count() as f64 / seconds, gaps })
}
