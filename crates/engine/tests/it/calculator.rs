//! The calculator inside an engine: what a model that says given tokens makes the engine say.
//!
//! nanochat's own state machine is the specification (nanochat's `engine.py`, `generate`). What expressions
//! give is tested beside the calculator.

use engine::FinishReason;

use crate::support::scripted::{Answer, TOKENIZER, answer_to, encode, scripted, special};

/// The ids of the single bytes of `bytes`.
fn single_bytes(bytes: &[u8]) -> Vec<u32> {
    let ids = || 0..TOKENIZER.vocab_size() as u32;
    let id_of = |byte: &u8| ids().find(|&id| TOKENIZER.token_bytes(id) == Some(&[*byte])).unwrap();
    bytes.iter().map(id_of).collect()
}

/// What an engine answers.
fn answer(script: &[u32], max_tokens: usize) -> Answer {
    let (mut engine, request) = scripted(script, max_tokens);
    answer_to(&mut engine, request)
}

/// The answer to a script that ends with the end of the turn, which the engine must reach.
fn whole_answer(parts: &[&[u32]]) -> Answer {
    let script = [&parts.concat(), [special("assistant_end")].as_slice()].concat();
    let answer = answer(&script, 2000);
    assert_eq!(answer.reason, FinishReason::Stop);
    answer
}

/// `text` between the tool's markers.
fn block(text: &str) -> Vec<u32> {
    [&[special("python_start")], encode(text).as_slice(), &[special("python_end")]].concat()
}

/// What the engine says after an expression with this result.
fn output(result: &str) -> Vec<u32> {
    [&[special("output_start")], encode(result).as_slice(), &[special("output_end")]].concat()
}

/// As many tokens as the output has, that the model says and nobody hears.
fn unheard(output: &[u32]) -> Vec<u32> {
    vec![encode("x")[0]; output.len()]
}

#[test]
fn a_result_is_put_after_its_expression() {
    let (before, after) = (encode("Let me see: "), encode(" it is."));
    let output = output("1683");
    let answer = whole_answer(&[&before, &block("12*140+3"), &unheard(&output), &after]);
    assert_eq!(answer.tokens, [before, block("12*140+3"), output, after].concat());
    assert_eq!(
        answer.text(),
        "Let me see: <|python_start|>12*140+3<|python_end|><|output_start|>1683<|output_end|> it is."
    );
    assert_eq!(answer.completion_tokens, answer.tokens.len(), "forced tokens count");
}

#[test]
fn what_is_sampled_where_a_token_is_forced_is_thrown_away() {
    let output = output("5.0");
    // Even the end of the turn, and even the start of another block.
    for sampled in [special("assistant_end"), special("bos"), special("python_start")] {
        let unheard = vec![sampled; output.len()];
        let answer = whole_answer(&[&block("10/2"), &unheard, &encode("!")]);
        assert_eq!(answer.tokens, [block("10/2"), output.clone(), encode("!")].concat());
    }
}

#[test]
fn no_result_puts_nothing_in() {
    for expression in ["1/0", "2**3", "hello", "len('abc')"] {
        let script = [block(expression), encode(" well")].concat();
        assert_eq!(whole_answer(&[&script]).tokens, script, "{expression}");
    }
    let empty = [special("python_start"), special("python_end")];
    assert_eq!(whole_answer(&[&empty, &encode("1+1")]).tokens, [&empty, encode("1+1").as_slice()].concat());
}

#[test]
fn a_start_inside_a_block_begins_again() {
    let script = [&[special("python_start")], encode("1+").as_slice(), &block("2+2")].concat();
    let answer = whole_answer(&[&script, &unheard(&output("4")), &encode(".")]);
    assert_eq!(answer.tokens, [script, output("4"), encode(".")].concat());
}

#[test]
fn an_end_outside_a_block_does_nothing() {
    let end = [special("python_end")];
    let script = [encode("1+1").as_slice(), &end, &encode("2+2"), &end, &encode("...")].concat();
    assert_eq!(whole_answer(&[&script]).tokens, script);
    // Also after a block, whose expression is forgotten.
    let script = [block("1+").as_slice(), &encode("1"), &end, &encode("?")].concat();
    assert_eq!(whole_answer(&[&script]).tokens, script);
}

#[test]
fn markers_that_the_model_writes_itself_are_tokens_like_others() {
    let script = [special("output_start"), special("output_end"), special("user_start")];
    assert_eq!(whole_answer(&[&script]).tokens, script);
    // As text they mean nothing, and inside a block they spoil the expression.
    let text = encode("<|python_start|>1+1<|python_end|>");
    assert_eq!(whole_answer(&[&text]).tokens, text);
    let spoilt = [special("python_start"), special("output_start"), encode("7")[0], special("python_end")];
    assert_eq!(whole_answer(&[&spoilt]).tokens, spoilt);
}

#[test]
fn several_blocks_each_get_their_result() {
    let (first, second) = (output("3"), output("-1"));
    let answer = whole_answer(&[&block("1+2"), &unheard(&first), &block("1-2"), &unheard(&second)]);
    assert_eq!(answer.tokens, [block("1+2"), first, block("1-2"), second].concat());
}

#[test]
fn an_expression_of_too_many_tokens_has_no_result() {
    let sum = |terms: usize| {
        let [one, plus] = [single_bytes(b"1")[0], single_bytes(b"+")[0]];
        let mut expression = vec![one; 2 * terms - 1];
        expression.iter_mut().skip(1).step_by(2).for_each(|token| *token = plus);
        // A space makes the number of tokens even.
        expression.extend(single_bytes(b" "));
        [&[special("python_start")], expression.as_slice(), &[special("python_end")]].concat()
    };
    let answer = whole_answer(&[&sum(512), &unheard(&output("512"))]);
    assert_eq!(answer.tokens, [sum(512), output("512")].concat(), "1,024 tokens");
    assert_eq!(whole_answer(&[&sum(513)]).tokens, sum(513), "1,026 tokens");
}

#[test]
fn the_end_of_the_turn_and_a_new_document_stop() {
    for stop in [special("assistant_end"), special("bos")] {
        let said = encode("That is all.");
        let answer = answer(&[said.as_slice(), &[stop], &encode("more")].concat(), 100);
        assert_eq!((answer.reason, &answer.tokens), (FinishReason::Stop, &said));
        assert_eq!(answer.text(), "That is all.", "the token that stops is not shown");
    }
    // Inside a block too.
    let open = [special("python_start"), special("assistant_end")];
    assert_eq!(answer(&open, 100).tokens, [special("python_start")]);
    // An answer may be empty.
    assert_eq!(answer(&[special("bos")], 1).completion_tokens, 0);
}

#[test]
fn forced_tokens_count_towards_the_limit() {
    let full = [block("10/2"), output("5.0")].concat();
    let script = [block("10/2"), unheard(&full), unheard(&full)].concat();
    for max_tokens in 1..=full.len() {
        let answer = answer(&script, max_tokens);
        assert_eq!((answer.reason, answer.tokens.as_slice()), (FinishReason::Length, &full[..max_tokens]));
    }
}

/// What the calculator says is known beforehand, so its tokens are computed together.
#[test]
fn a_result_takes_one_step_and_not_one_for_each_token() {
    let output = output("5.0");
    let script = [block("10/2"), unheard(&output), vec![special("assistant_end")]].concat();
    let (mut engine, request) = scripted(&script, 100);
    engine.submit(engine::RequestId(0), request);
    let (mut steps, mut counts) = (0, engine::Counts::default());
    while !engine.is_idle() {
        counts += engine.step().counts;
        steps += 1;
    }
    let forced = output.len();
    assert!(forced > 3, "{forced} tokens");
    // One for each token of the block, and one for the result and the end of the turn.
    assert_eq!(steps, block("10/2").len() + 1);
    assert_eq!((counts.drafted_tokens, counts.accepted_tokens), (0, 0), "no guess was needed");
}

/// Log probabilities need the logits of every token, those of forced ones too; the answer is the same.
#[test]
fn log_probabilities_of_a_result_change_nothing_else() {
    let output = output("5.0");
    let script = [block("10/2"), unheard(&output), encode("!"), vec![special("assistant_end")]].concat();
    let (mut engine, request) = scripted(&script, 100);
    let answer = answer_to(&mut engine, request.clone());
    let with_logprobs = answer_to(&mut engine, request.with_logprobs(1));
    assert_eq!(answer, with_logprobs);
    assert_eq!(answer.tokens, [block("10/2"), output, encode("!")].concat());
}

#[test]
fn characters_come_whole() {
    let text = "a é 🥟 ü";
    let answer = whole_answer(&[&single_bytes(text.as_bytes())]);
    let texts: Vec<&str> = answer.texts.iter().map(String::as_str).collect();
    assert_eq!(texts, ["a", " ", "", "é", " ", "", "", "", "🥟", " ", "", "ü"]);
}

#[test]
fn what_is_left_of_a_character_comes_with_the_end() {
    let dumpling = single_bytes("🥟".as_bytes());
    let texts = |answer: Answer| answer.texts;
    assert_eq!(texts(answer(&dumpling, 3)), ["", "", "", "\u{fffd}"], "cut by the limit");
    assert_eq!(texts(answer(&dumpling, 4)), ["", "", "", "🥟"], "nothing is left");
    let cut = [&dumpling[..2], &[special("assistant_end")]].concat();
    assert_eq!(texts(answer(&cut, 9)), ["", "", "\u{fffd}"], "cut by the end of the turn");
    let marked = [&dumpling[..2], &[special("output_start")]].concat();
    assert_eq!(texts(answer(&marked, 3)), ["", "", "\u{fffd}<|output_start|>"], "cut by a marker");
}
