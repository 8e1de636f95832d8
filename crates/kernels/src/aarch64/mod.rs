//! The vector operations of aarch64: NEON, which every such CPU has.

mod neon;

pub(crate) use neon::Neon;
