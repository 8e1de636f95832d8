//! Models as a Hub has them.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::hub::Files;
use crate::wide;

/// Weights in two files, of three requests and of two.
pub(crate) const FIRST: &str = "model-00001-of-00002.safetensors";
pub(crate) const SECOND: &str = "model-00002-of-00002.safetensors";
/// What is asked for at once, in bytes.
pub(crate) const REQUEST: u64 = 32 << 20;
/// Layers of 6 MB each, and how many of them are in the first file.
const LAYERS: usize = 17;
const FIRST_LAYERS: usize = 11;

/// The files of a directory.
pub(crate) fn read(directory: &Path) -> Files {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let file = |entry: std::fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), Arc::new(std::fs::read(entry.path()).unwrap()))
    };
    entries.map(file).collect()
}

/// A golden checkpoint: 1.3 MB of weights.
pub(crate) fn small(generation: &str) -> Files {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../goldens");
    let mut files = read(&goldens.join(generation));
    files.extend(read(&goldens.join("tokenizer")));
    files.remove("expected.json");
    files
}

/// Random weights of 108 MB in two files.
pub(crate) fn large(seed: u64) -> Files {
    let directory = tempfile::tempdir().unwrap();
    wide::write(directory.path(), LAYERS, seed);
    let mut files = read(directory.path());
    let whole = files.remove("model.safetensors").unwrap();
    let (length, rest) = whole.split_at(8);
    let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
    let header: Map<String, Value> = serde_json::from_slice(&rest[..length]).unwrap();
    let data = &rest[length..];
    // Two matrices of embeddings, then six a layer.
    let cut = 2 + 6 * FIRST_LAYERS;
    let mut map = Map::new();
    for (file, tensors) in [(FIRST, 0..cut), (SECOND, cut..header.len())] {
        let tensors: Vec<(&String, &Value)> = header.iter().skip(tensors.start).take(tensors.len()).collect();
        map.extend(tensors.iter().map(|(name, _)| ((*name).clone(), json!(file))));
        files.insert(file.to_owned(), Arc::new(shard(&tensors, data)));
    }
    let index = json!({ "metadata": {}, "weight_map": map });
    files.insert("model.safetensors.index.json".to_owned(), Arc::new(index.to_string().into_bytes()));
    files
}

/// A file of some tensors that follow each other in the whole one.
fn shard(tensors: &[(&String, &Value)], data: &[u8]) -> Vec<u8> {
    let place = |tensor: &Value, end: usize| tensor["data_offsets"][end].as_u64().unwrap() as usize;
    let (from, to) = (place(tensors[0].1, 0), place(tensors[tensors.len() - 1].1, 1));
    let mut header = Map::new();
    for (name, tensor) in tensors {
        let mut moved = (*tensor).clone();
        moved["data_offsets"] = json!([place(tensor, 0) - from, place(tensor, 1) - from]);
        header.insert((*name).clone(), moved);
    }
    let header = serde_json::to_vec(&header).unwrap();
    [&(header.len() as u64).to_le_bytes()[..], &header, &data[from..to]].concat()
}
