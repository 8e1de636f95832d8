//! The vector operations of x86-64: AVX2 with FMA, AVX-512, and AVX-512 with its bf16 dot product.

mod avx2;
mod avx512;

pub(crate) use avx2::Avx2;
pub(crate) use avx512::{Avx512, Avx512Bf16};
