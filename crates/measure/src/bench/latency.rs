//! How long callers wait: for the prompt to be read, for the first token, and for each other.

use super::decode;
use super::formats::Format;
use super::limits::Limits;
use super::report::{Figure, Report};
use super::setup::Setup;
use super::streams::{BenchStream, Service};
use super::{clock, kernels};

/// Tokens of the prompt whose reading is timed, and of the prefix that comes again.
const PROMPT: usize = 512;
/// Streams that arrive at once, or decode while another arrives, and what each brings.
const CROWD: usize = 8;
const CROWD_PROMPT: usize = 128;
/// Tokens of the prompt that arrives among streams, and of the answers that it arrives among.
const LATE_PROMPT: usize = 1900;
const LATE_ANSWERS: usize = 160;
/// Tokens that every stream has before the long prompt arrives.
const SETTLED: usize = 24;
/// Tokens by which a step of one stream is timed.
const STEPS: usize = 48;

/// Tokens of a long prompt per second.
pub(crate) fn prefill(
    setup: &Setup,
    limits: Limits,
    format: &Format,
    service: &Service,
    report: &mut Report,
) -> anyhow::Result<()> {
    let seconds = median_of(setup, || Ok(service.answer(service.prompt(PROMPT), 1)?.first()))?;
    let bytes = kernels::bytes(setup.depth, format.held) as f64;
    let least = limits.least_seconds(bytes, format.arithmetic, kernels::operations(setup.depth, PROMPT, 1));
    let rate = Figure::new("prefill of 512", format.name, PROMPT as f64 / seconds, "tok/s");
    report.add(rate.of_limit(PROMPT as f64 / least));
    Ok(())
}

/// First tokens, and what one caller costs another.
pub(crate) fn measure(
    setup: &Setup,
    format: &Format,
    service: &Service,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut firsts = Vec::new();
    for _ in 0..setup.runs() {
        let crowd = ask_all(service, CROWD_PROMPT, 2)?;
        for stream in crowd {
            firsts.push(stream.finish()?.first() * 1e3);
        }
    }
    let first = clock::median(&firsts);
    report.add(Figure::new("first token p50, 8 streams of 128", format.name, first, "ms"));
    let one = median_of(setup, || Ok(service.answer(service.prompt(1), 1)?.first()))?;
    report.add(Figure::new("first token of a one-token prompt", format.name, one * 1e3, "ms"));
    let again = median_of(setup, || again(service))?;
    report.add(Figure::new("first token, 512-token prefix seen before", format.name, again * 1e3, "ms"));
    let step = clock::median(&decode::decode(service, 1, STEPS)?.gaps);
    let name = "512-token prefix seen before, over one token";
    report.add(Figure::new(name, format.name, (again - one) / step, "decode steps"));
    let added = median_of(setup, || late_prompt(service))?;
    report.add(Figure::new("1,900-token prompt adds to 8 streams", format.name, added * 1e3, "ms"));
    Ok(())
}

/// Seconds to the first token of a prompt of which all but the last token was read before.
fn again(service: &Service) -> anyhow::Result<f64> {
    let mut prompt = service.prompt(PROMPT + 1);
    service.answer(prompt.clone(), 1)?;
    prompt[PROMPT] = service.prompt(1)[0];
    Ok(service.answer(prompt, 1)?.first())
}

/// By how many seconds the longest wait for a token grows while a long prompt is read beside the streams.
fn late_prompt(service: &Service) -> anyhow::Result<f64> {
    let crowd = ask_all(service, 1, LATE_ANSWERS)?;
    for stream in &crowd {
        stream.wait_for(SETTLED)?;
    }
    let late = service.answer(service.prompt(LATE_PROMPT), 1)?;
    let (from, to) = (late.asked, late.came[0]);
    let (mut before, mut worst) = (Vec::new(), 0.0f64);
    for stream in crowd {
        for pair in stream.finish()?.came.windows(2) {
            let gap = (pair[1] - pair[0]).as_secs_f64();
            if pair[1] < from {
                before.push(gap);
            } else if pair[0] < to {
                worst = worst.max(gap);
            }
        }
    }
    Ok(worst - clock::median(&before))
}

fn ask_all(service: &Service, prompt: usize, tokens: usize) -> anyhow::Result<Vec<BenchStream>> {
    (0..CROWD).map(|_| service.ask(service.prompt(prompt), tokens)).collect()
}

fn median_of(setup: &Setup, mut measured: impl FnMut() -> anyhow::Result<f64>) -> anyhow::Result<f64> {
    let all: Vec<f64> = (0..setup.runs()).map(|_| measured()).collect::<Result<_, _>>()?;
    Ok(clock::median(&all))
}
