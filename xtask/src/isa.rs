//! The instruction set of the servers that the checks drive: what `ISA` says, as for the binary, else the best of this CPU.
//!
//! What is sampled differs between instruction sets by rounding, and no check may depend on it. A machine with more than
//! AVX2 so runs some checks with AVX2, which is all that many machines have.

use kernels::Isa;

/// The setting, here and of the binary.
pub(crate) const VARIABLE: &str = "ISA";
/// What all x86-64 machines that are worth serving on have.
const COMMON: &str = "avx2";

/// What the caller of this command sets, else `auto`.
pub(crate) fn chosen() -> String {
    #[expect(clippy::disallowed_methods, reason = "a developer command hands the setting on to the binary")]
    std::env::var(VARIABLE).unwrap_or_else(|_| "auto".to_owned())
}

/// AVX2 where this machine has more and the caller chose nothing, else what the caller chose.
pub(crate) fn lesser() -> String {
    let chosen = chosen();
    if chosen == "auto" && is_more(Isa::available()[0].name()) { COMMON.to_owned() } else { chosen }
}

/// What the caller chose, and that where it is another.
pub(crate) fn both() -> Vec<String> {
    let mut both = vec![chosen(), lesser()];
    both.dedup();
    both
}

fn is_more(best: &str) -> bool {
    best.starts_with("avx") && best != COMMON
}

/// Says which one a check is run with.
pub(crate) fn announce(isa: &str) {
    let name = if isa == "auto" { Isa::available()[0].name() } else { isa };
    println!("instruction set: {name}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_avx2_is_what_has_it_and_something_else() {
        for (best, more) in [
            ("avx2", false),
            ("avx-vnni", true),
            ("avx512-bf16", true),
            ("neon-i8mm", false),
            ("scalar", false),
        ] {
            assert_eq!(is_more(best), more, "{best}");
        }
    }
}
