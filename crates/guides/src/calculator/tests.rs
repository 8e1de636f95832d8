//! The table of nanochat.md 6.4, and results recorded from Python.

use super::*;

fn assert_results(table: &[(&str, &str)]) {
    for (expression, expected) in table {
        assert_eq!(calculate(expression).as_deref(), Some(*expected), "{expression}");
    }
}

fn assert_none(expressions: &[&str]) {
    for expression in expressions {
        assert_eq!(calculate(expression), None, "{expression}");
    }
}

#[test]
fn the_verified_table_of_numbers() {
    assert_results(&[
        ("10/2", "5.0"),
        ("1/3", "0.3333333333333333"),
        ("2/3*3", "2.0"),
        ("0.2*50", "10.0"),
        ("1,000+5", "1005"),
        ("7//2", "3"),
        ("-7//2", "-4"),
        ("7.0//2", "3.0"),
        ("-7.5//2", "-4.0"),
        ("0.1+0.2", "0.30000000000000004"),
        ("100/7", "14.285714285714286"),
        ("1/1000000", "1e-06"),
        ("10000000000000000/1", "1e+16"),
        ("123456789012345678/1", "1.2345678901234568e+17"),
        ("9999999999*9999999999", "99999999980000000001"),
        ("--5", "5"),
        ("1---2", "-1"),
        ("1.", "1.0"),
        (".5", "0.5"),
        ("00", "0"),
        ("-0.0", "-0.0"),
        ("(1,2)", "12"),
        ("()", "()"),
        ("...", "Ellipsis"),
        ("  1 + 1  ", "2"),
    ]);
    assert_none(&[
        "2**3", "2* *3", "5%2", "1e5", "007", "1/0", "1 2", "5-", "(1)(2)", "1.5.2", "1+1\n", "\n1+1",
        "1\t+1", "", " ", ",", "(", ")", ".", "..", "1/0.0", "0//0", "1//0.0", "½", "１",
    ]);
}

#[test]
fn the_verified_table_of_texts() {
    assert_results(&[
        ("'strawberry'.count('r')", "3"),
        ("'a,b,c'.count(',')", "4"),
        ("'aaaa'.count('aa')", "2"),
        ("'abc'.count('')", "4"),
        ("'foo' 'bar'.count('o')", "2"),
        ("'Abc'.upper().count('A')", "1"),
        ("not 'a'.count('b')", "True"),
    ]);
    assert_none(&[
        "'well-known'.count('l')",
        "'x'.count('x')+1",
        "len('abc')",
        "'naïve'.count('a')",
        "'direction'.count('i')",
        "'profile'.count('i')",
        "'important'.count('t')",
        "'medieval'.count('e')",
        "'snake__case'.count('e')",
        "'abc'.upper()",
        "'a'.count('a').bit_length()",
        "'a'.count(1)",
        "'a'.count()",
        "'a'.count('a'",
        "'a'.count('a)",
        "'a'.count(not 'a')",
        "abc.count('a')",
    ]);
}

/// Has a value in Python, but is outside of what is evaluated here.
#[test]
fn what_is_left_out_has_no_result() {
    assert_none(&[
        "'a'.count('a') or 'b'",
        "'a' in 'b' and 'a'.count('b')",
        "u'abc'.count('b')",
        "'a'.center(5).count(' ')",
        "'b'.count('a') if 1 else 2",
    ]);
}

#[test]
fn expressions_are_bounded_in_length_and_depth() {
    let nested = |n: usize| format!("{}1{}", "(".repeat(n), ")".repeat(n));
    assert_eq!(calculate(&nested(MAX_NESTING)).as_deref(), Some("1"));
    assert_none(&[&nested(MAX_NESTING + 1), &nested(2000), &"(".repeat(4096), &"'a'.count(".repeat(400)]);
    let methods = |n: usize| format!("'a'.count({}''{})", "'ab'.strip(".repeat(n - 1), ")".repeat(n - 1));
    assert_eq!(calculate(&methods(MAX_NESTING)).as_deref(), Some("0"));
    assert_none(&[&methods(MAX_NESTING + 1)]);

    assert_eq!(calculate(&format!("{}5", "-".repeat(4095))).as_deref(), Some("-5"));
    assert_none(&[&format!("{}5", "-".repeat(4096)), &"1,".repeat(3000)]);
    let nots = format!("{}'a'.count('a')", "not ".repeat(1000));
    assert_eq!(calculate(&nots).as_deref(), Some("True"));

    let nines = "9".repeat(2047);
    let product = calculate(&format!("{nines}*{nines}")).unwrap();
    assert_eq!(product.len(), 2 * 2047);
    assert_eq!(calculate(&format!("{nines}/{nines}")).as_deref(), Some("1.0"));
    assert_eq!(calculate(&format!("1/{nines}")).as_deref(), Some("0.0"));
    assert_none(&[&format!("{nines}/1"), &format!("{nines}+0.0")]);
    assert_eq!(calculate(&format!("{nines}.")).as_deref(), Some("inf"));
    assert_eq!(calculate(&format!("{nines}.*0")).as_deref(), Some("nan"));
}

/// The engine thread must not run out of stack on what a model writes.
#[test]
fn the_deepest_expressions_fit_a_small_stack() {
    let deepest = || {
        let sums = format!("{}1{}", "(1*-(".repeat(MAX_NESTING / 2), "))".repeat(MAX_NESTING / 2));
        assert_eq!(calculate(&sums).as_deref(), Some("1"));
        let methods = format!("'a'.count({}''{})", "'ab'.strip(".repeat(199), ")".repeat(199));
        assert_eq!(calculate(&methods).as_deref(), Some("0"));
    };
    std::thread::Builder::new().stack_size(512 << 10).spawn(deepest).unwrap().join().unwrap();
}

#[test]
fn hostile_characters_have_no_result_and_do_no_harm() {
    let alphabet: Vec<char> = "01.+-*/() '\"_aсéot\n\0🥟,".chars().collect();
    let mut state = 1_u64;
    for _ in 0..50_000 {
        let mut expression = String::new();
        loop {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let draw = (state >> 33) as usize;
            if draw.is_multiple_of(12) {
                break;
            }
            expression.push(alphabet[draw / 12 % alphabet.len()]);
        }
        let result = calculate(&expression);
        assert!(result.is_none() || expression.is_ascii(), "{expression:?}");
    }
}

#[test]
fn results_are_those_of_python() {
    let cases: serde_json::Value =
        serde_json::from_str(include_str!("../../tests/fixtures/calculator.json")).unwrap();
    let cases = cases.as_array().unwrap();
    assert!(cases.len() > 400);
    for case in cases {
        let expression = case[0].as_str().unwrap();
        assert_eq!(calculate(expression).as_deref(), case[1].as_str(), "{expression}");
    }
}
