//! `cargo xtask quality`: what holding weights in fewer bits costs the built-in model, against f32.
//!
//! On text that the training never saw (`goldens/quality`): the mean negative log-likelihood of a token, the
//! Kullback-Leibler divergence of the distributions and how often both have the same likeliest token. And on its small
//! talk, which the model is unsure about, and on questions of the kinds that the model was made for: how many greedy
//! answers, with the calculator's results in them, are the same. Formats with a limit pass or fail; speed is no matter here.

mod greedy;
mod sample;
mod score;

use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use cpu::{Compute, Isa, WeightFormat};
use registry::{Catalog, open};
use serde_json::{Value, json};
use serving::LoadedModel;

use self::greedy::Agreement;
use self::sample::{ANSWER_TOKENS, Sample};
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
    /// Share of greedy answers, of both sets of prompts together, that have to be the same; 0 if there is no limit.
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
    agreement: Agreements,
}

/// How far greedy answers are the reference's, by the prompts that they answer.
struct Agreements {
    small_talk: Agreement,
    own_kind: Agreement,
    all: Agreement,
}

impl Agreements {
    /// The first `small_talk` answers are those to small talk.
    fn of(small_talk: usize, reference: &[Vec<u32>], given: &[Vec<u32>]) -> Self {
        Self {
            small_talk: Agreement::of(&reference[..small_talk], &given[..small_talk]),
            own_kind: Agreement::of(&reference[small_talk..], &given[small_talk..]),
            all: Agreement::of(reference, given),
        }
    }
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
            agreement: Agreements::of(sample.small_talk, &answers[0], given),
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
    let verified = open::open(&catalog, &entry, None);
    verified
        .and_then(|verified| LoadedModel::load(verified, format, compute))
        .context("the built-in model does not load")
}

impl Line {
    /// Whether it keeps its promise, if there is one.
    fn passes(&self) -> Option<bool> {
        let Limits { nll, equal } = limits(self.name)?;
        Some(self.score.delta().abs() <= nll && self.agreement.all.equal() >= equal)
    }

    fn verdict(&self) -> String {
        let (Some(passes), Some(Limits { nll, equal })) = (self.passes(), limits(self.name)) else {
            return "–".to_owned();
        };
        let answers =
            if equal > 0.0 { format!(", {:.0} % of all equal", 100.0 * equal) } else { String::new() };
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
                "equal_answers": by_prompts(agreement, Agreement::equal),
                "equal_leading_tokens": by_prompts(agreement, Agreement::leading),
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
        "prompts": {
            "all": sample.prompts.len(),
            "small_talk": sample.small_talk,
            "own_kind": sample.prompts.len() - sample.small_talk,
        },
        "answer_tokens": ANSWER_TOKENS,
        "formats": formats,
    })
}

fn by_prompts(agreement: &Agreements, share: fn(&Agreement) -> f64) -> Value {
    let Agreements { small_talk, own_kind, all } = agreement;
    json!({ "all": share(all), "small_talk": share(small_talk), "own_kind": share(own_kind) })
}

/// The table's columns after the format, and how wide they are.
const COLUMNS: [(&str, usize); 11] = [
    ("chat", 8),
    ("text", 8),
    ("all", 8),
    ("Δ to f32", 10),
    ("± s.e.", 9),
    ("KL", 10),
    ("same top", 10),
    ("equal small talk", 18),
    ("equal own kind", 16),
    ("equal all", 11),
    ("leading", 9),
];

/// What the columns say.
const LEGEND: &str = "
equal: greedy answers that are the same to the end, to small talk that the model was not trained on and is unsure
about, to questions of the kinds that it was made for, and to all of them; a limit on equal answers is one on all of
them. leading: mean share of an answer's tokens before the two part
";

fn to_table(lines: &[Line], sample: &Sample, isa: Isa) -> String {
    let [chat, text] = sample.scored();
    let (prompts, answer) = (sample.prompts.len(), ANSWER_TOKENS);
    let (small_talk, own_kind) = (sample.small_talk, prompts - sample.small_talk);
    let mut out = format!(
        "{}, on {}: {chat} tokens of chat and {text} of text that it was not trained on, in nats a token; \
         greedy answers of at most {answer} tokens to {small_talk} prompts of small talk and {own_kind} of its own \
         kind\n\n",
        registry::builtin::TAG,
        isa.name()
    );
    let head = COLUMNS
        .iter()
        .fold(format!("{:<8}", "format"), |row, (head, width)| row + &format!("{head:>width$}"));
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
            percent(agreement.small_talk.equal()),
            percent(agreement.own_kind.equal()),
            percent(agreement.all.equal()),
            percent(agreement.all.leading()),
        ];
        let row = cells
            .iter()
            .zip(COLUMNS)
            .fold(format!("{name:<8}"), |row, (cell, (_, width))| row + &format!("{cell:>width$}"));
        let _ = writeln!(out, "{row}  {}", line.verdict());
    }
    out + LEGEND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_fits_the_model_and_f32_is_like_itself() {
        let compute = Compute::new(Isa::detect(), 2);
        let model = load(&compute, WeightFormat::F32).unwrap();
        let mut sample = Sample::read(&model).unwrap();
        assert_eq!((sample.small_talk, sample.prompts.len()), (146, 346));
        assert!(sample.scored().iter().all(|tokens| *tokens > 5000), "{:?}", sample.scored());
        sample.documents.truncate(4);
        // Two of small talk, and "How many times does the letter c appear in cumin?"
        sample.prompts.drain(2..sample.small_talk);
        sample.prompts.truncate(3);
        let models = [model.clone(), model];
        let scores = score::score(&models, &compute, &sample.documents);
        assert_eq!((scores[1].delta(), scores[1].kl(), scores[1].same_top()), (0.0, 0.0, 1.0));
        // Far from chance, which is ln 4096 = 8.3.
        assert!((2.0..6.0).contains(&scores[0].parts()[0]), "{:?}", scores[0].parts());
        let [alone, beside] = [&sample.prompts[..1], &sample.prompts[..]]
            .map(|prompts| greedy::answers(&models[0], &compute, prompts));
        assert_eq!(alone[0], beside[0]);
        assert!(beside.iter().all(|answer| (1..=ANSWER_TOKENS).contains(&answer.len())));
        let result = models[0].chat.calculator.unwrap().output_start;
        assert_eq!([1, 2].map(|i: usize| beside[i].contains(&result)), [false, true]);
    }

    #[test]
    fn a_figure_that_is_no_number_keeps_no_promise() {
        let answers = [vec![1], vec![2]];
        let line = |name, score| Line { name, score, agreement: Agreements::of(1, &answers, &answers) };
        assert_eq!(line("int8", Score::default()).passes(), Some(false));
        assert_eq!(line("f32", Score::default()).passes(), None);
    }

    #[test]
    fn agreement_is_told_apart_by_prompts() {
        let reference = [vec![1], vec![2], vec![3]];
        let agreement = Agreements::of(2, &reference, &[vec![1], vec![9], vec![3]]);
        let shares = [agreement.small_talk, agreement.own_kind, agreement.all].map(|part| part.equal());
        assert_eq!(shares, [0.5, 1.0, 2.0 / 3.0]);
    }
}
