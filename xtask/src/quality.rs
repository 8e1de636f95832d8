//! `cargo xtask quality`: what holding weights in fewer bits costs the built-in model, against f32.
//!
//! On text that the training never saw (`goldens/quality`): the mean negative log-likelihood of a token, the
//! Kullback-Leibler divergence of the distributions and how often both have the same likeliest token. And on prompts
//! from it: how many greedy answers are the same. Formats with a limit pass or fail; speed is no matter here.

mod greedy;
mod sample;
mod score;

use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use model::{Compute, Isa, WeightFormat};
use registry::{Catalog, LoadOptions, LoadedModel};
use serde_json::{Value, json};

use self::greedy::Agreement;
use self::sample::Sample;
use self::score::Score;

/// The formats, by the names they are reported under; the first is what the others are held to.
const FORMATS: &[(&str, WeightFormat)] = &[
    ("f32", WeightFormat::F32),
    ("bf16", WeightFormat::Bf16),
    ("int8", WeightFormat::Int8),
    ("int4", WeightFormat::Int4),
];

/// What a format may cost.
struct Limits {
    /// Nats a token that the likelihood may differ by, either way.
    nll: f64,
    /// Share of greedy answers that have to be the same; 0 if there is no limit.
    equal: f64,
}

/// The promise for a format, if there is one.
fn limits(name: &str) -> Option<Limits> {
    match name {
        "int8" => Some(Limits { nll: 0.005, equal: 0.95 }),
        "int4" => Some(Limits { nll: 0.05, equal: 0.0 }),
        _ => None,
    }
}

/// How to say it.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// One format's figures.
struct Line {
    name: &'static str,
    score: Score,
    agreement: Agreement,
}

/// Measures every format and fails if one is beyond its limits.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let compute = Compute::new(Isa::detect(), threads);
    let models =
        FORMATS.iter().map(|(_, format)| load(&compute, *format)).collect::<anyhow::Result<Vec<_>>>()?;
    let sample = Sample::read(&models[0])?;
    let scores = score::score(&models, &compute, &sample.documents);
    let answers: Vec<_> =
        models.iter().map(|model| greedy::answers(model, &compute, &sample.prompts)).collect();
    let lines: Vec<Line> = FORMATS
        .iter()
        .zip(scores)
        .zip(&answers)
        .map(|((&(name, _), score), given)| Line {
            name,
            score,
            agreement: Agreement::of(&answers[0], given),
        })
        .collect();
    if arguments.json {
        println!("{:#}", to_json(&lines, &sample, compute.isa));
    } else {
        print!("{}", to_table(&lines, &sample, compute.isa));
    }
    let beyond: Vec<&str> =
        lines.iter().filter(|line| line.passes() == Some(false)).map(|line| line.name).collect();
    if beyond.is_empty() { Ok(()) } else { bail!("beyond its limits: {}", beyond.join(", ")) }
}

fn load(compute: &Compute, format: WeightFormat) -> anyhow::Result<LoadedModel> {
    let catalog = Catalog::new(None);
    let entry = catalog.find(&registry::builtin::tag())?;
    let opened = registry::load::open(&catalog, &entry, &LoadOptions { format, step: None });
    opened.and_then(|opened| opened.load(compute)).context("the built-in model does not load")
}

impl Line {
    /// Whether it keeps its promise, if there is one.
    fn passes(&self) -> Option<bool> {
        let Limits { nll, equal } = limits(self.name)?;
        Some(self.score.delta().abs() <= nll && self.agreement.equal() >= equal)
    }

    fn verdict(&self) -> String {
        let (Some(passes), Some(Limits { nll, equal })) = (self.passes(), limits(self.name)) else {
            return "–".to_owned();
        };
        let answers = if equal > 0.0 { format!(", {:.0} % equal", 100.0 * equal) } else { String::new() };
        format!("{} (Δ ≤ {nll}{answers})", if passes { "pass" } else { "FAIL" })
    }
}

fn to_json(lines: &[Line], sample: &Sample, isa: Isa) -> Value {
    let formats: serde_json::Map<String, Value> = lines
        .iter()
        .map(|line| {
            let Line { name, score, agreement } = line;
            let limits = limits(name).map(|l| json!({ "nll": l.nll, "equal_answers": l.equal }));
            let [chat, text] = score.parts();
            let figures = json!({
                "nll": { "all": score.nll(), "chat": chat, "text": text },
                "nll_difference": score.delta(),
                "nll_difference_standard_error": score.delta_error(),
                "kl": score.kl(),
                "same_top_token": score.same_top(),
                "equal_answers": agreement.equal(),
                "equal_leading_tokens": agreement.leading(),
                "limits": limits,
                "passes": line.passes(),
            });
            ((*name).to_owned(), figures)
        })
        .collect();
    let [chat, text] = sample.scored();
    json!({
        "isa": isa.name(),
        "tokens": { "chat": chat, "text": text },
        "prompts": sample.prompts.len(),
        "answer_tokens": greedy::ANSWER_TOKENS,
        "formats": formats,
    })
}

fn to_table(lines: &[Line], sample: &Sample, isa: Isa) -> String {
    let [chat, text] = sample.scored();
    let (prompts, answer) = (sample.prompts.len(), greedy::ANSWER_TOKENS);
    let mut out = format!(
        "{}, on {}: {chat} tokens of chat and {text} of text that it was not trained on, in nats a token; \
         {prompts} greedy answers of at most {answer} tokens\n\n",
        registry::builtin::TAG,
        isa.name()
    );
    let heads = ["chat", "text", "all", "Δ to f32", "± s.e.", "KL", "same top", "equal", "leading"];
    let head = heads.iter().fold(format!("{:<8}", "format"), |row, head| row + &format!("{head:>10}"));
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{head}  limits");
    for line in lines {
        let Line { name, score, agreement } = line;
        let [chat, text] = score.parts();
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let cells = [
            format!("{chat:.4}"),
            format!("{text:.4}"),
            format!("{:.4}", score.nll()),
            format!("{:+.5}", score.delta()),
            format!("{:.5}", score.delta_error()),
            format!("{:.6}", score.kl()),
            percent(score.same_top()),
            percent(agreement.equal()),
            percent(agreement.leading()),
        ];
        let row = cells.iter().fold(format!("{name:<8}"), |row, cell| row + &format!("{cell:>10}"));
        let _ = writeln!(out, "{row}  {}", line.verdict());
    }
    out.push_str(
        "\nequal: answers that are the same to the end; leading: mean share of tokens before they part\n",
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_fits_the_model_and_f32_is_like_itself() {
        let model = load(&Compute::new(Isa::SCALAR, 1), WeightFormat::F32).unwrap();
        let mut sample = Sample::read(&model).unwrap();
        assert!(sample.scored().iter().all(|tokens| *tokens > 5000), "{:?}", sample.scored());
        sample.documents.truncate(4);
        sample.prompts.truncate(3);
        let (models, compute) = ([model.clone(), model], Compute::new(Isa::detect(), 2));
        let scores = score::score(&models, &compute, &sample.documents);
        assert_eq!((scores[1].delta(), scores[1].kl(), scores[1].same_top()), (0.0, 0.0, 1.0));
        // Far from chance, which is ln 4096 = 8.3.
        assert!((2.0..6.0).contains(&scores[0].parts()[0]), "{:?}", scores[0].parts());
        let [alone, beside] = [&sample.prompts[..1], &sample.prompts[..]]
            .map(|prompts| greedy::answers(&models[0], &compute, prompts));
        assert_eq!(alone[0], beside[0]);
        assert!(beside.iter().all(|answer| (1..=greedy::ANSWER_TOKENS).contains(&answer.len())));
    }

    #[test]
    fn a_figure_that_is_no_number_keeps_no_promise() {
        let answers = [vec![1]];
        let line = |name, score| Line { name, score, agreement: Agreement::of(&answers, &answers) };
        assert_eq!(line("int8", Score::default()).passes(), Some(false));
        assert_eq!(line("f32", Score::default()).passes(), None);
    }
}
