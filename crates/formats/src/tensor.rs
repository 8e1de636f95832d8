//! One tensor: where its elements are and how to read them as `f32`.
//!
//! A tensor holds no elements. Its layout was checked against its storage when it was made ([`Layout::new`]),
//! so reading can only fail because of the caller's ranges or because the file changed. Copying is planned in
//! the order of the storage, so a transposed tensor is read by runs and not element by element.

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, TorchFault, short};
use crate::limits::LIMITS;
use crate::reader::{narrow, widen};
use crate::source::ByteSource;

/// Bytes read at once; a multiple of every element size.
const CHUNK_BYTES: usize = 256 << 10;

/// Strided runs whose elements are further apart than this many bytes are read one element at a time.
const SPARSE_BYTES: usize = 4 << 10;

/// The type of an element as stored, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the types")]
pub enum DType {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl DType {
    /// Bytes of one element.
    pub const fn size_bytes(self) -> usize {
        match self {
            DType::F64 | DType::I64 => 8,
            DType::F32 | DType::I32 => 4,
            DType::F16 | DType::BF16 | DType::I16 => 2,
            DType::I8 | DType::U8 | DType::Bool => 1,
        }
    }
}

/// The bytes behind one or more tensors: `bytes` of `source` from `start`, all of which exist.
#[derive(Clone)]
pub(crate) struct TensorStorage {
    pub(crate) source: Arc<dyn ByteSource>,
    pub(crate) start: u64,
    pub(crate) bytes: u64,
}

/// A shape as a file describes it, not yet checked. Offset and strides are in elements.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Vec<usize>,
    pub(crate) offset: usize,
}

impl Layout {
    /// Row-major from the first element.
    pub(crate) fn contiguous(dtype: DType, shape: Vec<usize>) -> Result<Self, Error> {
        let mut strides = vec![1; shape.len()];
        let mut step = 1_usize;
        for (stride, size) in strides.iter_mut().zip(&shape).rev() {
            *stride = step;
            step = step.checked_mul((*size).max(1)).ok_or(TorchFault::OutOfRange)?;
        }
        Ok(Layout { dtype, shape, strides, offset: 0 })
    }

    /// The number of elements, if every one of them lies within `storage_bytes`.
    ///
    /// A tensor with more elements than its storage (an expanded one) is refused: reading it would need
    /// memory that the file does not account for.
    pub(crate) fn check(&self, storage_bytes: u64) -> Result<usize, Error> {
        check_dimensions(self.shape.len())?;
        if self.strides.len() != self.shape.len() {
            return Err(TorchFault::Description.into());
        }
        if self.shape.contains(&0) {
            return Ok(0);
        }
        let count = self.shape.iter().try_fold(1_usize, |count, size| count.checked_mul(*size));
        let last = self.shape.iter().zip(&self.strides).try_fold(self.offset, |last, (size, stride)| {
            last.checked_add(size.checked_sub(1)?.checked_mul(*stride)?)
        });
        let elements = narrow(storage_bytes).checked_div(self.dtype.size_bytes()).unwrap_or(0);
        match (count, last) {
            (Some(count), Some(last)) if last < elements && count <= elements => Ok(count),
            _ => Err(TorchFault::OutOfRange.into()),
        }
    }
}

/// One tensor of a file. Cloning it copies no elements.
#[derive(Clone)]
pub struct Tensor {
    name: Arc<str>,
    inner: Arc<TensorData>,
}

struct TensorData {
    file: Arc<str>,
    layout: Layout,
    count: usize,
    storage: TensorStorage,
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor({:?}, {:?}, {:?})", self.name, self.dtype(), self.shape())
    }
}

impl Tensor {
    /// Checks the layout against the storage. `file` is for later messages.
    pub(crate) fn new(
        name: &str,
        file: &Arc<str>,
        layout: Layout,
        storage: TensorStorage,
    ) -> Result<Self, Error> {
        let count = layout.check(storage.bytes).map_err(|error| error.on(name))?;
        let inner = TensorData { file: Arc::clone(file), layout, count, storage };
        Ok(Tensor { name: name.into(), inner: Arc::new(inner) })
    }

    /// Its name in the table, without prefixes.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The element type in the file.
    pub fn dtype(&self) -> DType {
        self.inner.layout.dtype
    }

    /// The size of each dimension, outermost first; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.inner.layout.shape
    }

    /// The product of the shape: 1 for a scalar.
    pub fn element_count(&self) -> usize {
        self.inner.count
    }

    /// Rows for [`Tensor::read_rows`]: the first dimension, or 1 for a scalar.
    pub fn row_count(&self) -> usize {
        self.shape().first().copied().unwrap_or(1)
    }

    /// Elements of one row: the product of all dimensions but the first.
    pub fn row_elements(&self) -> usize {
        self.element_count().checked_div(self.row_count()).unwrap_or(0)
    }

    /// Reads all elements, row-major, as `f32`: `element_count()` of them.
    ///
    /// # Errors
    /// `Io` if the file can no longer be read.
    pub fn read(&self) -> Result<Vec<f32>, Error> {
        let mut out = vec![0.0; self.element_count()];
        self.read_rows(0..self.row_count(), &mut out)?;
        Ok(out)
    }

    /// Reads the elements of `rows` (of the first dimension; a scalar is one row, a vector has rows of one
    /// element) as `f32` into `out`, row-major: `rows.len() * row_elements()` of them.
    ///
    /// Wider types are rounded to the nearest `f32`; `Bool` is 0 or 1.
    ///
    /// # Errors
    /// `Rows` and `OutputLength` for wrong arguments, `Io` if the file can no longer be read.
    pub fn read_rows(&self, rows: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
        self.copy_rows(rows, out).map_err(|error| error.on(&self.name).in_file(&self.inner.file))
    }

    /// The file it is in, for messages.
    pub(crate) fn file(&self) -> &Arc<str> {
        &self.inner.file
    }

    /// The same tensor under another name.
    pub(crate) fn renamed(&self, name: &str) -> Self {
        Tensor { name: name.into(), inner: Arc::clone(&self.inner) }
    }

    fn copy_rows(&self, rows: Range<usize>, out: &mut [f32]) -> Result<(), Error> {
        if rows.start > rows.end || rows.end > self.row_count() {
            let kind = ErrorKind::Rows { start: rows.start, end: rows.end, rows: self.row_count() };
            return Err(kind.into());
        }
        let expected = rows.len().saturating_mul(self.row_elements());
        if out.len() != expected {
            return Err(ErrorKind::OutputLength { expected, found: out.len() }.into());
        }
        if expected == 0 {
            return Ok(());
        }
        let (start, loops) = self.plan(rows);
        StorageCopy { dtype: self.dtype(), storage: &self.inner.storage, buffer: Vec::new() }
            .run(start, &loops, out)
    }

    /// The first element of `rows` in the storage, and the loops over the rest in storage order.
    fn plan(&self, rows: Range<usize>) -> (usize, Vec<Loop>) {
        let Layout { shape, strides, offset, .. } = &self.inner.layout;
        let first_stride = strides.first().copied().unwrap_or(0);
        let start = offset.saturating_add(rows.start.saturating_mul(first_stride));
        let mut loops = Vec::with_capacity(shape.len());
        let mut to = self.row_elements();
        for (dimension, (size, stride)) in shape.iter().zip(strides).enumerate() {
            let count = if dimension == 0 { rows.len() } else { *size };
            if dimension > 0 {
                to = to.checked_div(*size).unwrap_or(0);
            }
            if count > 1 {
                loops.push(Loop { count, from: *stride, to });
            }
        }
        loops.sort_by_key(|step| std::cmp::Reverse(step.from));
        (start, merged(loops))
    }
}

/// `count` steps of `from` elements in the storage and `to` elements in the output.
#[derive(Clone, Copy, Debug)]
struct Loop {
    count: usize,
    from: usize,
    to: usize,
}

/// Joins neighbouring loops that together are one: all of a contiguous tensor becomes a single loop.
fn merged(loops: Vec<Loop>) -> Vec<Loop> {
    let mut joined: Vec<Loop> = Vec::with_capacity(loops.len());
    for inner in loops {
        match joined.last_mut() {
            Some(outer)
                if inner.count.checked_mul(inner.from) == Some(outer.from)
                    && inner.count.checked_mul(inner.to) == Some(outer.to) =>
            {
                *outer = Loop { count: outer.count.saturating_mul(inner.count), ..inner };
            }
            _ => joined.push(inner),
        }
    }
    joined
}

/// One copy out of a storage. Positions in the storage were checked by `Layout::check`, so arithmetic on them
/// saturates only in theory, and a saturated offset fails to read.
struct StorageCopy<'a> {
    dtype: DType,
    storage: &'a TensorStorage,
    buffer: Vec<u8>,
}

impl StorageCopy<'_> {
    fn run(mut self, start: usize, loops: &[Loop], out: &mut [f32]) -> Result<(), Error> {
        let one = Loop { count: 1, from: 1, to: 1 };
        let (inner, outer) = loops.split_last().unwrap_or((&one, &[]));
        let mut steps = vec![0_usize; outer.len()];
        loop {
            let (mut from, mut to) = (start, 0_usize);
            for (step, dimension) in steps.iter().zip(outer) {
                from = from.saturating_add(step.saturating_mul(dimension.from));
                to = to.saturating_add(step.saturating_mul(dimension.to));
            }
            self.innermost(from, *inner, out.get_mut(to..).unwrap_or_default())?;
            if !advance(&mut steps, outer) {
                return Ok(());
            }
        }
    }

    fn innermost(&mut self, from: usize, run: Loop, out: &mut [f32]) -> Result<(), Error> {
        let size = self.dtype.size_bytes();
        let pitch = run.from.max(1).saturating_mul(size);
        let sparse = run.from == 0 || pitch > SPARSE_BYTES;
        let at_once = CHUNK_BYTES.checked_div(pitch).filter(|_| !sparse).unwrap_or(1);
        let mut done = 0_usize;
        while done < run.count {
            let count = at_once.min(run.count.saturating_sub(done));
            let first = from.saturating_add(done.saturating_mul(run.from));
            let bytes = count.saturating_sub(1).saturating_mul(pitch).saturating_add(size);
            self.fill(first, bytes)?;
            let target = out.get_mut(done.saturating_mul(run.to)..).unwrap_or_default();
            if run.from == 1 && run.to == 1 {
                decode(self.dtype, &self.buffer, target);
            } else {
                let elements = target.chunks_mut(run.to.max(1)).zip(self.buffer.chunks(pitch));
                for (target, bytes) in elements {
                    decode(
                        self.dtype,
                        bytes.get(..size).unwrap_or_default(),
                        target.get_mut(..1).unwrap_or_default(),
                    );
                }
            }
            done = done.saturating_add(count);
        }
        Ok(())
    }

    /// Reads `bytes` from element `first` of the storage into the buffer.
    fn fill(&mut self, first: usize, bytes: usize) -> Result<(), Error> {
        let within = widen(first.saturating_mul(self.dtype.size_bytes()));
        let offset = self.storage.start.saturating_add(within);
        self.buffer.resize(bytes, 0);
        let result = self.storage.source.read_exact_at(offset, &mut self.buffer);
        result.map_err(|error| Error::from(error).at(Some(offset)))
    }
}

/// The next combination of steps, last loop fastest; false after the last one.
fn advance(steps: &mut [usize], loops: &[Loop]) -> bool {
    for (step, dimension) in steps.iter_mut().zip(loops).rev() {
        *step = step.saturating_add(1);
        if *step < dimension.count {
            return true;
        }
        *step = 0;
    }
    false
}

/// Converts as many elements as both sides have.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "rounding to the nearest f32 is what is promised"
)]
fn decode(dtype: DType, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        DType::F64 => convert(bytes, out, |b| f64::from_le_bytes(b) as f32),
        DType::F32 => convert(bytes, out, f32::from_le_bytes),
        DType::F16 => convert(bytes, out, |b| half_to_single(u16::from_le_bytes(b))),
        DType::BF16 => convert(bytes, out, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)),
        DType::I64 => convert(bytes, out, |b| i64::from_le_bytes(b) as f32),
        DType::I32 => convert(bytes, out, |b| i32::from_le_bytes(b) as f32),
        DType::I16 => convert(bytes, out, |b| f32::from(i16::from_le_bytes(b))),
        DType::I8 => convert(bytes, out, |b| f32::from(i8::from_le_bytes(b))),
        DType::U8 => convert(bytes, out, |b| f32::from(u8::from_le_bytes(b))),
        DType::Bool => convert(bytes, out, |b| f32::from(u8::from(u8::from_le_bytes(b) != 0))),
    }
}

fn convert<const N: usize>(bytes: &[u8], out: &mut [f32], element: impl Fn([u8; N]) -> f32) {
    let (elements, _) = bytes.as_chunks::<N>();
    for (out, bytes) in out.iter_mut().zip(elements) {
        *out = element(*bytes);
    }
}

/// IEEE binary16 to binary32, exact for every value.
fn half_to_single(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let magnitude = u32::from(bits & 0x7fff);
    // Moving the exponent field into place leaves it 112 too small; one multiplication corrects normal and
    // subnormal numbers alike.
    let scaled = f32::from_bits(magnitude << 13) * f32::from_bits(0x7780_0000);
    let special = magnitude >= 0x7c00;
    let value = if special { 0x7f80_0000 | (magnitude << 13) } else { scaled.to_bits() };
    f32::from_bits(sign | value)
}

/// Refuses a shape with too many dimensions, before it is copied out of a file.
pub(crate) fn check_dimensions(count: usize) -> Result<(), Error> {
    if count > LIMITS.dimensions {
        return Err(ErrorKind::too_large("dimensions", widen(count), widen(LIMITS.dimensions)).into());
    }
    Ok(())
}

/// Refuses a name that is too long, before it is copied out of a file.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    if name.len() > LIMITS.name_bytes {
        let kind = ErrorKind::too_large("name_bytes", widen(name.len()), widen(LIMITS.name_bytes));
        return Err(Error::from(kind).on(&short(name)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(shape: &[usize], strides: &[usize], offset: usize, values: &[f32]) -> Result<Tensor, Error> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let storage = TensorStorage { bytes: bytes.len() as u64, source: Arc::new(bytes), start: 0 };
        let layout = Layout { dtype: DType::F32, shape: shape.to_vec(), strides: strides.to_vec(), offset };
        Tensor::new("t", &"test".into(), layout, storage)
    }

    fn ramp(count: u16) -> Vec<f32> {
        (0..count).map(f32::from).collect()
    }

    #[test]
    fn every_half_equals_its_definition() {
        for bits in 0..=u16::MAX {
            let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
            let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
            let expected = match exponent {
                0 => sign * fraction * 2_f64.powi(-24),
                31 if fraction == 0.0 => sign * f64::INFINITY,
                31 => f64::NAN,
                _ => sign * (1024.0 + fraction) * 2_f64.powi(exponent - 25),
            } as f32;
            let found = half_to_single(bits);
            assert!(
                found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(),
                "{bits:#x}"
            );
        }
    }

    #[test]
    fn reads_rows_of_any_strides() {
        let values = ramp(24);
        for (shape, strides, offset) in [
            ([2, 3, 4], [12, 4, 1], 0),
            ([4, 3, 2], [1, 4, 12], 0),
            ([3, 2, 4], [4, 12, 1], 0),
            ([2, 3, 2], [12, 4, 2], 1),
            ([2, 3, 4], [4, 0, 1], 3),
        ] {
            let tensor = tensor(&shape, &strides, offset, &values).unwrap();
            let mut expected = Vec::new();
            for a in 0..shape[0] {
                for b in 0..shape[1] {
                    for c in 0..shape[2] {
                        expected.push(values[offset + a * strides[0] + b * strides[1] + c * strides[2]]);
                    }
                }
            }
            assert_eq!(tensor.read().unwrap(), expected);
            let row = tensor.row_elements();
            for rows in [0..0, 0..1, 1..2, 0..2, 1..shape[0]] {
                let mut out = vec![-1.0; rows.len() * row];
                tensor.read_rows(rows.clone(), &mut out).unwrap();
                assert_eq!(out, expected[rows.start * row..rows.end * row], "{shape:?} {strides:?} {rows:?}");
            }
        }
    }

    #[test]
    fn reads_runs_longer_than_a_buffer() {
        let count = CHUNK_BYTES / 2 + 3;
        let values: Vec<f32> = (0..count).map(|i| i as f32).collect();
        let whole = tensor(&[count], &[1], 0, &values).unwrap();
        assert_eq!(whole.read().unwrap(), values);
        let every_third = tensor(&[count / 3], &[3], 0, &values).unwrap();
        let expected: Vec<f32> = values.iter().step_by(3).take(count / 3).copied().collect();
        assert_eq!(every_third.read().unwrap(), expected);
        let (rows, columns) = (2000, 60);
        let transposed = tensor(&[columns, rows], &[1, columns], 0, &values).unwrap();
        let mut row = vec![0.0; rows];
        transposed.read_rows(7..8, &mut row).unwrap();
        assert_eq!(row, (0..rows).map(|r| (r * columns + 7) as f32).collect::<Vec<_>>());
        let sparse = tensor(&[3], &[SPARSE_BYTES], 1, &values).unwrap();
        assert_eq!(sparse.read().unwrap(), [1.0, 1.0 + SPARSE_BYTES as f32, 1.0 + 2.0 * SPARSE_BYTES as f32]);
    }

    struct CountingSource {
        bytes: Vec<u8>,
        read: std::sync::atomic::AtomicUsize,
    }

    impl ByteSource for CountingSource {
        fn len(&self) -> std::io::Result<u64> {
            ByteSource::len(&self.bytes)
        }

        fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
            self.read.fetch_add(buffer.len(), std::sync::atomic::Ordering::Relaxed);
            self.bytes.read_exact_at(offset, buffer)
        }
    }

    /// A transposed matrix is read once, not once for each of its rows.
    #[test]
    fn transposed_tensors_read_their_storage_once() {
        let bytes = vec![1; 1 << 20];
        let source = Arc::new(CountingSource { bytes, read: 0.into() });
        let storage = TensorStorage { source: source.clone(), start: 0, bytes: 1 << 20 };
        let layout =
            Layout { dtype: DType::U8, shape: vec![1 << 9, 1 << 11], strides: vec![1, 1 << 9], offset: 0 };
        let tensor = Tensor::new("t", &"test".into(), layout, storage).unwrap();
        assert_eq!(tensor.read().unwrap(), vec![1.0; 1 << 20]);
        assert_eq!(source.read.load(std::sync::atomic::Ordering::Relaxed), 1 << 20);
    }

    #[test]
    fn scalars_and_vectors_have_rows_of_one() {
        let scalar = tensor(&[], &[], 2, &ramp(3)).unwrap();
        assert_eq!((scalar.row_count(), scalar.row_elements(), scalar.element_count()), (1, 1, 1));
        assert_eq!(scalar.read().unwrap(), [2.0]);
        let vector = tensor(&[3], &[1], 0, &ramp(3)).unwrap();
        let mut out = vec![0.0; 2];
        vector.read_rows(1..3, &mut out).unwrap();
        assert_eq!(out, [1.0, 2.0]);
        let empty = tensor(&[4, 0, usize::MAX], &[1, 1, 1], 9, &[]).unwrap();
        assert!(empty.read().unwrap().is_empty());
    }

    #[test]
    fn refuses_layouts_beyond_the_storage() {
        let values = ramp(12);
        for (shape, strides, offset) in [
            (&[12][..], &[1][..], 1),
            (&[13], &[1], 0),
            (&[2, 2], &[11, 1], 0),
            (&[1 << 40], &[0], 0),
            (&[usize::MAX, 2], &[1, 1], 0),
            (&[2], &[usize::MAX], 2),
            (&[1], &[1], usize::MAX),
            (&[2], &[1, 1], 0),
            (&[1; 9], &[1; 9], 0),
        ] {
            let error = tensor(shape, strides, offset, &values).unwrap_err();
            assert_eq!(error.tensor(), Some("t"), "{shape:?}");
        }
    }

    #[test]
    fn wrong_arguments_are_errors() {
        let tensor = tensor(&[2, 3], &[3, 1], 0, &ramp(6)).unwrap();
        #[expect(clippy::reversed_empty_ranges, reason = "the caller's mistake under test")]
        for rows in [0..3, 2..3, 2..1] {
            let error = tensor.read_rows(rows, &mut [0.0; 3]).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Rows { rows: 2, .. }));
        }
        let error = tensor.read_rows(0..1, &mut [0.0; 4]).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::OutputLength { expected: 3, found: 4 }));
        assert_eq!(error.to_string(), "test, tensor \"t\": the output has 4 elements and needs 3");
    }
}
