//! Every generation against the reference implementation: small random checkpoints with expected logits.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cpu::{Compute, Isa, KvCache, KvLayout, Session, WeightFormat, Weights};
use engine::backend::{BatchItem, LogitRows, PAGE};
use formats::TensorTable;
use model::{Config, Overrides};
use serde_json::Value;

const CASES: [&str; 10] =
    ["g0", "g1", "g3", "g5", "g6", "g7", "g7-wide-heads", "g7-constants", "g7-softcap-30", "g7-backout"];

struct Golden {
    weights: Weights,
    expected: Value,
    name: &'static str,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens").join(name)
}

fn file(name: &str, prefix: &str) -> PathBuf {
    let mut files = std::fs::read_dir(folder(name)).unwrap().map(|entry| entry.unwrap().path());
    files.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(prefix)).unwrap()
}

impl Golden {
    fn load(name: &'static str, format: WeightFormat) -> Self {
        let source = Arc::new(std::fs::File::open(file(name, "model_")).unwrap());
        let table = TensorTable::read("model.pt", source).unwrap();
        let meta = formats::read_meta("meta.json", &std::fs::read(file(name, "meta_")).unwrap()).unwrap();
        let config = Config::read(&table, &meta, &Overrides::default()).unwrap();
        let weights = Weights::load(&Compute::new(Isa::SCALAR, 2), &table, config, format).unwrap();
        let expected =
            serde_json::from_slice(&std::fs::read(folder(name).join("expected.json")).unwrap()).unwrap();
        Self { weights, expected, name }
    }

    fn prompts(&self) -> impl Iterator<Item = (Vec<u32>, Vec<f32>, Vec<u32>)> {
        let prompts = self.expected["prompts"].as_array().unwrap();
        prompts.iter().map(|p| (ids(&p["tokens"]), numbers(&p["logits"]), ids(&p["greedy"])))
    }

    fn run(&self, isa: Isa) -> Run<'_> {
        let layout = KvLayout::new(&self.weights.config, self.weights.format);
        let pages = self.weights.config.sequence_len / PAGE;
        let n_pages = vec![pages; layout.classes.len()];
        // Page numbers in reverse, so that nothing depends on pages lying in order.
        let tables = vec![(0..pages as u32).rev().collect(); n_pages.len()];
        let session = Session::new(KvCache::new(&layout, &n_pages));
        Run { compute: Compute::new(isa, 2), session, tables, tokens: Vec::new(), weights: &self.weights }
    }
}

/// One sequence on its way.
struct Run<'a> {
    compute: Compute,
    session: Session,
    tables: Vec<Vec<u32>>,
    tokens: Vec<u32>,
    weights: &'a Weights,
}

impl Run<'_> {
    fn feed(&mut self, tokens: &[u32], logits: LogitRows) -> Vec<f32> {
        let item = BatchItem { tokens, history: &self.tokens, tables: &self.tables, logits };
        let result = self.session.forward(&self.compute, self.weights, &[item]).to_vec();
        self.tokens.extend_from_slice(tokens);
        result
    }
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|n| n.as_f64().unwrap() as f32).collect()
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn likeliest(logits: &[f32]) -> u32 {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32
}

#[test]
fn golden_generations_are_told_apart() {
    for name in CASES {
        let golden = Golden::load(name, WeightFormat::F32);
        assert_eq!(
            golden.weights.config.architecture,
            golden.expected["generation"].as_str().unwrap(),
            "{name}"
        );
    }
}

#[test]
fn golden_logits_and_greedy_tokens() {
    for name in CASES {
        let golden = Golden::load(name, WeightFormat::F32);
        for isa in Isa::available() {
            let mut worst = 0.0f32;
            for (prompt, logits, greedy) in golden.prompts() {
                let mut run = golden.run(isa);
                let mut got = run.feed(&prompt, LogitRows::Last);
                worst = worst.max(largest_difference(&got, &logits));
                for &expected in &greedy {
                    assert_eq!(likeliest(&got), expected, "{name} {}", isa.name());
                    got = run.feed(&[expected], LogitRows::Last);
                }
            }
            println!("{name} {}: largest difference of logits {worst:.1e}", isa.name());
            assert!(worst < 1e-3, "{name} {}: {worst}", isa.name());
        }
    }
}

#[test]
fn golden_long_sequence_beyond_every_window() {
    for name in CASES {
        let golden = Golden::load(name, WeightFormat::F32);
        let sequence = &golden.expected["sequence"];
        let tokens = ids(&sequence["tokens"]);
        let vocab = golden.weights.config.vocab_size;
        let logits = golden.run(Isa::detect()).feed(&tokens, LogitRows::All);
        let last = &logits[(tokens.len() - 1) * vocab..];
        let difference = largest_difference(last, &numbers(&sequence["last_logits"]));
        assert!(difference < 1e-3, "{name}: {difference}");
        let rows = logits.chunks_exact(vocab).zip(sequence["top4_ids"].as_array().unwrap());
        for (position, (row, top)) in rows.enumerate() {
            let best = numbers(&sequence["top4_logits"][position]);
            for (id, best) in ids(top).into_iter().zip(best) {
                let difference = (row[id as usize] - best).abs();
                assert!(difference < 1e-3, "{name} position {position} token {id}: {difference}");
            }
        }
        let nll: f64 = logits.chunks_exact(vocab).zip(&tokens[1..]).map(|(row, &next)| nll(row, next)).sum();
        let mean = nll / (tokens.len() - 1) as f64;
        assert!((mean - sequence["mean_nll"].as_f64().unwrap()).abs() < 1e-5, "{name}: mean loss {mean}");
    }
}

fn nll(logits: &[f32], token: u32) -> f64 {
    let total: f64 = logits.iter().map(|&z| f64::from(z).exp()).sum();
    total.ln() - f64::from(logits[token as usize])
}

#[test]
fn golden_prompts_cut_anywhere_give_the_same_bits() {
    for name in CASES {
        for format in [WeightFormat::F32, WeightFormat::Bf16] {
            let golden = Golden::load(name, format);
            let (prompt, ..) = golden.prompts().max_by_key(|(prompt, ..)| prompt.len()).unwrap();
            let whole = golden.run(Isa::detect()).feed(&prompt, LogitRows::Last);
            for cut in 1..prompt.len() {
                let mut run = golden.run(Isa::detect());
                run.feed(&prompt[..cut], LogitRows::None);
                assert_eq!(run.feed(&prompt[cut..], LogitRows::Last), whole, "{} cut at {cut}", golden.name);
            }
        }
    }
}

#[test]
fn one_token_at_a_time_gives_the_bits_of_the_whole_across_windows() {
    for name in ["g7", "g5", "g0"] {
        let golden = Golden::load(name, WeightFormat::F32);
        let tokens = ids(&golden.expected["sequence"]["tokens"]);
        let vocab = golden.weights.config.vocab_size;
        let whole = golden.run(Isa::detect()).feed(&tokens, LogitRows::All);
        let mut run = golden.run(Isa::detect());
        for (position, token) in tokens.iter().enumerate() {
            let logits = run.feed(&[*token], LogitRows::Last);
            assert_eq!(logits, whole[position * vocab..][..vocab], "{name} position {position}");
        }
    }
}

#[test]
fn bf16_weights_stay_close_to_exact_ones() {
    for name in CASES {
        let golden = Golden::load(name, WeightFormat::Bf16);
        for isa in Isa::available() {
            for (prompt, logits, _) in golden.prompts() {
                let got = golden.run(isa).feed(&prompt, LogitRows::Last);
                let difference = largest_difference(&got, &logits);
                assert!(difference < 0.5, "{name} {}: {difference}", isa.name());
            }
        }
    }
}
