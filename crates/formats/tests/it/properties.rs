//! Round trips: what is written as safetensors or as strided storage is what is read.

use std::sync::Arc;

use formats::{DType, TensorTable, read_tokenizer_json};
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Written {
    dtype: DType,
    shape: Vec<usize>,
    values: Vec<i8>,
}

impl Written {
    fn bytes(&self) -> Vec<u8> {
        let one = |value: i8| match self.dtype {
            DType::F64 => f64::from(value).to_le_bytes().to_vec(),
            DType::F32 => f32::from(value).to_le_bytes().to_vec(),
            DType::BF16 => f32::from(value).to_le_bytes()[2..].to_vec(),
            DType::I64 => i64::from(value).to_le_bytes().to_vec(),
            DType::I32 => i32::from(value).to_le_bytes().to_vec(),
            DType::I16 => i16::from(value).to_le_bytes().to_vec(),
            _ => value.to_le_bytes().to_vec(),
        };
        self.values.iter().flat_map(|value| one(*value)).collect()
    }
}

fn written() -> impl Strategy<Value = Written> {
    let dtypes = [DType::F64, DType::F32, DType::BF16, DType::I64, DType::I32, DType::I16, DType::I8];
    (proptest::sample::select(dtypes.to_vec()), vec(0_usize..5, 0..5)).prop_flat_map(|(dtype, shape)| {
        let count = shape.iter().product::<usize>();
        vec(any::<i8>(), count).prop_map(move |values| Written { dtype, shape: shape.clone(), values })
    })
}

fn file(tensors: &[(String, Written)]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, tensor) in tensors {
        let bytes = tensor.bytes();
        let offsets = [data.len(), data.len() + bytes.len()];
        let dtype = format!("{:?}", tensor.dtype).to_uppercase();
        let entry = serde_json::json!({"dtype": dtype, "shape": tensor.shape, "data_offsets": offsets});
        header.insert(name.clone(), entry);
        data.extend(bytes);
    }
    let header = serde_json::to_vec(&header).unwrap();
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}

proptest! {
    #[test]
    fn safetensors_come_back(tensors in proptest::collection::btree_map("[a-z]{1,4}(\\.[0-9])?", written(), 1..6)) {
        let tensors: Vec<_> = tensors.into_iter().collect();
        let table = TensorTable::read("t.safetensors", Arc::new(file(&tensors))).unwrap();
        prop_assert_eq!(table.len(), tensors.len());
        for (name, expected) in &tensors {
            let found = table.get(name).unwrap();
            prop_assert_eq!((found.dtype(), found.shape()), (expected.dtype, &expected.shape[..]));
            let values: Vec<f32> = expected.values.iter().map(|value| f32::from(*value)).collect();
            prop_assert_eq!(found.read().unwrap(), &values[..]);
            let row = found.row_elements();
            for index in 0..found.row_count() {
                let mut out = vec![f32::NAN; row];
                found.read_rows(index..index + 1, &mut out).unwrap();
                prop_assert_eq!(&out[..], &values[index * row..][..row]);
            }
        }
    }

    #[test]
    fn any_hexadecimal_ranks_come_back(tokens in proptest::collection::btree_set(vec(any::<u8>(), 1..9), 1..40)) {
        let hex = |token: &[u8]| token.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        let tokens: Vec<_> = tokens.into_iter().zip(0_u32..).collect();
        let ranks: serde_json::Map<_, _> = tokens.iter().map(|(token, rank)| (hex(token), (*rank).into())).collect();
        let file = serde_json::json!({"pattern": "x", "mergeable_ranks": ranks, "special_tokens": {}});
        let mut read = read_tokenizer_json("t.json", file.to_string().as_bytes()).unwrap().ranks;
        read.sort();
        prop_assert_eq!(read, tokens);
    }
}
