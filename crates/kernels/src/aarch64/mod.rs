//! The vector operations of aarch64: NEON, which every such CPU has, and with each of its byte dot products.

mod neon;

pub(crate) use neon::{Neon, NeonDotprod, NeonI8mm};
