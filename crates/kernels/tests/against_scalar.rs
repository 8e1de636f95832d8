//! Every instruction set of this machine against the scalar specification, and against itself with other
//! numbers of rows and threads.

use std::convert::Infallible;

use kernels::attention::{Attention, PAGE, PageFormat, PageShape, Pages, Slot, Span, attend};
use kernels::{Activations, Compute, Epilogue, Isa, Packed, WeightFormat, matmul, rows};

/// Numbers in -1 .. 1 from a seed, the same on every machine.
fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32 / (1u64 << 23) as f32) - 1.0
        })
        .collect()
}

fn packed(format: WeightFormat, outputs: usize, inputs: usize) -> Packed {
    let weights = noise(7, outputs * inputs);
    let packed = Packed::new(&Compute::new(Isa::SCALAR, 2), format, [outputs, inputs], |range, rows| {
        rows.copy_from_slice(&weights[range.start * inputs..range.end * inputs]);
        Ok::<(), Infallible>(())
    });
    let Ok(packed) = packed;
    packed
}

/// `limit` is a share of the largest magnitude of what is expected.
fn assert_close(got: &[f32], expected: &[f32], limit: f32, what: &str) {
    let scale = expected.iter().fold(1e-6f32, |m, x| m.max(x.abs()));
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!((g - e).abs() <= limit * scale, "{what}: element {i} is {g}, expected {e}");
    }
}

/// The product of rows `x` with `w` onto some noise.
fn multiply(compute: &Compute, x: &[f32], w: &Packed, epilogue: Epilogue) -> Vec<f32> {
    let n_rows = x.len() / w.inputs();
    let mut y = noise(9, n_rows * w.outputs());
    let mut activations = Activations::default();
    activations.resize(n_rows, w.inputs()).copy_from_slice(x);
    activations.prepare(compute, w, [], |_, _, []| {});
    matmul(compute, &activations, w, epilogue, &mut y);
    y
}

#[test]
fn matmul_agrees_with_scalar_for_every_shape_and_epilogue() {
    for isa in Isa::available() {
        let (fast, plain) = (Compute::new(isa, 2), Compute::new(Isa::SCALAR, 1));
        for format in WeightFormat::ALL {
            for (outputs, inputs) in [(1, 2), (31, 16), (32, 34), (33, 64), (100, 130), (257, 96)] {
                let w = packed(format, outputs, inputs);
                for n_rows in [1, 2, 3, 5, 7, 12, 13, 29] {
                    let x = noise(3, n_rows * inputs);
                    for epilogue in [Epilogue::Store, Epilogue::Add] {
                        let what =
                            format!("{} {format:?} {n_rows}x{inputs}x{outputs} {epilogue:?}", isa.name());
                        let limit = match format {
                            // Activations rounded to bf16 lose up to 2^-9 of each product.
                            WeightFormat::Bf16 if isa.name() == "avx512-bf16" => 0.02,
                            WeightFormat::F32 | WeightFormat::Bf16 => 1e-5,
                            // Sums of whole numbers are exact, and the rest is the same operations in order.
                            WeightFormat::Int8 | WeightFormat::Int4 => 0.0,
                        };
                        let expected = multiply(&plain, &x, &w, epilogue);
                        assert_close(&multiply(&fast, &x, &w, epilogue), &expected, limit, &what);
                    }
                }
            }
        }
    }
}

#[test]
fn whole_numbers_come_near_the_exact_product() {
    let compute = Compute::new(Isa::detect(), 2);
    let x = noise(3, 5 * 300);
    let exact = multiply(&compute, &x, &packed(WeightFormat::F32, 70, 300), Epilogue::Store);
    for (format, limit) in [(WeightFormat::Int8, 0.015), (WeightFormat::Int4, 0.15)] {
        let got = multiply(&compute, &x, &packed(format, 70, 300), Epilogue::Store);
        assert_close(&got, &exact, limit, format.name());
    }
}

#[test]
fn the_largest_whole_numbers_do_not_overflow() {
    for isa in Isa::available() {
        for format in WeightFormat::ALL {
            for (sign, weight) in [(1.0, 1.0f32), (-1.0, 1.0), (1.0, -1.0)] {
                let compute = Compute::new(isa, 1);
                let w = Packed::new(&compute, format, [40, 256], |_, rows| {
                    rows.fill(weight);
                    Ok::<(), Infallible>(())
                });
                let Ok(w) = w;
                let y = multiply(&compute, &[sign; 256 * 3], &w, Epilogue::Store);
                let expected = 256.0 * sign * weight;
                assert!(
                    y.iter().all(|y| (y / expected - 1.0).abs() < 0.01),
                    "{} {format:?}: {} instead of {expected}",
                    isa.name(),
                    y[0]
                );
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_alone_and_among_others_on_any_number_of_threads() {
    for isa in Isa::available() {
        for format in WeightFormat::ALL {
            let w = packed(format, 200, 128);
            let x = noise(5, 40 * 128);
            let all = multiply(&Compute::new(isa, 2), &x, &w, Epilogue::Store);
            let alone = Compute::new(isa, 1);
            let onto = noise(9, 200);
            for row in [0, 1, 11, 12, 24, 39] {
                let y = multiply(&alone, &x[row * 128..][..128], &w, Epilogue::Store);
                assert_eq!(y, all[row * 200..][..200], "{} {format:?} row {row}", isa.name());
                assert_ne!(y, onto);
            }
        }
    }
}

struct Sequence {
    shape: PageShape,
    heads: usize,
    window: usize,
    qkv: Vec<f32>,
    stride: usize,
    length: usize,
}

impl Sequence {
    fn new(format: PageFormat, (heads, kv_heads, head_dim): (usize, usize, usize), window: usize) -> Self {
        let length = 150;
        let stride = (heads + 2 * kv_heads) * head_dim;
        let shape = PageShape { layers: 2, kv_heads, head_dim, format };
        Self { shape, heads, window, qkv: noise(11, length * stride), stride, length }
    }

    /// Attends rows `from ..` in one call, after writing keys and values of the whole sequence to pages in
    /// a scattered order. Memory that nobody wrote holds NaN.
    fn attend(&self, compute: &Compute, from: usize) -> Vec<f32> {
        let table: Vec<u32> = (0..self.length.div_ceil(PAGE) as u32).map(|i| (i * 3 + 1) % 7).collect();
        let mut pages = Pages::new(self.shape, 7);
        let slots = |table: &[u32], n: usize| -> Vec<Slot> {
            (0..n).map(|i| Slot { page: table[i / PAGE], offset: (i % PAGE) as u32 }).collect()
        };
        let poison = vec![f32::NAN; 7 * PAGE * self.stride];
        pages.write(compute, 1, &slots(&[0, 1, 2, 3, 4, 5, 6], 7 * PAGE), [&poison, &poison], self.stride);
        let keys = &self.qkv[self.heads * self.shape.head_dim..];
        let values = &keys[self.shape.kv_heads * self.shape.head_dim..];
        // Rows of `stride` numbers, the last one shorter: `write` takes the part it needs.
        pages.write(compute, 1, &slots(&table, self.length), [keys, values], self.stride);
        let spans = [Span { row: 0, rows: self.length - from, position: from, table: &table }];
        let attention = Attention {
            pages: &pages,
            layer: 1,
            queries: &self.qkv[from * self.stride..],
            stride: self.stride,
            heads: self.heads,
            window: self.window,
            spans: &spans,
        };
        let mut out = vec![0.0; (self.length - from) * self.heads * self.shape.head_dim];
        attend(compute, &attention, &mut out);
        out
    }
}

const SHAPES: [(usize, usize, usize); 5] = [(4, 2, 16), (2, 2, 32), (3, 1, 64), (14, 1, 16), (2, 1, 128)];

#[test]
fn attention_agrees_with_scalar() {
    for isa in Isa::available() {
        for format in [PageFormat::F32, PageFormat::Bf16] {
            for shape in SHAPES {
                for window in [0, 1, 31, 32, 70, 1000] {
                    let sequence = Sequence::new(format, shape, window);
                    let expected = sequence.attend(&Compute::new(Isa::SCALAR, 1), 0);
                    let got = sequence.attend(&Compute::new(isa, 2), 0);
                    let limit =
                        if isa.name() == "avx512-bf16" && format == PageFormat::Bf16 { 0.02 } else { 2e-5 };
                    assert_close(
                        &got,
                        &expected,
                        limit,
                        &format!("{} {format:?} {shape:?} window {window}", isa.name()),
                    );
                }
            }
        }
    }
}

#[test]
fn a_query_has_the_same_bits_however_its_sequence_is_cut() {
    for isa in Isa::available() {
        for format in [PageFormat::F32, PageFormat::Bf16] {
            for shape in SHAPES {
                let sequence = Sequence::new(format, shape, 50);
                let whole = sequence.attend(&Compute::new(isa, 2), 0);
                let width = shape.0 * shape.2;
                for from in [1, 31, 32, 95, 149] {
                    let part = sequence.attend(&Compute::new(isa, 1), from);
                    assert_eq!(
                        part,
                        whole[from * width..],
                        "{} {format:?} {shape:?} from {from}",
                        isa.name()
                    );
                }
            }
        }
    }
}

#[test]
fn row_operations_agree_with_scalar_at_every_length() {
    for isa in Isa::available() {
        for length in (2..=50).step_by(2) {
            let x = noise(length as u64, length);
            let other = noise(99, length);
            let run = |isa: Isa| {
                let mut results = vec![x.clone(), x.clone(), x.clone(), x.iter().map(|x| x * 60.0).collect()];
                rows::norm(isa, &mut results[0]);
                rows::rotate_and_norm(
                    isa,
                    &mut results[1],
                    (&other[..length / 2], &other[length / 2..]),
                    1.2,
                );
                rows::mix(isa, &mut results[2], 0.7, &other, 0.3);
                rows::softcap(isa, &mut results[3], 15.0);
                let highest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                results.push(vec![rows::exp_sum(isa, &x, highest, 1.7)]);
                results
            };
            for (op, (got, expected)) in run(isa).iter().zip(run(Isa::SCALAR)).enumerate() {
                assert_close(got, &expected, 1e-6, &format!("{} operation {op} length {length}", isa.name()));
            }
        }
    }
}

#[test]
fn not_a_number_and_infinity_come_through() {
    for isa in Isa::available() {
        let mut logits = vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e30];
        rows::softcap(isa, &mut logits, 15.0);
        assert!(logits[0].is_nan(), "{}", isa.name());
        assert_eq!(logits[1..], [15.0, -15.0, 15.0, -15.0], "{}", isa.name());
        // What may not be chosen has no share.
        let sum = rows::exp_sum(isa, &[[f32::NEG_INFINITY, 2.0]; 9].concat(), 2.0, 1e9);
        assert_eq!(sum, 9.0, "{}", isa.name());
        for format in WeightFormat::ALL {
            let w = packed(format, 40, 32);
            for poison in [f32::NAN, f32::INFINITY] {
                let mut x = noise(1, 64);
                x[40] = poison;
                let y = multiply(&Compute::new(isa, 1), &x, &w, Epilogue::Store);
                let what = format!("{} {format:?} {poison}", isa.name());
                assert!(y[..40].iter().all(|y| y.is_finite()), "{what}");
                assert!(y[40..].iter().all(|y| !y.is_finite()), "{what}");
            }
        }
    }
}
