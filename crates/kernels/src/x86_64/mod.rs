//! The vector operations of x86-64: AVX2 with FMA, AVX-512, and each with its dot products.

mod avx2;
mod avx512;

pub(crate) use avx2::{Avx2, AvxVnni};
pub(crate) use avx512::{Avx512, Avx512Bf16, Avx512Vnni};
