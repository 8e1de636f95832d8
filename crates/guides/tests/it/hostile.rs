//! Grammars that crash the library, run for minutes or take all memory: each is refused in time, and the next is read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::Guide;
use guides::{Error, Form, Grammars, Settings};
use serde_json::{Value, json};

use crate::support::{TOKENIZER, accepts, end, json_schema, lark, regex, sets, settings};

/// Schemas that are deep, wide or repetitive.
fn huge_schemas() -> Vec<Value> {
    let mut deep = json!({ "type": "string" });
    for _ in 0..100 {
        deep = json!({ "type": "object", "properties": { "a": deep }, "required": ["a"] });
    }
    let mut wide = json!({ "type": "string" });
    for _ in 0..14 {
        wide = json!({ "anyOf": [wide.clone(), { "type": "array", "items": wide }] });
    }
    let one_of_many: Vec<String> = (0..3000).map(|i| format!("value number {i}")).collect();
    let properties: serde_json::Map<String, Value> =
        (0..500).map(|i| (format!("p{i}"), json!({ "type": "string", "maxLength": i }))).collect();
    let either = json!([{ "$ref": "#/$defs/a" }, { "type": "array", "items": { "$ref": "#/$defs/a" } }]);
    vec![
        deep,
        wide,
        json!({ "enum": one_of_many }),
        json!({ "type": "object", "properties": properties }),
        json!({ "$defs": { "a": { "anyOf": either } }, "$ref": "#/$defs/a" }),
        json!({ "type": "string", "maxLength": 1_000_000 }),
        json!({ "type": "array", "items": { "type": "integer" }, "minItems": 50_000, "maxItems": 100_000 }),
        json!({ "type": "string", "pattern": "^(a|b)*a(a|b){30}$" }),
    ]
}

/// What would take for ever or all the memory, were there no bounds.
#[test]
fn whatever_is_asked_for_is_refused_given_up_or_followed_soon() {
    let schemas = huge_schemas().into_iter().map(|schema| (schema.to_string(), json_schema(&schema)));
    let larks = [
        "start: e\ne: e e | \"a\" | \"b\"",
        "start: s\ns: s s s | s s | /[a-z]/ | ",
        "start: (/a/ | /[ab]/ | /[abc]/ | /[abcd]+/)*",
        "start: a a a a a a a a\na: | \"x\" | a a",
    ];
    let larks = larks.into_iter().map(|text| (text.to_owned(), lark(text)));
    let expressions = [
        "(a|b)*a(a|b){200}",
        "([a-z]{1,100}){1,100}",
        "((a{0,100}){0,100}){0,100}",
        "(.*a){20}",
        "[^a]{50000}b",
        "(\\p{L}|\\p{N}){1,3000}",
    ];
    let expressions = expressions.into_iter().map(|text| (text.to_owned(), regex(text)));
    let (mut refused, mut given_up, mut followed) = (0, 0, 0);
    for (what, made) in schemas.chain(larks).chain(expressions) {
        let what: String = what.chars().take(60).collect();
        let Ok(mut constraint) = made else {
            refused += 1;
            continue;
        };
        match follow(&mut *constraint, 250) {
            Some(()) => followed += 1,
            None => given_up += 1,
        }
        eprintln!("{what}: {refused} refused, {given_up} given up, {followed} followed");
    }
    assert!(refused >= 2 && given_up >= 2 && followed >= 8, "{refused}, {given_up}, {followed}");
}

/// As many as fit: the library follows each within the one before.
#[test]
fn definitions_within_definitions_do_not_exhaust_a_stack() {
    let rules = |rule: &dyn Fn(usize) -> String, last: &str| {
        let all: String = (0..400).map(rule).collect();
        format!("start: {last}0\n{all}{last}400: \"a\"\n")
    };
    let chain = rules(&|i| format!("r{i}: r{}\n", i + 1), "r");
    let terminals = rules(&|i| format!("T{i}: T{} \"b\"\n", i + 1), "T");
    let optional = rules(&|i| format!("T{i}: (T{} \"b\")* | \"c\"\n", i + 1), "T");
    let longest = |first: &str, rule: &dyn Fn(usize) -> String| {
        let mut text = first.to_owned();
        let mut i = 0;
        while text.len() < (16 << 10) - 40 {
            text += &rule(i);
            i += 1;
        }
        text + &format!("r{i}: \"a\"\nT{i}: \"a\"\n")
    };
    let longest_chain = longest("start: r0\n", &|i| format!("r{i}: r{}\n", i + 1));
    let longest_terminals = longest("start: T0\n", &|i| format!("T{i}: T{}\"b\"\n", i + 1));
    let longest_optional = longest("start: T0\n", &|i| format!("T{i}: T{}*|\"c\"\n", i + 1));
    for grammar in [chain, terminals, optional, longest_chain, longest_terminals, longest_optional] {
        if let Ok(mut constraint) = lark(&grammar) {
            let mut fork = constraint.fork();
            let _ = (follow(&mut *constraint, 30), follow(&mut *fork, 30));
        }
    }
    let references = |n: usize, link: &dyn Fn(String) -> Value| {
        let mut definitions: serde_json::Map<String, Value> =
            (0..n).map(|i| (format!("d{i}"), link(format!("#/$defs/d{}", i + 1)))).collect();
        definitions.insert(format!("d{n}"), json!({ "type": "string", "maxLength": 2 }));
        json!({ "$defs": definitions, "$ref": "#/$defs/d0" })
    };
    for schema in [
        references(2000, &|next| json!({ "$ref": next })),
        references(
            700,
            &|next| json!({ "type": "object", "properties": { "a": { "$ref": next } }, "required": ["a"] }),
        ),
        references(1000, &|next| json!({ "allOf": [{ "$ref": next }, { "minLength": 1 }] })),
        references(1000, &|next| json!({ "anyOf": [{ "$ref": next }, { "type": "null" }] })),
    ] {
        if let Ok(mut constraint) = json_schema(&schema) {
            let mut fork = constraint.fork();
            let _ = (follow(&mut *constraint, 30), follow(&mut *fork, 30));
        }
    }
    assert!(regex(&"a?".repeat(1 << 11)).is_err(), "the longest expression takes too long to read");
    let too_long = "a".repeat((4 << 10) + 1);
    let says = |made: Result<Box<dyn Guide>, guides::Error>| made.err().unwrap().to_string();
    assert_eq!(says(regex(&too_long)), "it has 4097 bytes, but at most 4096 are allowed");
    let pattern = json!({ "items": [{ "type": "string", "pattern": too_long }] });
    assert_eq!(
        says(json_schema(&pattern)),
        "at /items/0/pattern, it has 4097 bytes, but at most 4096 are allowed"
    );
    let name = json!({ "patternProperties": { too_long: {} } });
    assert_eq!(
        says(json_schema(&name)),
        "at /patternProperties, it has 4097 bytes, but at most 4096 are allowed"
    );
}

/// Accepts so many tokens of those that are allowed, or all until the end; `None` where it cannot be followed.
fn follow(constraint: &mut dyn Guide, most: usize) -> Option<()> {
    for i in 0..most {
        let ids = sets(constraint, &[])?.remove(0);
        let Some(&id) = ids.get(i * 7919 % ids.len()) else { break };
        if id == end() {
            break;
        }
        constraint.accept(id);
    }
    Some(())
}

fn read(grammars: &Grammars, schema: &Value) -> Result<Box<dyn Guide>, Error> {
    grammars.read(&Form::JsonSchema(schema.clone()), ())
}

/// The library is reached by these past the checks of schemas: its numbers and its stack.
#[test]
fn what_crashes_the_library_is_refused_and_the_next_is_read() {
    let deep = "(".repeat(250) + "a" + &")".repeat(250);
    let mut refused = 0;
    for grammar in [
        format!("start: /{}/", "(a|b)*a(a|b){5000}"),
        format!("start: /{deep}/"),
        "start: /a{1000}{1000}{1000}/".to_owned(),
        "start: /(.{0,5000}){0,5000}/".to_owned(),
        "start: %json { \"const\": -9223372036854775808 }".to_owned(),
        "start: /((((((((((a{2}){2}){2}){2}){2}){2}){2}){2}){2}){2}/".to_owned(),
    ] {
        refused += u32::from(lark(&grammar).is_err());
        assert!(accepts(regex("ab").unwrap(), "ab"), "after {grammar}");
    }
    assert!(refused >= 2, "{refused}");
}

#[test]
fn what_takes_too_long_ends_at_the_deadline_with_its_process() {
    let deadline = Duration::from_millis(500);
    let mut settings = Settings { deadline, ..settings() };
    // Its processes are told from those of other tests by an argument that means nothing.
    settings.command.push("of-the-deadline-test".into());
    let grammars = Grammars::new(Arc::clone(&TOKENIZER), end(), settings);
    read(&grammars, &json!({ "type": "string" })).unwrap();
    for divisor in [10_000_019, 9_999_991, 8_000_009] {
        let begun = Instant::now();
        let error = read(&grammars, &json!({ "type": "integer", "multipleOf": divisor })).err().unwrap();
        // A fast machine fills the memory before.
        assert!(matches!(error, Error::TooSlow(_) | Error::TooLarge(_)), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
        assert_eq!(running("of-the-deadline-test"), 1, "the reading goes on");
    }
    read(&grammars, &json!({ "type": "string" })).unwrap();
}

/// Processes with this argument that are no zombies.
fn running(argument: &str) -> usize {
    processes(argument).len()
}

fn processes(argument: &str) -> Vec<i32> {
    let pids =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let has = |pid: &String| {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        // A zombie has no command line.
        read("cmdline").contains(argument) && !read("stat").contains(") Z ")
    };
    pids.filter(has).filter_map(|pid| pid.parse().ok()).collect()
}

#[test]
fn so_many_slow_reads_give_their_turns_away_and_no_more() {
    let settings = Settings { deadline: Duration::from_secs(4), slow_reads: 1, ..settings() };
    let grammars = Grammars::new(Arc::clone(&TOKENIZER), end(), settings);
    read(&grammars, &json!({ "type": "string" })).unwrap();
    let slow = |divisor: u32, turn: std::sync::mpsc::SyncSender<()>| {
        let form = Form::JsonSchema(json!({ "type": "integer", "multipleOf": divisor }));
        grammars.read(&form, turn).err().unwrap()
    };
    // The end of a channel comes when the turn at its other end is given away.
    let [(first_turn, first_given), (second_turn, second_given)] =
        [(); 2].map(|()| std::sync::mpsc::sync_channel(1));
    std::thread::scope(|scope| {
        let first = scope.spawn(|| slow(9_999_991, first_turn));
        assert!(first_given.recv().is_err());
        let begun = Instant::now();
        let second = scope.spawn(|| slow(8_000_009, second_turn));
        assert!(second_given.recv().is_err());
        // It was the second's once the first or the second itself was done, and those take seconds.
        assert!(begun.elapsed() > Duration::from_millis(500) || first.is_finished(), "{:?}", begun.elapsed());
        first.join().unwrap();
        second.join().unwrap();
    });
}

#[test]
fn memory_has_a_bound() {
    let grammars =
        Grammars::new(Arc::clone(&TOKENIZER), end(), Settings { memory_bytes: 24 << 20, ..settings() });
    let many: Vec<String> = (0..6000).map(|i| format!("{:0>9}", i * 7919)).collect();
    let error = read(&grammars, &json!({ "type": "integer", "multipleOf": 1_000_003 })).err().unwrap();
    assert!(matches!(error, Error::TooLarge(bytes) if bytes == 24 << 20), "{error}");
    assert!(error.to_string().contains("more than 24 MB of memory"), "{error}");
    drop(read(&grammars, &json!({ "enum": many[..100] })).unwrap());
}

#[test]
fn a_killed_worker_ends_what_it_follows_and_is_replaced() {
    let mut settings = settings();
    settings.command.push("of-the-killing-test".into());
    let grammars = Grammars::new(Arc::clone(&TOKENIZER), end(), settings);
    let mut followed = read(&grammars, &json!({ "type": "string" })).unwrap();
    assert!(sets(&mut *followed, &[]).is_some());
    for pid in processes("of-the-killing-test") {
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    assert_eq!(sets(&mut *followed, &[]), None);
    let mut next = read(&grammars, &json!({ "type": "string" })).unwrap();
    assert!(sets(&mut *next, &[]).is_some());
    drop((next, followed, grammars));
    let begun = Instant::now();
    while running("of-the-killing-test") > 0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "processes stay");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_refusal_is_remembered() {
    let grammars =
        Grammars::new(Arc::clone(&TOKENIZER), end(), Settings { memory_bytes: 24 << 20, ..settings() });
    let wrong = json!({ "type": "integer", "multipleOf": 20_000_003 });
    let first = read(&grammars, &wrong).err().unwrap().to_string();
    let begun = Instant::now();
    assert_eq!(read(&grammars, &wrong).err().unwrap().to_string(), first);
    assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
    let missing = Grammars::new(
        Arc::clone(&TOKENIZER),
        end(),
        Settings { command: vec!["/nonexistent".into()], ..settings() },
    );
    assert!(matches!(missing.read(&Form::JsonObject, ()).err(), Some(Error::Unavailable(_))));
}
