//! What fuzzing found worth keeping, a folder for each target; see `fuzz/`.

use registry::fuzz::{fuzz_models_file, fuzz_vocabulary};

fn replay(target: &str, run: fn(&[u8])) {
    let directory = format!("{}/tests/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let files: Vec<_> = std::fs::read_dir(&directory).unwrap().collect();
    assert!(files.len() >= 20, "{directory} has {} files", files.len());
    for file in files {
        run(&std::fs::read(file.unwrap().path()).unwrap());
    }
}

#[test]
fn models_files_are_read_or_refused_with_a_line() {
    replay("models_file", fuzz_models_file);
}

#[test]
fn tokenizers_give_texts_back_or_are_refused() {
    replay("vocabulary", fuzz_vocabulary);
}
