//! Random models of some size, written as safetensors: weights that are worth measuring.

use std::path::Path;

use serde_json::{Map, json};

const VOCABULARY: usize = 701;
const WIDTH: usize = 512;

/// Writes a model of the oldest generation beside the goldens' tokenizer. Seeds tell models apart.
pub(crate) fn write(directory: &Path, layers: usize, seed: u64) {
    std::fs::create_dir_all(directory).unwrap();
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens/tokenizer/tokenizer.pkl");
    std::fs::copy(tokenizer, directory.join("tokenizer.pkl")).unwrap();
    let config = json!({ "model_config": {
        "sequence_len": 512, "vocab_size": VOCABULARY, "n_layer": layers,
        "n_head": 4, "n_kv_head": 4, "n_embd": WIDTH,
    }});
    std::fs::write(directory.join("meta.json"), config.to_string()).unwrap();
    let (mut header, mut numbers) = (Map::new(), Vec::new());
    let mut state = seed;
    for (name, rows, columns) in matrices(layers) {
        let begin = numbers.len();
        // Wide enough that different seeds say different things.
        let scale = (3.0 / columns as f32).sqrt();
        numbers.extend((0..rows * columns).flat_map(|_| bf16(uniform(&mut state) * scale)));
        let tensor =
            json!({ "dtype": "BF16", "shape": [rows, columns], "data_offsets": [begin, numbers.len()] });
        header.insert(name, tensor);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(numbers);
    std::fs::write(directory.join("model.safetensors"), file).unwrap();
}

fn matrices(layers: usize) -> Vec<(String, usize, usize)> {
    let mut all = vec![
        ("transformer.wte.weight".to_owned(), VOCABULARY, WIDTH),
        ("lm_head.weight".to_owned(), VOCABULARY, WIDTH),
    ];
    for l in 0..layers {
        let name = |part: &str| format!("transformer.h.{l}.{part}.weight");
        for part in ["attn.c_q", "attn.c_k", "attn.c_v", "attn.c_proj"] {
            all.push((name(part), WIDTH, WIDTH));
        }
        all.push((name("mlp.c_fc"), 4 * WIDTH, WIDTH));
        all.push((name("mlp.c_proj"), WIDTH, 4 * WIDTH));
    }
    all
}

/// A number from -1 to 1 (xorshift64*).
fn uniform(state: &mut u64) -> f32 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    let bits = state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40;
    bits as f32 / (1 << 23) as f32 - 1.0
}

fn bf16(value: f32) -> [u8; 2] {
    let [_, _, low, high] = value.to_bits().to_le_bytes();
    [low, high]
}
