//! `samosa config` of the built binary: what it shows, what it explains, what it refuses.

use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

/// Settings from everywhere, some of them overridden, with secrets.
struct Mixed {
    directory: TempDir,
}

/// What a run said.
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Mixed {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = "default_top_k = 7\nhf_token = \"hush-of-the-file\"\nport = 64\n\ninternal_api_key = [\"hush-a\", \"b\"]\n";
        std::fs::write(directory.path().join("samosa.toml"), file).unwrap();
        Self { directory }
    }

    fn config(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Said {
        let output = Command::new(env!("CARGO_BIN_EXE_samosa"))
            .arg("config")
            .args(arguments)
            .env_clear()
            .env("SAMOSA_CONFIG", "samosa.toml")
            .env("INTERNAL_API_KEY", "hush-of-the-environment")
            .env("DEFAULT_MAX_TOKENS", "9")
            .env("PORT", "1234")
            .envs(environment.iter().copied())
            .current_dir(self.directory.path())
            .output()
            .unwrap();
        let said = Said {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        };
        assert!(!said.out.contains("hush") && !said.err.contains("hush"), "{}{}", said.out, said.err);
        said
    }

    fn done(&self, arguments: &[&str]) -> String {
        let said = self.config(arguments, &[]);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{arguments:?}");
        said.out
    }
}

/// What `config` says about a setting, after its name.
fn line(text: &str, name: &str) -> String {
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap();
    line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
}

#[test]
fn it_says_where_values_come_from_and_masks_secrets() {
    let text = Mixed::new().done(&["--port", "4321"]);
    assert_eq!(line(&text, "PORT"), "4321 flag");
    assert_eq!(line(&text, "DEFAULT_MAX_TOKENS"), "9 environment");
    assert_eq!(line(&text, "DEFAULT_TOP_K"), "7 file");
    assert_eq!(line(&text, "DEFAULT_TEMPERATURE"), "0.8 default");
    assert_eq!(line(&text, "INTERNAL_API_KEY"), "******** environment");
    assert_eq!(line(&text, "HF_TOKEN"), "******** file");
}

#[test]
fn it_shows_every_name_that_existed_before() {
    let text = Mixed::new().done(&[]);
    for name in [
        "HOST",
        "PORT",
        "MODEL_STORAGE_PATH",
        "DEFAULT_MODEL_TAG",
        "DEFAULT_STEP",
        "HF_TOKEN",
        "HF_REPO_OWNER",
        "INTERNAL_API_KEY",
        "NUM_WORKERS",
        "DEVICE_TYPE",
        "NANOCHAT_DTYPE",
        "STARTUP_LOAD_ENABLED",
        "DEFAULT_TEMPERATURE",
        "DEFAULT_TOP_K",
        "DEFAULT_MAX_TOKENS",
        "LOG_LEVEL",
    ] {
        line(&text, name);
    }
}

#[test]
fn an_empty_variable_is_an_unset_one() {
    let empty =
        [("DEFAULT_TOP_K", ""), ("MODEL_STORAGE_PATH", ""), ("DEFAULT_MODEL_TAG", ""), ("SAMOSA_CONFIG", "")];
    let said = Mixed::new().config(&[], &empty);
    assert_eq!((said.code, line(&said.out, "DEFAULT_TOP_K").as_str()), (0, "50 default"));
}

#[test]
fn an_explanation_has_the_value_its_place_and_what_it_overrides() {
    let mixed = Mixed::new();
    let text = mixed.done(&["--explain", "port", "--port", "4321"]);
    let expected = "PORT = 4321\n  Port to listen on; 0 lets the system choose.\n  comes from  the flag --port\n  \
                    overrides   the environment variable PORT, which says 1234\n              \
                    samosa.toml, line 3, which says 64\n  may be      a whole number from 0 to 65535\n  \
                    by default  8003\n  is set by   --port, PORT, port = … in the file\n";
    assert_eq!(text, expected);
    let text = mixed.done(&["--explain=--internal-api-key"]);
    assert!(text.contains("samosa.toml, line 5, which says ********"), "{text}");
    let all = mixed.done(&["--explain"]);
    assert!(all.contains(&text) && all.contains("\nDownloads\n=========\n"), "{all}");
    assert!(all.lines().all(|line| line.chars().count() <= 100), "{all}");
    let said = mixed.config(&["--explain", "prot"], &[]);
    assert_eq!((said.code, said.out.as_str()), (2, ""));
    assert_eq!(said.err, "samosa: the setting prot is not known; did you mean port?\n");
}

#[test]
fn programs_get_all_of_it() {
    let mixed = Mixed::new();
    let document: Value = serde_json::from_str(&mixed.done(&["--json", "--port", "4321"])).unwrap();
    let port = &document["settings"]["PORT"];
    assert_eq!(
        (&port["value"], &port["origin"], &port["default"]),
        (&json!("4321"), &json!("flag"), &json!("8003"))
    );
    let file = json!({ "value": "64", "origin": "file", "file": "samosa.toml", "line": 3 });
    assert_eq!(port["overrides"], json!([{ "value": "1234", "origin": "environment" }, file]));
    assert_eq!((&document["wrong"], &port["wrong"]), (&json!([]), &Value::Null));
    let said = mixed.config(&["--json"], &[("PORT", "66000")]);
    let document: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(
        (said.code, said.err.trim_start_matches("samosa: ").trim_end()),
        (2, document["wrong"][0].as_str().unwrap())
    );
    assert_eq!(document["settings"]["PORT"]["wrong"], document["wrong"][0]);
}

#[test]
fn everything_that_is_wrong_is_listed() {
    let mixed = Mixed::new();
    std::fs::write(
        mixed.directory.path().join("samosa.toml"),
        "prot = 1\nnum_workers = 0\ncontext_overflow = {}\n",
    )
    .unwrap();
    let wrong = [
        ("PORT", "66000"),
        ("HOST", "::"),
        ("INTERNAL_API_KEY", ""),
        ("HF_TAGS", "d20"),
        ("IGNORED_REQUEST_FIELDS", "stop, top_k"),
        ("LOG_LEVEL", "loud"),
        ("ISA", if cfg!(target_arch = "x86_64") { "neon" } else { "avx2" }),
    ];
    let said = mixed.config(&[], &wrong);
    assert_eq!(said.code, 2);
    let named = [
        "samosa.toml, line 1: the setting prot is not known; did you mean port?",
        "samosa.toml, line 3: context_overflow must be one of drop, error",
        "environment variable PORT is \"66000\"",
        "num_workers in samosa.toml, line 2, is \"0\", but must be a whole number from 1 to 64",
        "LOG_LEVEL is \"loud\"",
        "INTERNAL_API_KEY must be set to listen on ::",
        "IGNORED_REQUEST_FIELDS has \"top_k\", but must hold fields",
        "HF_TAGS is \"d20\", but must be empty where HF_REPO_OWNER is not set",
        "environment variable ISA is",
    ];
    for name in named {
        assert_eq!(said.err.matches(name).count(), 1, "{name} in {}", said.err);
    }
    assert_eq!(said.err.lines().count(), named.len(), "{}", said.err);
    assert_eq!(line(&said.out, "NUM_WORKERS"), "0 file", "it shows what there is all the same");
    let explained = mixed.config(&["--explain", "num_workers"], &wrong);
    assert!(explained.out.contains("  WRONG       num_workers in samosa.toml, line 2"), "{}", explained.out);
}

#[test]
fn fields_to_pass_over_are_names_or_paths_that_nothing_reads() {
    let mixed = Mixed::new();
    for good in [
        "force_web_search",
        "messages[].id, messages[].content[].id, stream_options.include_obfuscation",
        "messages[].name",
        "a.b.c, chat-template, $ref",
    ] {
        let said = mixed.config(&[], &[("IGNORED_REQUEST_FIELDS", good)]);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{good}");
    }
    for (wrong, says) in [
        ("messages", "fields that the contract does not have"),
        ("messages[].role", "fields that the contract does not have"),
        ("x, messages[].content[].text", "fields that the contract does not have"),
        ("stream_options.include_usage", "fields that the contract does not have"),
        ("logit_bias.5", "fields that the contract does not have"),
        ("response_format.json_schema.schema.title", "fields that the contract does not have"),
        ("messages[]", "paths of names with dots between them"),
        ("messages[0].id", "paths of names with dots between them"),
        ("messages[].", "paths of names with dots between them"),
        (".x", "paths of names with dots between them"),
        ("[].x", "paths of names with dots between them"),
        ("a..b", "paths of names with dots between them"),
        ("a b", "paths of names with dots between them"),
    ] {
        let said = mixed.config(&[], &[("IGNORED_REQUEST_FIELDS", wrong)]);
        assert!(said.code == 2 && said.err.contains(says), "{wrong}: {}", said.err);
    }
    for (setting, list, item) in [
        ("IGNORED_REQUEST_FIELDS", "messages[].id,a.b, messages[].role,c", "messages[].role"),
        ("IGNORED_REQUEST_FIELDS", "messages[].id,a..b,c", "a..b"),
        ("MODEL_ALIASES", "gpt-4o,gpt 4", "gpt 4"),
        ("HF_TAGS", "d20,../d21", "../d21"),
    ] {
        let said = mixed.config(&[], &[("HF_REPO_OWNER", "you"), (setting, list)]);
        let says = format!("{setting} has \"{item}\", but must hold ");
        assert!(said.code == 2 && said.err.contains(&says) && !said.err.contains(list), "{}", said.err);
    }
    for (chars, code) in [("1", 0), ("8400", 0), ("32000", 0), ("0", 2), ("32001", 2), ("8,400", 2)] {
        assert_eq!(mixed.config(&[], &[("MAX_MESSAGE_CHARS", chars)]).code, code, "{chars}");
    }
    assert_eq!(server::Limits::default().conversation_chars, 32_000, "no message has more");
}

#[test]
fn every_word_that_is_offered_is_understood() {
    let mixed = Mixed::new();
    let schema: Value = serde_json::from_str(&mixed.done(&["--schema"])).unwrap();
    let mut words = 0;
    for (key, property) in schema["properties"].as_object().unwrap() {
        // Those of other CPUs cannot be tried.
        for word in property["enum"].as_array().into_iter().flatten().filter(|_| key != "isa") {
            let said = mixed.config(&[], &[(key.to_uppercase().as_str(), word.as_str().unwrap())]);
            assert_eq!((said.code, said.err.as_str()), (0, ""), "{key} = {word}");
            words += 1;
        }
    }
    assert!(words > 20, "{words}");
}

#[test]
fn the_example_is_a_file_that_changes_nothing() {
    let mixed = Mixed::new();
    let example = mixed.done(&["--example"]);
    std::fs::write(mixed.directory.path().join("samosa.toml"), &example).unwrap();
    let text = mixed.done(&[]);
    assert!(!text.lines().any(|line| line.ends_with(" file")), "{text}");
    let write = |name: &str, text: &str| std::fs::write(mixed.directory.path().join(name), text).unwrap();
    write("keys.txt", "one");
    write("admin-keys.txt", "another");
    let uncommented = example.lines().filter_map(|line| line.strip_prefix("# ")).skip(2);
    // A certificate cannot be made up.
    let uncommented: Vec<&str> = uncommented.filter(|line| !line.starts_with("tls_")).collect();
    write("samosa.toml", &uncommented.join("\n"));
    let text = mixed.done(&[]);
    assert_eq!(line(&text, "KV_CACHE_MB"), "1024 file");
    assert_eq!(line(&text, "STEP_TOKENS"), "128 file");
}
