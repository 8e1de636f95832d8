//! What is measured: the options, checked and with every default filled in.

use std::time::Duration;

use anyhow::{Context as _, bail};
use kernels::{Compute, Isa};

use super::formats::{FORMATS, Format};
use super::{Group, Options};

/// Width of the residual stream, a layer: nanochat's rule.
pub(crate) const WIDTH_OF_A_LAYER: usize = 64;
/// Token ids.
pub(crate) const VOCABULARY: usize = 32_768;

/// The options, resolved.
pub(crate) struct Setup {
    only: Vec<Group>,
    pub(crate) formats: Vec<&'static Format>,
    /// Layers of the model.
    pub(crate) depth: usize,
    pub(crate) threads: usize,
    pub(crate) isa: Isa,
    pub(crate) quick: bool,
}

impl Setup {
    /// Checks the options against this machine.
    pub(crate) fn new(options: &Options) -> anyhow::Result<Self> {
        let isa = match &options.isa {
            None => Isa::detect(),
            Some(name) => {
                Isa::named(name).with_context(|| format!("this CPU has no instruction set {name}"))?
            }
        };
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = options.threads.unwrap_or(cores);
        if !(1..=1024).contains(&threads) {
            bail!("--threads takes 1 to 1024, not {threads}");
        }
        let formats = chosen(&options.format)?;
        let depth = usize::from(options.depth);
        Ok(Self { only: options.only.clone(), formats, depth, threads, isa, quick: options.quick })
    }

    /// Whether a group is asked for.
    pub(crate) fn wants(&self, group: Group) -> bool {
        self.only.is_empty() || self.only.contains(&group)
    }

    /// A context for kernels with all threads.
    pub(crate) fn compute(&self) -> Compute {
        Compute::new(self.isa, self.threads)
    }

    /// Runs of which a median is taken.
    pub(crate) fn runs(&self) -> usize {
        if self.quick { 1 } else { 3 }
    }

    /// How long short work is repeated.
    pub(crate) fn budget(&self) -> Duration {
        Duration::from_millis(if self.quick { 50 } else { 400 })
    }
}

/// The formats of these names, or all of them.
fn chosen(names: &[String]) -> anyhow::Result<Vec<&'static Format>> {
    if names.is_empty() {
        return Ok(FORMATS.iter().collect());
    }
    let known = || FORMATS.iter().map(|format| format.name).collect::<Vec<_>>().join(", ");
    let find = |name: &String| {
        let found = FORMATS.iter().find(|format| format.name == name);
        found.with_context(|| format!("--format takes {}, not {name}", known()))
    };
    names.iter().map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_chosen_by_name_and_all_by_none() {
        assert_eq!(chosen(&[]).unwrap().len(), FORMATS.len());
        assert_eq!(chosen(&["bf16".to_owned()]).unwrap()[0].name, "bf16");
        let error = chosen(&["fp7".to_owned()]).err().unwrap().to_string();
        assert!(error.contains("bf16") && error.contains("fp7"), "{error}");
    }
}
