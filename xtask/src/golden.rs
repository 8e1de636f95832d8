//! `cargo xtask golden`: recorded logits, tokens and texts of every model generation, in the profile that is
//! shipped, from the tokenizer up to HTTP.

use anyhow::bail;

use crate::shell;

/// Crates that hold golden tests, from the bottom up, and the files that do: only these are built for it.
const TESTS: [(&str, &str); 4] =
    [("tokenizer", "recorded"), ("model", "golden"), ("registry", "golden"), ("server", "golden")];

/// Runs every test there with `golden` in its name, and shows the figures they print.
pub(crate) fn run() -> anyhow::Result<()> {
    for (package, file) in TESTS {
        let test = ["test", "--release", "-p", package, "--test", file];
        let args = [&test[..], &["golden", "--", "--nocapture", "--test-threads=2"]].concat();
        println!("$ cargo {}", args.join(" "));
        let output = shell::output("cargo", &args)?;
        let shown =
            output.lines().filter(|line| line.contains("golden") || line.contains("largest difference"));
        shown.for_each(|line| println!("{line}"));
        // A filter that matches nothing succeeds as well.
        if passed(&output) == 0 {
            bail!("no golden test ran in {package}");
        }
    }
    Ok(())
}

/// Tests that cargo says have passed.
fn passed(output: &str) -> u32 {
    let count = |line: &str| line.split("ok. ").nth(1)?.split(' ').next()?.parse::<u32>().ok();
    output.lines().filter(|line| line.starts_with("test result: ok.")).filter_map(count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passed_tests_are_added_up() {
        let line = |n: u32| format!("test result: ok. {n} passed; 0 failed; 0 ignored; 0 measured\n");
        assert_eq!(passed(&[line(0), "noise\n".to_owned(), line(3), line(4)].concat()), 7);
        assert_eq!(passed(&line(0)), 0);
    }
}
