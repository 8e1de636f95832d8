//! Grammars followed with the built-in model's tokens, without a model: what is drawn at random from what is allowed
//! must be what was asked for.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::sync::LazyLock;

use engine::{Constraint, TokenSet, TooComplex};
use formats::TokenizerFile;
use grammar::Grammars;
use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokenizer::{Tokenizer, Vocabulary};

static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let bytes = include_bytes!("../../registry/samosa-mini/tokenizer/tokenizer.pkl");
    let TokenizerFile { pattern, ranks, special, merges } =
        formats::read_tokenizer_pickle("tokenizer.pkl", bytes).unwrap();
    Tokenizer::new(Vocabulary { pattern, ranks, special, merges }).unwrap()
});
static GRAMMARS: LazyLock<Grammars> = LazyLock::new(|| Grammars::new(&TOKENIZER).unwrap());

/// The ids of a set.
fn ids(set: &TokenSet) -> Vec<u32> {
    (0..TOKENIZER.vocab_size() as u32).filter(|&id| set.contains(id)).collect()
}

fn allowed(constraint: &mut dyn Constraint) -> Vec<u32> {
    let sets = constraint.allowed(&[]).unwrap();
    assert_eq!(sets.len(), 1);
    ids(&sets[0])
}

/// Tokens drawn from what is allowed, up to the end or to so many. A small generator, so that cases can be had again.
fn draw(constraint: &mut dyn Constraint, mut seed: u64, most: usize) -> (String, bool) {
    let mut drawn = Vec::new();
    while drawn.len() < most {
        let ids = allowed(constraint);
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let id = ids[(seed >> 33) as usize % ids.len()];
        if id == TOKENIZER.special().assistant_end {
            return (TOKENIZER.decode(&drawn), true);
        }
        constraint.take(id).unwrap();
        drawn.push(id);
    }
    (TOKENIZER.decode(&drawn), false)
}

/// Whether a text can be said under a constraint, token by token, and ended there.
fn accepts(mut constraint: Box<dyn Constraint>, text: &str) -> bool {
    for token in TOKENIZER.encode(text) {
        if !allowed(&mut *constraint).contains(&token) {
            return false;
        }
        constraint.take(token).unwrap();
    }
    allowed(&mut *constraint).contains(&TOKENIZER.special().assistant_end)
}

fn bounded() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "maxLength": 12 },
            "size": { "enum": ["small", "large"] },
            "prices": { "type": "array", "items": { "type": "integer", "minimum": 0, "maximum": 99 }, "maxItems": 3 },
            "spicy": { "type": "boolean" }
        },
        "required": ["name", "size", "prices"],
        "additionalProperties": false
    })
}

#[test]
fn a_schema_lets_pass_what_fits_and_nothing_else() {
    let schema = bounded();
    let passes = |text: &str| accepts(GRAMMARS.json_schema(&schema).unwrap(), text);
    assert!(passes(r#"{"name": "chaat", "size": "small", "prices": [3, 40]}"#));
    assert!(passes(r#"{"name": "समोसा 🥟", "size": "large", "prices": [], "spicy": true}"#));
    for wrong in [
        r#"{"name": "chaat", "size": "huge", "prices": []}"#,
        r#"{"name": "chaat", "size": "small", "prices": [100]}"#,
        r#"{"name": "chaat", "size": "small"}"#,
        r#"{"name": "chaat", "size": "small", "prices": [], "more": 1}"#,
        r#"{"name": "a name that is too long", "size": "small", "prices": []}"#,
        r#"{"name":  "chaat", "size": "small", "prices": []}"#,
        "[]",
        "",
    ] {
        assert!(!passes(wrong), "{wrong}");
    }
}

#[test]
fn grammars_and_regular_expressions_are_followed_to_their_end() {
    let lark = "start: greeting \" \" name\ngreeting: \"Hello\" | \"Namaste\"\nname: /[A-Z][a-z]{1,8}/\n";
    assert!(accepts(GRAMMARS.lark(lark).unwrap(), "Namaste Asha"));
    assert!(!accepts(GRAMMARS.lark(lark).unwrap(), "Hello asha"));
    assert!(accepts(GRAMMARS.regex("[0-9]{2}:[0-5][0-9]").unwrap(), "12:45"));
    assert!(!accepts(GRAMMARS.regex("[0-9]{2}:[0-5][0-9]").unwrap(), "12:75"));
    assert!(!accepts(GRAMMARS.regex("[0-9]{2}:[0-5][0-9]").unwrap(), "12:4"));
}

#[test]
fn no_special_token_is_text() {
    let mut any = GRAMMARS.regex("(.|\n)*").unwrap();
    let special: Vec<u32> = allowed(&mut *any).into_iter().filter(|&id| TOKENIZER.is_special(id)).collect();
    assert_eq!(special, [TOKENIZER.special().assistant_end]);
    assert!(accepts(GRAMMARS.regex("(.|\n)*").unwrap(), "<|bos|> <|assistant_end|>"));
}

#[test]
fn guesses_are_judged_without_being_taken() {
    let mut constraint = GRAMMARS.json_schema(&bounded()).unwrap();
    let right = TOKENIZER.encode(r#"{"name": "chaat", "size": "small", "prices": [3]}"#);
    let end = TOKENIZER.special().assistant_end;
    for taken in 0..right.len() {
        let mut steps = constraint.fork();
        let apart: Vec<Vec<u32>> = right[taken..]
            .iter()
            .map(|&token| {
                let ids = allowed(&mut *steps);
                steps.take(token).unwrap();
                ids
            })
            .collect();
        let together = constraint.allowed(&right[taken..]).unwrap();
        assert_eq!(together.len(), right.len() - taken + 1);
        assert!(together.iter().map(ids).take(apart.len()).eq(apart), "{taken}");
        assert!(together[right.len() - taken].contains(end));
        // A guess that is wrong ends the sets, and so does the end.
        let wrong = [right[taken], TOKENIZER.encode("\u{7}")[0], right[taken]];
        assert_eq!(constraint.allowed(&wrong).unwrap().len(), 2);
        constraint.take(right[taken]).unwrap();
    }
    assert_eq!(constraint.allowed(&[end, end]).unwrap().len(), 1);
    assert_eq!(allowed(&mut *constraint), [end]);
}

#[test]
fn a_fork_goes_its_own_way() {
    let mut one = GRAMMARS.regex("(yes|no)!").unwrap();
    let mut other = one.fork();
    for token in TOKENIZER.encode("yes") {
        one.take(token).unwrap();
    }
    for token in TOKENIZER.encode("no!") {
        other.take(token).unwrap();
    }
    assert!(allowed(&mut *one).contains(&TOKENIZER.encode("!")[0]));
    assert_eq!(allowed(&mut *other), [TOKENIZER.special().assistant_end]);
}

#[test]
fn what_is_wrong_is_said_in_a_line() {
    let schema = |schema: Value| GRAMMARS.json_schema(&schema).err().unwrap().to_string();
    let lark = |grammar: &str| GRAMMARS.lark(grammar).err().unwrap().to_string();
    assert_eq!(schema(json!([])), "a schema is a JSON object");
    assert_eq!(schema(json!({ "x-guidance": {} })), "the keyword \"x-guidance\" is not supported");
    assert_eq!(schema(json!({ "type": "strin" })), "Invalid type: strin");
    assert_eq!(schema(json!({ "not": {} })), "Unimplemented keys: [\"not\"]");
    assert_eq!(schema(json!({ "oneOf": [{}, {}] })), "oneOf constraints are not supported");
    assert_eq!(schema(json!({ "type": "string", "pattern": "(" })), "regex parse error: unclosed group");
    assert!(
        schema(json!({ "type": "string", "minLength": 5, "maxLength": 3 }))
            .contains("minLength (5) is greater than")
    );
    assert_eq!(lark("start: nowhere"), "at 1(8): unknown name: \"nowhere\"");
    assert_eq!(lark(""), "no start rule found");
    assert_eq!(lark("start: start"), "nothing can be derived from it");
    assert!(GRAMMARS.regex("(").err().unwrap().to_string().contains("unclosed group"));
}

/// Schemas of sizes that nobody writes by hand.
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
    let schemas =
        huge_schemas().into_iter().map(|schema| (schema.to_string(), GRAMMARS.json_schema(&schema)));
    let larks = [
        "start: e\ne: e e | \"a\" | \"b\"",
        "start: s\ns: s s s | s s | /[a-z]/ | ",
        "start: (/a/ | /[ab]/ | /[abc]/ | /[abcd]+/)*",
        "start: a a a a a a a a\na: | \"x\" | a a",
    ];
    let larks = larks.into_iter().map(|lark| (lark.to_owned(), GRAMMARS.lark(lark)));
    let expressions = [
        "(a|b)*a(a|b){200}",
        "([a-z]{1,100}){1,100}",
        "((a{0,100}){0,100}){0,100}",
        "(.*a){20}",
        "[^a]{50000}b",
        "(\\p{L}|\\p{N}){1,3000}",
    ];
    let expressions = expressions.into_iter().map(|regex| (regex.to_owned(), GRAMMARS.regex(regex)));
    let (mut refused, mut given_up, mut followed) = (0, 0, 0);
    for (what, made) in schemas.chain(larks).chain(expressions) {
        let what: String = what.chars().take(60).collect();
        let Ok(mut constraint) = made else {
            refused += 1;
            continue;
        };
        match follow(&mut *constraint, 250) {
            Ok(()) => followed += 1,
            Err(TooComplex) => given_up += 1,
        }
        // Where it was given up it stays so, without a panic.
        let _ = constraint.allowed(&[]);
        eprintln!("{what}: {refused} refused, {given_up} given up, {followed} followed");
    }
    assert!(refused >= 2 && given_up >= 2 && followed >= 8, "{refused}, {given_up}, {followed}");
}

/// As many as fit: the library follows each within the one before.
#[test]
fn definitions_within_definitions_do_not_exhaust_a_stack() {
    let lark = |rule: &dyn Fn(usize) -> String, last: &str| {
        let rules: String = (0..400).map(rule).collect();
        format!("start: {last}0\n{rules}{last}400: \"a\"\n")
    };
    let chain = lark(&|i| format!("r{i}: r{}\n", i + 1), "r");
    let terminals = lark(&|i| format!("T{i}: T{} \"b\"\n", i + 1), "T");
    let optional = lark(&|i| format!("T{i}: (T{} \"b\")* | \"c\"\n", i + 1), "T");
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
        if let Ok(mut constraint) = GRAMMARS.lark(&grammar) {
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
        if let Ok(mut constraint) = GRAMMARS.json_schema(&schema) {
            let mut fork = constraint.fork();
            let _ = (follow(&mut *constraint, 30), follow(&mut *fork, 30));
        }
    }
    assert!(GRAMMARS.regex(&"a?".repeat(1 << 11)).is_err(), "the longest expression takes too long to read");
    let too_long = "a".repeat((4 << 10) + 1);
    let says = |made: Result<Box<dyn Constraint>, grammar::Error>| made.err().unwrap().to_string();
    assert_eq!(says(GRAMMARS.regex(&too_long)), "it has 4097 bytes, but at most 4096 are allowed");
    let pattern = json!({ "items": [{ "type": "string", "pattern": too_long }] });
    assert_eq!(says(GRAMMARS.json_schema(&pattern)), "it has 4097 bytes, but at most 4096 are allowed");
    let name = json!({ "patternProperties": { too_long: {} } });
    assert_eq!(says(GRAMMARS.json_schema(&name)), "it has 4097 bytes, but at most 4096 are allowed");
}

/// Takes so many tokens of those that are allowed, or all until the end.
fn follow(constraint: &mut dyn Constraint, most: usize) -> Result<(), TooComplex> {
    for i in 0..most {
        let ids = ids(&constraint.allowed(&[])?[0]);
        let Some(&id) = ids.get(i * 7919 % ids.len()) else { return Ok(()) };
        if id == TOKENIZER.special().assistant_end {
            return Ok(());
        }
        constraint.take(id)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_drawn_fits(seed: u64) {
        let (text, ended) = draw(&mut *GRAMMARS.json_schema(&bounded()).unwrap(), seed, 300);
        prop_assert!(ended, "{}", text);
        let value: Value = serde_json::from_str(&text).unwrap();
        prop_assert!(value["name"].as_str().unwrap().chars().count() <= 12);
        prop_assert!(["small", "large"].contains(&value["size"].as_str().unwrap()));
        let prices = value["prices"].as_array().unwrap();
        prop_assert!(prices.len() <= 3 && prices.iter().all(|price| price.as_u64().unwrap() <= 99));
    }

    #[test]
    fn a_json_object_is_json_as_far_as_it_goes(seed: u64) {
        let (text, ended) = draw(&mut *GRAMMARS.json_object().unwrap(), seed, 40);
        prop_assert_eq!(text.as_bytes()[0], b'{');
        // Values are not read: JSON's numbers may be larger than any type's.
        let read = serde_json::from_str::<IgnoredAny>(&text);
        prop_assert!(!ended || read.is_ok(), "{}: {:?}", text, read.err());
    }
}
