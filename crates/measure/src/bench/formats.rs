//! The ways to hold weights that are compared.

use kernels::WeightFormat;
use kernels::probe::Arithmetic;

/// One way.
pub(crate) struct Format {
    /// The name in options and tables.
    pub(crate) name: &'static str,
    pub(crate) held: WeightFormat,
    /// What its products are made of.
    pub(crate) arithmetic: Arithmetic,
}

/// All of them.
pub(crate) const FORMATS: [Format; 4] = [
    Format { name: "f32", held: WeightFormat::F32, arithmetic: Arithmetic::F32 },
    Format { name: "bf16", held: WeightFormat::Bf16, arithmetic: Arithmetic::Bf16 },
    Format { name: "int8", held: WeightFormat::Int8, arithmetic: Arithmetic::Int8 },
    Format { name: "int4", held: WeightFormat::Int4, arithmetic: Arithmetic::Int8 },
];
