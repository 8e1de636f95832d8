use registry::storage::{Storage, Unfinished};

use super::*;
use crate::doctor::finding::Mark::{self, Note, Ok as Fine, Warning, Wrong};

fn step(name: &'static str, error: Option<&str>) -> Step {
    Step { name, seconds: 0.012, error: error.map(str::to_owned) }
}

/// A storage that can be written, and a repository that lists its files.
fn fine() -> SourcesFacts {
    let storage = Storage {
        exists: true,
        readable: true,
        writable: true,
        free_bytes: Some(100 << 30),
        unfinished: vec![],
    };
    let way = vec![step("name", None), step("connect", None), step("TLS", None), step("list", None)];
    SourcesFacts {
        storage: Some(("/srv/models".to_owned(), storage)),
        models_file: Some(Ok(1)),
        sources: vec![SourceFacts {
            source: "huggingface:owner/d20".to_owned(),
            tags: vec!["d20".to_owned()],
            reach: Reach::Asked { way, files: 7 },
        }],
        has_token: true,
        ..SourcesFacts::default()
    }
}

fn fails(facts: &mut SourcesFacts, at: &'static str) {
    facts.sources[0].reach = Reach::Asked { way: vec![step(at, Some("it broke"))], files: 0 };
}

fn storage(facts: &mut SourcesFacts) -> &mut Storage {
    &mut facts.storage.as_mut().unwrap().1
}

#[test]
fn sources_that_answer_get_no_advice() {
    let found = sources(&fine(), None);
    assert!(found.iter().all(|finding| finding.mark == Fine && finding.advice.is_empty()), "{found:?}");
    let source = found.iter().find(|finding| finding.id == "source").unwrap();
    assert_eq!(
        source.text,
        "huggingface:owner/d20 (d20) lists 7 files; name 12 ms, connect 12 ms, TLS 12 ms, list 12 ms"
    );
    assert_eq!(source.figures["seconds"]["connect"], 0.012);
}

/// What is changed, which finding that makes, and what it says or advises.
type Case = (fn(&mut SourcesFacts), &'static str, Mark, &'static str);

const CASES: &[Case] = &[
    (|f| f.storage = None, "storage", Note, "Set MODEL_STORAGE_PATH"),
    (|f| storage(f).exists = false, "storage", Warning, "/srv/models is not there"),
    (
        |f| {
            storage(f).exists = false;
            f.empty = Some(("/srv/models does not exist".to_owned(), true));
        },
        "storage",
        Wrong,
        "/srv/models is not there",
    ),
    (
        |f| f.empty = Some(("/srv/models holds no model: a/b".to_owned(), true)),
        "no_model",
        Wrong,
        "/srv/models holds no model: a/b",
    ),
    (
        |f| f.empty = Some(("/srv/models holds no model".to_owned(), false)),
        "no_model",
        Note,
        "STARTUP_LOAD_ENABLED=false",
    ),
    (|f| storage(f).readable = false, "storage", Wrong, "cannot be read by this user"),
    (|f| storage(f).writable = false, "storage", Note, "can be read, but not written, 100 GB free"),
    (|f| storage(f).free_bytes = Some(1 << 30), "storage", Warning, "Make room"),
    (
        |f| storage(f).unfinished = vec![Unfinished { tag: "d32".to_owned(), bytes: 1 << 30 }],
        "unfinished",
        Note,
        "`samosa pull d32` goes on with it",
    ),
    (
        |f| f.models_file = Some(Err("models.toml: line 3: odd".to_owned())),
        "models_file",
        Wrong,
        "line 3: odd",
    ),
    (
        |f| f.partial = vec![("d9".to_owned(), "`d9` has no weights".to_owned())],
        "incomplete",
        Warning,
        "`d9` has no weights",
    ),
    (|f| fails(f, "name"), "source", Warning, "fails at name resolution: it broke"),
    (|f| fails(f, "connect"), "source", Warning, "set HTTPS_PROXY"),
    (|f| fails(f, "TLS"), "source", Warning, "ca-certificates"),
    (|f| fails(f, "list"), "source", Warning, "whether the token or the keys may read it"),
    (|f| f.sources[0].reach = Reach::NotAsked, "source", Fine, "was not asked"),
    (|f| f.sources.clear(), "sources", Fine, "no model comes from elsewhere"),
    (|f| f.sources.clear(), "token", Note, "no model comes from the Hub"),
    (|f| f.has_token = false, "token", Fine, "no HF_TOKEN is set"),
    (|f| fails(f, "list"), "token", Fine, "was not tried with success"),
    (|f| f.left_out = 3, "left_out", Note, "3 more sources were not asked"),
];

#[test]
fn what_is_amiss_is_found_with_what_to_do() {
    for (number, (change, id, mark, says)) in CASES.iter().enumerate() {
        let mut facts = fine();
        change(&mut facts);
        let found = sources(&facts, None);
        let finding =
            found.iter().find(|finding| finding.id == *id).unwrap_or_else(|| panic!("{number}: {id}"));
        assert_eq!(finding.mark, *mark, "{number}: {finding:?}");
        assert!(finding.text.contains(says) || finding.advice.contains(says), "{number}: {finding:?}");
        assert_eq!(finding.advice.is_empty(), *mark == Fine, "{number}: {finding:?}");
    }
}

#[test]
fn a_source_that_fails_is_wrong_only_if_the_model_is_nowhere_else() {
    let mut facts = fine();
    fails(&mut facts, "connect");
    let mark = |wanted| sources(&facts, wanted).iter().find(|finding| finding.id == "source").unwrap().mark;
    assert_eq!((mark(None), mark(Some("d32")), mark(Some("d20"))), (Warning, Warning, Wrong));
}
