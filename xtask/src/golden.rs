//! `cargo xtask golden`: recorded logits, tokens and texts of every model generation, in the profile that is
//! shipped, from the tokenizer up to HTTP.

use anyhow::bail;

use crate::shell;

/// Crates that hold golden tests, from the bottom up.
const PACKAGES: [&str; 4] = ["tokenizer", "model", "registry", "server"];

/// Runs every test with `golden` in its path, and shows the figures they print.
pub(crate) fn run() -> anyhow::Result<()> {
    for package in PACKAGES {
        let args = ["test", "--release", "-p", package, "golden", "--", "--nocapture", "--test-threads=2"];
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
