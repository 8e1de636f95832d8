//! What a stranger, a checkpoint or a slip of the operator's pen must not be able to do.

use std::io::{Seek, Write};
use std::path::Path;

use serde_json::{Value, json};
use server::Options;

use crate::support::{Ask, Server, ask, options, options_in, storage};

async fn refused(server: &Server, tag: &str) -> (u16, Value) {
    let reply = server.swap(tag).await;
    (reply.status, reply.problem().await)
}

/// A G0 checkpoint of one layer in a sparse file: its header claims `rows` rows of `width`, and all are zero.
fn sparse_checkpoint(directory: &Path, rows: usize, width: usize) {
    let attention = ["c_q", "c_k", "c_v", "c_proj"].map(|part| (format!("attn.{part}"), [width, width]));
    let mlp = [("mlp.c_fc".to_owned(), [4 * width, width]), ("mlp.c_proj".to_owned(), [width, 4 * width])];
    let layer = attention
        .into_iter()
        .chain(mlp)
        .map(|(part, shape)| (format!("transformer.h.0.{part}.weight"), shape));
    let tables = ["transformer.wte.weight", "lm_head.weight"].map(|name| (name.to_owned(), [rows, width]));
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (name, shape) in layer.chain(tables) {
        let begin = end;
        end += shape[0] * shape[1] * 4;
        header.insert(name, json!({ "dtype": "F32", "shape": shape, "data_offsets": [begin, end] }));
    }
    let header = serde_json::to_vec(&header).unwrap();
    std::fs::create_dir_all(directory).unwrap();
    let mut file = std::fs::File::create(directory.join("model_000001.safetensors")).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(&header).unwrap();
    let position = file.stream_position().unwrap();
    file.set_len(position + end as u64).unwrap();
    let sizes =
        json!({ "sequence_len": 512, "vocab_size": 701, "n_layer": 1, "n_head": 512, "n_embd": width });
    std::fs::write(directory.join("meta_000001.json"), sizes.to_string()).unwrap();
}

#[tokio::test]
async fn a_model_too_large_for_memory_is_507_and_nothing_is_allocated() {
    let root = storage(&["g7"]);
    // Half a terabyte that takes a few kilobytes on disk.
    sparse_checkpoint(&root.path().join("huge"), 1 << 20, 65_536);
    let server = Server::start(options_in(root.path(), "g7")).await;
    let before = server.told(&ask("Hello!", 0.0, 16)).await.text();
    let (status, problem) = refused(&server, "huge").await;
    assert_eq!((status, &problem["code"]), (507, &json!("out_of_memory")), "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("MB of memory") && detail.contains("available"), "{detail}");
    assert_eq!(server.told(&ask("Hello!", 0.0, 16)).await.text(), before);
}

#[tokio::test]
async fn made_up_methods_do_not_become_series() {
    let server = Server::start(Options { load_at_start: false, ..options() }).await;
    for i in 0..20 {
        let method = format!("EVIL{i}");
        assert_eq!(server.send(Ask::new(&method, "/models").without("X-Internal-API-Key")).await.status, 401);
    }
    let text = server.send(Ask::new("GET", "/metrics")).await.rest().await;
    let text = String::from_utf8(text).unwrap();
    assert!(!text.contains("EVIL"), "a caller's word is a label");
    assert!(text.contains(r#"http_requests_total{method="other",path="/models",status="401"} 20"#), "{text}");
}

#[tokio::test]
async fn the_default_step_is_the_default_models_and_no_others() {
    let root = storage(&["g7", "g6"]);
    let mut all = options_in(root.path(), "g7");
    all.models.step = Some(100);
    let server = Server::start(all).await;
    assert_eq!(server.get("/stats").await["model"]["step"], 100);
    assert_eq!(server.swap("g6").await.status, 202, "its step is 102");
    assert_eq!(server.swap("g7").await.status, 202);
}

#[tokio::test]
async fn changed_overrides_are_a_changed_model() {
    let root = storage(&["g7"]);
    let server = Server::start(options_in(root.path(), "g7")).await;
    let sequence_len = async || server.get("/stats").await["model"]["sequence_len"].clone();
    assert_eq!(sequence_len().await, 512);
    let models = "[[model]]\ntag = \"g7\"\n[model.overrides]\nsequence_len = 256\n";
    std::fs::write(root.path().join("models.toml"), models).unwrap();
    assert_eq!(server.swap("g7").await.status, 202);
    assert_eq!(sequence_len().await, 256);
}

#[tokio::test]
async fn a_slip_in_the_models_file_is_one_line_and_spares_the_built_in_model() {
    let root = storage(&["g7", "g6"]);
    let server = Server::start(options_in(root.path(), "g7")).await;
    std::fs::write(root.path().join("models.toml"), "[[model]]\ntag = \"g6\"\nsetp = 1\n").unwrap();
    let (status, problem) = refused(&server, "g6").await;
    assert_eq!((status, &problem["code"]), (500, &json!("storage_failed")));
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("line 3") && detail.contains("setp") && !detail.contains('\n'), "{detail}");
    assert_eq!(refused(&server, "g7").await.0, 500, "for the live model too: the file may have changed it");
    assert_eq!(server.swap("samosa-mini").await.status, 202);
}

#[cfg(unix)]
#[tokio::test]
async fn pipes_among_the_files_are_passed_over() {
    let root = storage(&["g7", "g6"]);
    let pipe =
        |path: &Path| assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    pipe(&root.path().join("g6/model_999999.pt"));
    let server = Server::start(options_in(root.path(), "g7")).await;
    assert_eq!(server.swap("g6").await.status, 202);
    assert_eq!(server.get("/stats").await["model"]["step"], 102);
    pipe(&root.path().join("models.toml"));
    assert_eq!(refused(&server, "g7").await.0, 500, "refused at once, not read for ever");
}
