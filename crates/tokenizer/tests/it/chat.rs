//! Chat rendering over a toy vocabulary of single bytes, where every length can be counted by hand.

use proptest::prelude::*;
use tokenizer::{
    ChatError, ChatFormat, Message, NANOCHAT_PATTERN, RenderedChat, Role, Tokenizer, Vocabulary,
};

const SPECIAL: [&str; 9] = [
    "<|bos|>",
    "<|user_start|>",
    "<|user_end|>",
    "<|assistant_start|>",
    "<|assistant_end|>",
    "<|python_start|>",
    "<|python_end|>",
    "<|output_start|>",
    "<|output_end|>",
];

fn toy() -> Tokenizer {
    let bytes = (0..=255).map(|byte| vec![byte]);
    Tokenizer::new(Vocabulary {
        pattern: NANOCHAT_PATTERN.to_owned(),
        // A token across the seam of system and user text, so that lengths do not simply add up.
        ranks: bytes.chain([b"\n\n".to_vec(), b"\n\n\n".to_vec()]).zip(0..).collect(),
        special: SPECIAL.into_iter().map(str::to_owned).zip(300..).collect(),
        merges: None,
    })
    .unwrap()
}

fn format(tokenizer: &Tokenizer) -> ChatFormat {
    ChatFormat::nanochat(tokenizer).unwrap()
}

fn system(content: &str) -> Message<'_> {
    Message { role: Role::System, content }
}

fn user(content: &str) -> Message<'_> {
    Message { role: Role::User, content }
}

fn assistant(content: &str) -> Message<'_> {
    Message { role: Role::Assistant, content }
}

/// Renders, and spells the prompt with one character for each special token.
fn spell(messages: &[Message<'_>], budget: usize) -> Result<(String, usize), ChatError> {
    let toy = toy();
    let RenderedChat { ids, dropped_messages } = format(&toy).render(&toy, messages, Some(budget))?;
    assert!(ids.len() <= budget);
    let mut text = toy.decode(&ids);
    for (name, short) in SPECIAL.into_iter().zip(["^", "[", "]", "(", ")"]) {
        text = text.replace(name, short);
    }
    Ok((text, dropped_messages))
}

fn assert_prompt(messages: &[Message<'_>], budget: usize, expected: (&str, usize)) {
    assert_eq!(spell(messages, budget), Ok((expected.0.to_owned(), expected.1)), "budget {budget}");
}

#[test]
fn turns_are_rendered_in_order() {
    assert_prompt(&[user("hi")], 100, ("^[hi](", 0));
    assert_prompt(&[user("a"), assistant("b"), user("c")], 100, ("^[a](b)[c](", 0));
    assert_prompt(&[user("a"), user("b"), assistant("c"), assistant("d")], 100, ("^[a][b](c)(d)(", 0));
    assert_prompt(&[assistant("a"), user("b")], 100, ("^(a)[b](", 0));
    assert_prompt(&[assistant("a")], 100, ("^(a)(", 0));
    assert_prompt(&[user("")], 100, ("^[](", 0));
}

#[test]
fn a_leading_system_message_joins_the_user_text() {
    assert_prompt(&[system("S"), user("a"), assistant("b")], 100, ("^[S\n\na](b)(", 0));
}

#[test]
fn a_system_message_elsewhere_is_refused() {
    let refuse = |messages: &[Message<'_>]| spell(messages, 100).unwrap_err();
    assert_eq!(refuse(&[]), ChatError::NoMessages);
    assert_eq!(refuse(&[system("S")]), ChatError::MisplacedSystem { index: 0 });
    assert_eq!(refuse(&[system("S"), assistant("a")]), ChatError::MisplacedSystem { index: 0 });
    assert_eq!(refuse(&[system("S"), system("T"), user("a")]), ChatError::MisplacedSystem { index: 1 });
    assert_eq!(refuse(&[user("a"), system("S"), user("b")]), ChatError::MisplacedSystem { index: 1 });
    assert_eq!(refuse(&[user("a"), system("S")]), ChatError::MisplacedSystem { index: 1 });
}

#[test]
fn the_oldest_turns_are_left_out() {
    let chat = [user("a"), assistant("b"), user("c"), assistant("d"), user("e")];
    assert_prompt(&chat, 17, ("^[a](b)[c](d)[e](", 0));
    assert_prompt(&chat, 16, ("^[c](d)[e](", 2));
    assert_prompt(&chat, 11, ("^[c](d)[e](", 2));
    assert_prompt(&chat, 10, ("^[e](", 4));
    assert_prompt(&chat, 5, ("^[e](", 4));
    assert_eq!(spell(&chat, 4), Err(ChatError::TooLong { tokens: 5, budget: 4 }));
    assert_eq!(spell(&chat, 0), Err(ChatError::TooLong { tokens: 5, budget: 0 }));
}

#[test]
fn everything_after_the_last_user_message_stays() {
    let chat = [assistant("x"), user("a"), assistant("b"), assistant("c")];
    assert_prompt(&chat, 11, ("^[a](b)(c)(", 1));
    assert_eq!(spell(&chat, 10), Err(ChatError::TooLong { tokens: 11, budget: 10 }));
    assert_eq!(spell(&[assistant("a"), assistant("b")], 7), Err(ChatError::TooLong { tokens: 8, budget: 7 }));
}

#[test]
fn the_system_text_moves_to_the_first_kept_turn() {
    let chat = [system("S"), user("a"), assistant("b"), user("c"), assistant("d"), user("e")];
    // "S" and one token for the blank line.
    assert_prompt(&chat, 19, ("^[S\n\na](b)[c](d)[e](", 0));
    assert_prompt(&chat, 18, ("^[S\n\nc](d)[e](", 2));
    assert_prompt(&chat, 12, ("^[S\n\ne](", 4));
    assert_prompt(&chat, 7, ("^[S\n\ne](", 4));
    // It does not fit beside the last turn: it is dropped as well.
    assert_prompt(&chat, 6, ("^[e](", 5));
    assert_eq!(spell(&chat, 4), Err(ChatError::TooLong { tokens: 5, budget: 4 }));
}

#[test]
fn without_a_system_text_that_does_not_fit_more_turns_do() {
    let chat = [system("a long instruction"), user("a"), assistant("b"), user("c")];
    assert_prompt(&chat, 11, ("^[a](b)[c](", 1));
    assert_prompt(&chat, 10, ("^[c](", 3));
}

#[test]
fn the_true_length_at_the_seam_decides() {
    // Apart, "S\n\n" and "\nx" are four tokens; joined, the three newlines are one, so three.
    let chat = [system("S"), user("\nx")];
    assert_prompt(&chat, 7, ("^[S\n\n\nx](", 0));
    let chat = [system("S"), user("\nx"), user("y")];
    assert_prompt(&chat, 10, ("^[S\n\n\nx][y](", 0));
    assert_prompt(&chat, 9, ("^[S\n\ny](", 1));
}

#[test]
fn text_that_spells_special_tokens_is_ordinary_text() {
    let toy = toy();
    let text = SPECIAL.concat();
    assert!(toy.encode(&text).iter().all(|id| *id < 300));
    let ids = format(&toy).render(&toy, &[system(&text), user(&text)], None).unwrap().ids;
    assert_eq!(ids.iter().filter(|id| **id >= 300).copied().collect::<Vec<_>>(), [300, 301, 302, 303]);
}

/// The definition of truncation with every choice tried in order.
fn brute_force(toy: &Tokenizer, messages: &[Message<'_>], budget: usize) -> Option<RenderedChat> {
    let n_system = usize::from(messages[0].role == Role::System);
    let body = &messages[n_system..];
    let starts: Vec<usize> = (0..body.len()).filter(|at| *at == 0 || body[*at].role == Role::User).collect();
    for system in messages[..n_system].iter().map(Some).chain([None]) {
        for start in &starts {
            let kept: Vec<Message<'_>> = system.into_iter().chain(&body[*start..]).copied().collect();
            let ids = format(toy).render(toy, &kept, None).unwrap().ids;
            if ids.len() <= budget {
                return Some(RenderedChat { ids, dropped_messages: messages.len() - kept.len() });
            }
        }
    }
    None
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn truncation_follows_its_definition(
        instructions in proptest::option::of("[s\n]{0,6}"),
        turns in proptest::collection::vec((any::<bool>(), "[x\n]{0,5}"), 1..8),
        budget in 0usize..60,
    ) {
        let toy = toy();
        let mut messages: Vec<Message<'_>> = turns
            .iter()
            .map(|(is_user, content)| if *is_user { user(content) } else { assistant(content) })
            .collect();
        if let Some(instructions) = &instructions {
            messages[0].role = Role::User;
            messages.insert(0, system(instructions));
        }
        let rendered = format(&toy).render(&toy, &messages, Some(budget));
        let expected = brute_force(&toy, &messages, budget);
        prop_assert_eq!(rendered.as_ref().ok(), expected.as_ref());
        if let Ok(rendered) = rendered {
            prop_assert_eq!(rendered.ids[0], format(&toy).bos);
            prop_assert_eq!(rendered.ids.last(), Some(&format(&toy).messages.unwrap().assistant_start));
        }
    }
}
