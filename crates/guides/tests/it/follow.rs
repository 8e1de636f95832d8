//! Grammars followed with the built-in model's tokens, without a model: what is drawn at random from what is allowed
//! must be what was asked for.

use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::support::{TOKENIZER, accepts, allowed, draw, end, grammars, json_schema, lark, regex, sets};

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
    let passes = |text: &str| accepts(json_schema(&schema).unwrap(), text);
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
    let greeting = "start: greeting \" \" name\ngreeting: \"Hello\" | \"Namaste\"\nname: /[A-Z][a-z]{1,8}/\n";
    assert!(accepts(lark(greeting).unwrap(), "Namaste Asha"));
    assert!(!accepts(lark(greeting).unwrap(), "Hello asha"));
    assert!(accepts(regex("[0-9]{2}:[0-5][0-9]").unwrap(), "12:45"));
    assert!(!accepts(regex("[0-9]{2}:[0-5][0-9]").unwrap(), "12:75"));
    assert!(!accepts(regex("[0-9]{2}:[0-5][0-9]").unwrap(), "12:4"));
}

#[test]
fn no_special_token_is_text() {
    let mut any = regex("(.|\n)*").unwrap();
    let special: Vec<u32> = allowed(&mut *any).into_iter().filter(|&id| TOKENIZER.is_special(id)).collect();
    assert_eq!(special, [end()]);
    assert!(accepts(regex("(.|\n)*").unwrap(), "<|bos|> <|assistant_end|>"));
}

#[test]
fn guesses_are_judged_without_being_taken() {
    let mut constraint = json_schema(&bounded()).unwrap();
    let right = TOKENIZER.encode(r#"{"name": "chaat", "size": "small", "prices": [3]}"#);
    let end = end();
    for taken in 0..right.len() {
        let mut steps = constraint.fork();
        let apart: Vec<Vec<u32>> = right[taken..]
            .iter()
            .map(|&token| {
                let ids = allowed(&mut *steps);
                steps.accept(token);
                ids
            })
            .collect();
        let together = sets(&mut *constraint, &right[taken..]).unwrap();
        assert_eq!(together.len(), right.len() - taken + 1);
        assert!(together.iter().take(apart.len()).eq(&apart), "{taken}");
        assert!(together[right.len() - taken].contains(&end));
        // A guess that is wrong ends the sets, and so does the end.
        let wrong = [right[taken], TOKENIZER.encode("\u{7}")[0], right[taken]];
        assert_eq!(sets(&mut *constraint, &wrong).unwrap().len(), 2);
        constraint.accept(right[taken]);
    }
    assert_eq!(sets(&mut *constraint, &[end, end]).unwrap().len(), 1);
    assert_eq!(allowed(&mut *constraint), [end]);
}

/// Long keys are forced, in the tokens that the model's own tokenizer makes of them, and whether they are taken one by one,
/// at once or along a draft makes no difference.
#[test]
fn forced_tokens_are_the_tokenizers_and_the_same_along_any_path() {
    let key = "description_of_the_dish_for_the_menu";
    let schema = json!({
        "type": "object", "properties": { key: { "type": "integer" } }, "required": [key],
        "additionalProperties": false
    });
    let mut one_by_one = json_schema(&schema).unwrap();
    let mut at_once = one_by_one.fork();
    let mut drafted = one_by_one.fork();
    allowed(&mut *at_once);
    let forced = at_once.forced().to_vec();
    let text = format!("{{\"{key}\": ");
    assert!(
        forced.len() > 8 && text.starts_with(&TOKENIZER.decode(&forced)),
        "{}",
        TOKENIZER.decode(&forced)
    );
    assert!(TOKENIZER.encode(&text).starts_with(&forced), "as the tokenizer would");
    for (i, &token) in forced.iter().enumerate() {
        assert_eq!(allowed(&mut *one_by_one), [token], "at {i}");
        assert_eq!(one_by_one.forced(), &forced[i..]);
        one_by_one.accept(token);
        at_once.accept(token);
    }
    assert_eq!(at_once.forced(), [0u32; 0]);
    let (after, at_once) = (allowed(&mut *one_by_one), allowed(&mut *at_once));
    assert!(after.len() > 1 && after == at_once);
    let along = sets(&mut *drafted, &forced).unwrap();
    let expected: Vec<Vec<u32>> = forced.iter().map(|&token| vec![token]).chain([after]).collect();
    assert_eq!(along, expected);
    assert_eq!(drafted.forced(), forced, "a draft is not accepted yet");
}

#[test]
fn a_fork_goes_its_own_way() {
    let mut one = regex("(yes|no)!").unwrap();
    let mut other = one.fork();
    for token in TOKENIZER.encode("yes") {
        one.accept(token);
    }
    for token in TOKENIZER.encode("no!") {
        other.accept(token);
    }
    assert!(allowed(&mut *one).contains(&TOKENIZER.encode("!")[0]));
    assert_eq!(allowed(&mut *other), [end()]);
}

#[test]
fn what_is_wrong_is_said_in_a_line() {
    let schema = |schema: Value| json_schema(&schema).err().unwrap().to_string();
    let lark = |grammar: &str| crate::support::lark(grammar).err().unwrap().to_string();
    assert_eq!(schema(json!([])), "a schema is a JSON object");
    assert_eq!(schema(json!({ "x-guidance": {} })), "the keyword \"x-guidance\" is not supported");
    assert_eq!(schema(json!({ "type": "strin" })), "Invalid type: strin");
    assert_eq!(schema(json!({ "not": {} })), "the keyword \"not\" is not supported");
    assert_eq!(
        schema(json!({ "oneOf": [{}, {}] })),
        "oneOf of alternatives that may overlap is not supported; anyOf is"
    );
    assert_eq!(
        schema(json!({ "type": "string", "pattern": "(" })),
        "at /pattern, the regular expression is wrong at character 1: unclosed group"
    );
    assert!(
        schema(json!({ "type": "string", "minLength": 5, "maxLength": 3 }))
            .contains("minLength (5) is greater than")
    );
    assert_eq!(lark("start: nowhere"), "at 1(8): unknown name: \"nowhere\"");
    assert_eq!(lark(""), "no start rule found");
    assert_eq!(lark("start: start"), "nothing can be derived from it");
    assert!(regex("(").err().unwrap().to_string().contains("unclosed group"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_drawn_fits(seed: u64) {
        let (text, ended) = draw(&mut *json_schema(&bounded()).unwrap(), seed, 300);
        prop_assert!(ended, "{}", text);
        let value: Value = serde_json::from_str(&text).unwrap();
        prop_assert!(value["name"].as_str().unwrap().chars().count() <= 12);
        prop_assert!(["small", "large"].contains(&value["size"].as_str().unwrap()));
        let prices = value["prices"].as_array().unwrap();
        prop_assert!(prices.len() <= 3 && prices.iter().all(|price| price.as_u64().unwrap() <= 99));
    }

    #[test]
    fn a_json_object_is_json_as_far_as_it_goes(seed: u64) {
        let (text, ended) = draw(&mut *grammars().read(&guides::Form::JsonObject, ()).unwrap(), seed, 40);
        prop_assert_eq!(text.as_bytes()[0], b'{');
        // Values are not read: JSON's numbers may be larger than any type's.
        let read = serde_json::from_str::<IgnoredAny>(&text);
        prop_assert!(!ended || read.is_ok(), "{}: {:?}", text, read.err());
    }
}
