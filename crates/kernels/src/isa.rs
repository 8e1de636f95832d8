//! Which instruction sets this CPU has. Holding an [`Isa`] proves that its instructions may run, which
//! is what makes the dispatch in this crate sound.

/// An instruction set that this CPU was seen to have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Isa(pub(crate) InstructionSet);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(dead_code, reason = "the kinds of another architecture are named but never made here")]
pub(crate) enum InstructionSet {
    Scalar,
    Avx2,
    AvxVnni,
    Avx512,
    Avx512Vnni,
    Avx512Bf16,
    Neon,
    NeonDotprod,
    NeonI8mm,
}

impl Isa {
    /// Portable code without vector instructions: the specification the others are tested against.
    pub const SCALAR: Self = Self(InstructionSet::Scalar);

    /// Every instruction set of this CPU, the fastest first; always ends with [`Isa::SCALAR`].
    pub fn available() -> Vec<Self> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            let avx512_vnni = avx512 && is_x86_feature_detected!("avx512vnni");
            if avx512_vnni && is_x86_feature_detected!("avx512bf16") {
                found.push(Self(InstructionSet::Avx512Bf16));
            }
            if avx512_vnni {
                found.push(Self(InstructionSet::Avx512Vnni));
            }
            if avx512 {
                found.push(Self(InstructionSet::Avx512));
            }
            if avx2 && is_x86_feature_detected!("avxvnni") {
                found.push(Self(InstructionSet::AvxVnni));
            }
            if avx2 {
                found.push(Self(InstructionSet::Avx2));
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            use std::arch::is_aarch64_feature_detected;
            if is_aarch64_feature_detected!("i8mm") {
                found.push(Self(InstructionSet::NeonI8mm));
            }
            if is_aarch64_feature_detected!("dotprod") {
                found.push(Self(InstructionSet::NeonDotprod));
            }
            found.push(Self(InstructionSet::Neon));
        }
        found.push(Self::SCALAR);
        found
    }

    /// The fastest instruction set of this CPU.
    pub fn detect() -> Self {
        Self::available()[0]
    }

    /// The instruction set called `name` (see [`Isa::name`]), if this CPU has it.
    pub fn named(name: &str) -> Option<Self> {
        Self::available().into_iter().find(|isa| isa.name() == name)
    }

    /// Whether bf16 weights meet activations rounded to bf16 (the CPU's own dot product) or exact ones.
    pub(crate) fn rounds_activations(self) -> bool {
        self.0 == InstructionSet::Avx512Bf16
    }

    /// The name used in settings and logs.
    pub fn name(self) -> &'static str {
        match self.0 {
            InstructionSet::Scalar => "scalar",
            InstructionSet::Avx2 => "avx2",
            InstructionSet::AvxVnni => "avx-vnni",
            InstructionSet::Avx512 => "avx512",
            InstructionSet::Avx512Vnni => "avx512-vnni",
            InstructionSet::Avx512Bf16 => "avx512-bf16",
            InstructionSet::Neon => "neon",
            InstructionSet::NeonDotprod => "neon-dotprod",
            InstructionSet::NeonI8mm => "neon-i8mm",
        }
    }
}

/// Defines `$name(isa, args…)`, which runs `$generic::<S>(args…)` compiled for the instruction set that
/// `isa` proves, or `$scalar(args…)`.
macro_rules! dispatch {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) => $generic:ident, $scalar:path) => {
        $(#[$meta])*
        pub(crate) fn $name(isa: crate::Isa, $($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $ty),*) {
                $generic::<crate::x86_64::Avx2>($($arg),*);
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            fn avx512($($arg: $ty),*) {
                $generic::<crate::x86_64::Avx512>($($arg),*);
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,avxvnni")]
            fn avx_vnni($($arg: $ty),*) {
                $generic::<crate::x86_64::AvxVnni>($($arg),*);
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
            fn avx512_vnni($($arg: $ty),*) {
                $generic::<crate::x86_64::Avx512Vnni>($($arg),*);
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma")]
            fn avx512_bf16($($arg: $ty),*) {
                $generic::<crate::x86_64::Avx512Bf16>($($arg),*);
            }
            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon,dotprod")]
            fn neon_dotprod($($arg: $ty),*) {
                $generic::<crate::aarch64::NeonDotprod>($($arg),*);
            }
            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon,i8mm")]
            fn neon_i8mm($($arg: $ty),*) {
                $generic::<crate::aarch64::NeonI8mm>($($arg),*);
            }
            match isa.0 {
                // SAFETY: an `Isa` of this kind is only made after its features were detected.
                #[cfg(target_arch = "x86_64")]
                crate::isa::InstructionSet::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                crate::isa::InstructionSet::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                crate::isa::InstructionSet::AvxVnni => unsafe { avx_vnni($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                crate::isa::InstructionSet::Avx512Vnni => unsafe { avx512_vnni($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                crate::isa::InstructionSet::Avx512Bf16 => unsafe { avx512_bf16($($arg),*) },
                #[cfg(target_arch = "aarch64")]
                crate::isa::InstructionSet::Neon => $generic::<crate::aarch64::Neon>($($arg),*),
                // SAFETY: as above.
                #[cfg(target_arch = "aarch64")]
                crate::isa::InstructionSet::NeonDotprod => unsafe { neon_dotprod($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "aarch64")]
                crate::isa::InstructionSet::NeonI8mm => unsafe { neon_i8mm($($arg),*) },
                _ => $scalar($($arg),*),
            }
        }
    };
}
pub(crate) use dispatch;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_sets_and_scalar_is_always_last() {
        let all = Isa::available();
        assert_eq!(all.last(), Some(&Isa::SCALAR));
        for isa in all {
            assert_eq!(Isa::named(isa.name()), Some(isa));
        }
        assert_eq!(Isa::named("mmx"), None);
    }
}
