//! What trainings of nanochat leave, put into a page's folder: small checkpoints under the names of large ones.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use formats::TensorTable;
use serde_json::{Map, json};

use crate::shell;

/// Where a model goes, its step, and which of the goldens it is.
type Model = (&'static str, u32, &'static str);

/// A layout: its name, where the tokenizer goes, and the models.
const LAYOUTS: &[(&str, &str, &[Model])] = &[
    ("base", BASE_TOKENIZER, &[BASE]),
    ("sft", BASE_TOKENIZER, &[BASE, SFT]),
    ("rl", BASE_TOKENIZER, &[BASE, SFT, (".cache/nanochat/chatrl_checkpoints/d24", 466, "g7-wide-heads")]),
    (
        "mid",
        BASE_TOKENIZER,
        &[
            (".cache/nanochat/base_checkpoints/d20", 21400, "g0"),
            (".cache/nanochat/mid_checkpoints/d20", 765, "g0"),
            (".cache/nanochat/chatsft_checkpoints/d20", 650, "g0"),
        ],
    ),
    ("folder", "models/tokenizer", &[("models/d24", 650, "g7"), ("models/d24-rl", 466, "g7-wide-heads")]),
];

const BASE_TOKENIZER: &str = ".cache/nanochat/tokenizer";
const BASE: Model = (".cache/nanochat/base_checkpoints/d24", 5568, "g6");
const SFT: Model = (".cache/nanochat/chatsft_checkpoints/d24", 650, "g7");

/// Makes a layout below `home`.
pub(super) fn make(home: &Path, name: &str) -> anyhow::Result<()> {
    if name == "hf" {
        return export(&home.join("models/d20-hf"));
    }
    let Some((_, tokenizer, models)) = LAYOUTS.iter().find(|(known, ..)| *known == name) else {
        let known: Vec<&str> = LAYOUTS.iter().map(|(name, ..)| *name).collect();
        bail!("there is no layout `{name}`, but {} and hf", known.join(", "));
    };
    copy("tokenizer/tokenizer.pkl", &home.join(tokenizer).join("tokenizer.pkl"))?;
    for (folder, step, golden) in *models {
        let own = number_of(golden)?;
        let folder = home.join(folder);
        copy(&format!("{golden}/model_{own}.pt"), &folder.join(format!("model_{step:06}.pt")))?;
        copy(&format!("{golden}/meta_{own}.json"), &folder.join(format!("meta_{step:06}.json")))?;
    }
    Ok(())
}

/// The step in the names of a golden's files.
fn number_of(golden: &str) -> anyhow::Result<String> {
    let folder = shell::root().join("goldens").join(golden);
    for entry in fs::read_dir(&folder)? {
        let name = entry?.file_name();
        let step = name.to_str().and_then(|name| name.strip_prefix("model_")?.strip_suffix(".pt"));
        if let Some(step) = step {
            return Ok(step.to_owned());
        }
    }
    bail!("{} has no weights", folder.display())
}

fn copy(golden: &str, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to.parent().context("a file lies in a folder")?)?;
    let from = shell::root().join("goldens").join(golden);
    fs::copy(&from, to).with_context(|| from.display().to_string())?;
    Ok(())
}

/// A model of the first generation as the class of transformers saves it.
fn export(folder: &Path) -> anyhow::Result<()> {
    copy("tokenizer/tokenizer.pkl", &folder.join("tokenizer.pkl"))?;
    let config = json!({
        "architectures": ["NanoChatForCausalLM"], "model_type": "nanochat", "vocab_size": 701, "hidden_size": 64,
        "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
        "max_position_embeddings": 512, "rope_parameters": { "rope_theta": 10000.0, "rope_type": "default" },
        "final_logit_softcapping": 15.0, "tie_word_embeddings": false,
    });
    fs::write(folder.join("config.json"), format!("{config:#}\n"))?;
    let weights = shell::root().join("goldens/g0").join(format!("model_{}.pt", number_of("g0")?));
    let table = TensorTable::read("model.pt", Arc::new(fs::File::open(weights)?))?;
    let (mut header, mut data) = (Map::new(), Vec::new());
    for tensor in table.iter() {
        let begin = data.len();
        data.extend(tensor.read()?.iter().flat_map(|number| number.to_le_bytes()));
        let about = json!({ "dtype": "F32", "shape": tensor.shape(), "data_offsets": [begin, data.len()] });
        header.insert(name_in_transformers(tensor.name()), about);
    }
    let header = serde_json::to_vec(&header)?;
    let length = (header.len() as u64).to_le_bytes();
    Ok(fs::write(folder.join("model.safetensors"), [&length[..], &header, &data].concat())?)
}

/// What that class calls a parameter.
fn name_in_transformers(name: &str) -> String {
    let parts = [
        ("transformer.wte", "model.embed_tokens"),
        ("transformer.h.", "model.layers."),
        ("attn.c_q", "self_attn.q_proj"),
        ("attn.c_k", "self_attn.k_proj"),
        ("attn.c_v", "self_attn.v_proj"),
        ("attn.c_proj", "self_attn.o_proj"),
        ("mlp.c_fc", "mlp.fc1"),
        ("mlp.c_proj", "mlp.fc2"),
    ];
    parts.iter().fold(name.to_owned(), |name, (native, other)| name.replace(native, other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layout_can_be_made_and_others_are_refused() {
        for (name, ..) in LAYOUTS {
            let home = tempfile::tempdir().unwrap();
            make(home.path(), name).unwrap();
            assert!(home.path().read_dir().unwrap().next().is_some(), "{name}");
        }
        let home = tempfile::tempdir().unwrap();
        make(home.path(), "hf").unwrap();
        let found = home.path().join("models/d20-hf");
        let found = registry::Catalog::new(Some(found.parent().unwrap().to_owned()));
        assert!(found.find(&registry::Tag::new("d20-hf").unwrap()).is_ok());
        assert!(make(home.path(), "sftt").unwrap_err().to_string().contains("no layout `sftt`"));
    }
}
