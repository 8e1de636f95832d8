//! `cargo xtask golden`: recorded logits, tokens and texts of every model generation, in the profile that is
//! shipped: the one step of `ci` that builds a program as `cargo build --release` does.

use anyhow::bail;

use crate::shell;

/// Crates that hold golden tests and can be built as they are shipped without all the others; what serving and the
/// binary have of them is among the workspace's tests.
const CRATES: [&str; 2] = ["tokenizer", "cpu"];

/// Runs every test there with `golden` in its name, and shows the figures they print.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut args = vec!["test", "--release", "--test", "it"];
    args.extend(CRATES.iter().flat_map(|name| ["-p", name]));
    args.extend(["golden", "--", "--nocapture", "--test-threads=2"]);
    println!("$ cargo {}", args.join(" "));
    let output = shell::output("cargo", &args)?;
    let shown = output.lines().filter(|line| line.contains("golden") || line.contains("largest difference"));
    shown.for_each(|line| println!("{line}"));
    // A filter that matches nothing succeeds as well.
    let passed = passed(&output);
    if passed.len() != CRATES.len() || passed.contains(&0) {
        bail!("of {CRATES:?} passed {passed:?} golden tests");
    }
    Ok(())
}

/// How many tests cargo says have passed, file by file.
fn passed(output: &str) -> Vec<u32> {
    let count = |line: &str| line.split("ok. ").nth(1)?.split(' ').next()?.parse::<u32>().ok();
    output.lines().filter(|line| line.starts_with("test result: ok.")).filter_map(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passed_tests_are_counted_by_file() {
        let line = |n: u32| format!("test result: ok. {n} passed; 0 failed; 0 ignored; 0 measured\n");
        assert_eq!(passed(&[line(0), "noise\n".to_owned(), line(3), line(4)].concat()), [0, 3, 4]);
    }
}
