//! Files made to hurt: each must be refused, for the reason it was made for.

use std::sync::Arc;

use formats::{
    Error, ErrorKind, JsonFault, LIMITS, PickleFault, SafetensorsFault, TensorTable, TokenizerFault,
    TorchFault, ZipFault, read_meta, read_shard_index, read_tokenizer_json, read_tokenizer_pickle,
};

use crate::allocation::bounded;
use crate::build::*;

fn read(bytes: &[u8]) -> Result<TensorTable, Error> {
    bounded(bytes, || TensorTable::read("model.pt", Arc::new(bytes.to_vec())))
}

fn refuse(bytes: &[u8]) -> ErrorKind {
    let error = read(bytes).expect_err("the file is refused");
    assert!(error.to_string().starts_with("model.pt"), "{error}");
    assert!(error.to_string().len() < 2000, "{error}");
    into_kind(&error)
}

/// A copy of the kind, for the kinds that these tests ask about.
fn into_kind(error: &Error) -> ErrorKind {
    match error.kind() {
        ErrorKind::Zip(fault) => ErrorKind::Zip(*fault),
        ErrorKind::Pickle(fault) => ErrorKind::Pickle(fault.clone()),
        ErrorKind::Torch(fault) => ErrorKind::Torch(fault.clone()),
        ErrorKind::Safetensors(fault) => ErrorKind::Safetensors(*fault),
        ErrorKind::Tokenizer(fault) => ErrorKind::Tokenizer(fault.clone()),
        ErrorKind::TooLarge { what, found, limit } => {
            ErrorKind::TooLarge { what, found: *found, limit: *limit }
        }
        ErrorKind::Truncated { needed, available } => {
            ErrorKind::Truncated { needed: *needed, available: *available }
        }
        ErrorKind::DuplicateTensor => ErrorKind::DuplicateTensor,
        ErrorKind::UnsupportedDType(name) => ErrorKind::UnsupportedDType(name.clone()),
        other => panic!("{other:?}"),
    }
}

macro_rules! assert_refused {
    ($kind:expr, $pattern:pat) => {{
        let kind = $kind;
        assert!(matches!(kind, $pattern), "{kind:?}");
    }};
}

/// Each test below spoils this file, so it must be right.
#[test]
fn the_file_that_is_spoilt_is_right() {
    let table = read(&checkpoint(&state_dict(&[Described::default()]))).unwrap();
    assert_eq!(table.get("w").unwrap().read().unwrap(), [1.0, 2.0, 3.0, 4.0]);
    let storage = [&4_u64.to_le_bytes()[..], &[0; 16]].concat();
    let pickle = state_dict_legacy(&Described::default(), b"N");
    assert_eq!(read(&legacy(&pickle, &["0"], &storage)).unwrap().len(), 1);
}

fn state_dict_legacy(tensor: &Described, view: &[u8]) -> Vec<u8> {
    [&b"\x80\x02}("[..], &text(tensor.name), &tensor.call(view), b"u."].concat()
}

#[test]
fn every_prefix_is_an_error() {
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")).unwrap() {
        let path = entry.unwrap().path();
        let extension = path.extension().unwrap().to_str().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            let prefix = &bytes[..length];
            let refused = match extension {
                "pt" | "safetensors" => read(prefix).is_err(),
                "pkl" => read_tokenizer_pickle("t.pkl", prefix).is_err(),
                _ => {
                    read_shard_index("i.json", prefix).is_err()
                        && read_tokenizer_json("t.json", prefix).is_err()
                }
            };
            assert!(refused, "{} cut to {length}", path.display());
        }
    }
}

#[test]
fn zip_directories_that_lie() {
    let good = checkpoint(&state_dict(&[Described::default()]));
    let spoilt = |at: &dyn Fn(&[u8]) -> usize, with: &[u8]| {
        let mut bytes = good.clone();
        patch(&mut bytes, at(&good), with);
        refuse(&bytes)
    };
    let entry = |field: usize| move |bytes: &[u8]| directory_entry(bytes, 1) + field;
    let end = |field: usize| move |bytes: &[u8]| end_record(bytes) + field;
    for (kind, fault) in [
        (spoilt(&entry(0), b"PK\x01\x03"), ZipFault::DirectoryEntry),
        (spoilt(&entry(8), &[1, 0]), ZipFault::Encrypted),
        (spoilt(&entry(8), &[64, 0]), ZipFault::Encrypted),
        (spoilt(&entry(10), &[12, 0]), ZipFault::Method(12)),
        (spoilt(&entry(20), &[15, 0, 0, 0]), ZipFault::StoredSize),
        (spoilt(&entry(20), &[255; 4]), ZipFault::Zip64),
        (spoilt(&entry(20), &[0, 0, 1, 0, 0, 0, 1, 0]), ZipFault::EntryOutOfRange),
        (spoilt(&entry(34), &[1, 0]), ZipFault::MultiDisk),
        (spoilt(&entry(42), &[0, 0, 0, 127]), ZipFault::EntryOutOfRange),
        (spoilt(&entry(42), &[0; 4]), ZipFault::LocalHeader),
        (spoilt(&entry(42), &[3, 0, 0, 0]), ZipFault::LocalHeader),
        (spoilt(&end(4), &[1, 0]), ZipFault::MultiDisk),
        (spoilt(&end(8), &[9, 0, 9, 0]), ZipFault::EntryCount),
        (spoilt(&end(12), &[0, 0, 1, 0]), ZipFault::DirectoryOutOfRange),
        (spoilt(&end(16), &[255; 4]), ZipFault::DirectoryOutOfRange),
        (spoilt(&end(20), &[1, 0]), ZipFault::NoDirectory),
    ] {
        assert!(matches!(kind, ErrorKind::Zip(found) if found == fault), "{kind:?} and not {fault:?}");
    }
}

#[test]
fn zip_entries_that_overlap_or_repeat() {
    let pickle = state_dict(&[Described::default()]);
    let inner = zip(&[("archive/data/1", &[0; 16])]);
    let mut bytes =
        zip(&[("archive/data.pkl", &pickle), ("archive/data/0", &inner), ("archive/data/1", &[0; 16])]);
    assert!(read(&bytes).is_ok());
    // The third entry now lies inside the second, behind a header of its own that is quite valid.
    let inside = bytes.windows(4).enumerate().filter(|(_, w)| *w == b"PK\x03\x04").nth(2).unwrap().0;
    let at = directory_entry(&bytes, 3);
    patch(&mut bytes, at + 42, &(inside as u32).to_le_bytes());
    assert_refused!(refuse(&bytes), ErrorKind::Zip(ZipFault::Overlap));
    let twice = zip(&[("archive/data.pkl", &pickle), ("archive/data.pkl", &pickle)]);
    assert_refused!(refuse(&twice), ErrorKind::Zip(ZipFault::DuplicateEntry));
    let two = zip(&[("a/data.pkl", &pickle), ("b/data.pkl", &pickle)]);
    assert_refused!(refuse(&two), ErrorKind::Torch(TorchFault::SeveralDataPickles));
    assert_refused!(refuse(&zip(&[("a/mydata.pkl", &pickle)])), ErrorKind::Torch(TorchFault::NoDataPickle));
}

#[test]
fn zip64_records_that_lie() {
    let good = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/dtypes.pt")).unwrap();
    let find = |signature: &[u8]| good.windows(4).rposition(|window| window == signature).unwrap();
    let (record, locator) = (find(b"PK\x06\x06"), find(b"PK\x06\x07"));
    for (at, with) in [
        (locator + 8, &u64::MAX.to_le_bytes()[..]),
        (locator + 8, &3_u64.to_le_bytes()),
        (locator + 16, &2_u32.to_le_bytes()),
        (record + 24, &u64::MAX.to_le_bytes()),
        (record + 32, &u64::MAX.to_le_bytes()),
        (record + 40, &u64::MAX.to_le_bytes()),
        (record + 48, &u64::MAX.to_le_bytes()),
        (record + 48, &(u64::MAX - 100).to_le_bytes()),
    ] {
        let mut bytes = good.clone();
        patch(&mut bytes, at, with);
        assert_refused!(
            refuse(&bytes),
            ErrorKind::Zip(_) | ErrorKind::TooLarge { what: "zip_directory_bytes", .. }
        );
    }
}

#[test]
fn deflate_bombs() {
    let pickle = state_dict(&[Described::default()]);
    let archive = |zeros: usize, announced: u32| {
        zip_deflated(&[("a/data.pkl", &pickle), ("a/data/0", &vec![0; zeros])], 1, announced)
    };
    assert!(read(&archive(16, 16)).is_ok());
    let bomb = archive(10 << 20, 10 << 20);
    assert!(bomb.len() < 20_000);
    assert_refused!(refuse(&bomb), ErrorKind::TooLarge { what: "inflate_ratio", limit: 8, .. });
    for announced in [15, 17, 0] {
        assert_refused!(refuse(&archive(16, announced)), ErrorKind::Zip(ZipFault::Inflate));
    }
}

#[test]
fn big_endian_is_refused() {
    let pickle = state_dict(&[Described::default()]);
    let bytes = zip(&[("a/data.pkl", &pickle), ("a/data/0", &[0; 16]), ("a/byteorder", b"big")]);
    assert_refused!(refuse(&bytes), ErrorKind::Torch(TorchFault::BigEndian));
}

#[test]
fn pickles_that_want_to_run_something() {
    let global = |body: &[u8]| match refuse(&checkpoint(&[b"\x80\x02", body].concat())) {
        ErrorKind::Pickle(PickleFault::Global(name)) => name,
        other => panic!("{other:?}"),
    };
    assert_eq!(&*global(b"cos\nsystem\n(X\x02\0\0\0lstR."), "os.system");
    assert_eq!(&*global(b"cbuiltins\neval\n"), "builtins.eval");
    assert_eq!(&*global(b"ctorch._utils\n_rebuild_from_type_v2\n"), "torch._utils._rebuild_from_type_v2");
    assert_eq!(&*global(b"\x8c\x05posix\x8c\x06system\x93"), "posix.system");
    assert_eq!(&*global(b"c_codecs\nencode\n"), "_codecs.encode");
    assert!(global(&[b"c", &[0xff; 4000][..], b"\nx\n"].concat()).len() < 400);
    for opcode in [b'i', b'o', b'0', b'1', b'2', b'P', b'p', b'g', b'I', b'V', 0x82, 0x92, 0x96, 0x97, 0x8f] {
        let kind = refuse(&checkpoint(&[0x80, 2, b'N', opcode, b'.']));
        assert!(matches!(kind, ErrorKind::Pickle(PickleFault::Opcode(found)) if found == opcode), "{kind:?}");
    }
}

#[test]
fn pickles_that_are_broken() {
    let pickle = |body: &[u8]| refuse(&checkpoint(&[b"\x80\x02", body].concat()));
    assert_refused!(pickle(b"."), ErrorKind::Pickle(PickleFault::StackEmpty));
    assert_refused!(pickle(b"NN\x87"), ErrorKind::Pickle(PickleFault::StackEmpty));
    assert_refused!(pickle(b"N(\x85"), ErrorKind::Pickle(PickleFault::StackEmpty));
    assert_refused!(pickle(b"Nt"), ErrorKind::Pickle(PickleFault::NoMark));
    assert_refused!(pickle(b"h\x00"), ErrorKind::Pickle(PickleFault::Memo(0)));
    assert_refused!(pickle(b"Nr\xff\xff\xff\xff"), ErrorKind::Pickle(PickleFault::Memo(u32::MAX)));
    assert_refused!(pickle(b"Nq\xff"), ErrorKind::Pickle(PickleFault::Memo(255)));
    assert_refused!(pickle(b"NNR"), ErrorKind::Pickle(PickleFault::Operand));
    assert_refused!(pickle(b"NNNs"), ErrorKind::Pickle(PickleFault::Operand));
    assert_refused!(pickle(b"}(Nu"), ErrorKind::Pickle(PickleFault::Operand));
    assert_refused!(pickle(b"]NNs"), ErrorKind::Pickle(PickleFault::Operand));
    assert_refused!(pickle(b"NNb"), ErrorKind::Pickle(PickleFault::Operand));
    assert_refused!(pickle(b"X\xff\xff\xff\xff"), ErrorKind::TooLarge { what: "pickle_text_bytes", .. });
    assert_refused!(pickle(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff"), ErrorKind::TooLarge { .. });
    assert_refused!(pickle(b"X\xff\0\0\0abc"), ErrorKind::Truncated { needed: 255, available: 3 });
    assert_refused!(refuse(&checkpoint(b"\x80\x06N.")), ErrorKind::Pickle(PickleFault::Protocol));
    assert_refused!(refuse(&checkpoint(b"(dp0\n.")), ErrorKind::Pickle(PickleFault::Protocol));
}

#[test]
fn pickle_bombs_meet_a_limit() {
    let repeated =
        |unit: &[u8], count: usize| checkpoint(&[&b"\x80\x02N"[..], &unit.repeat(count), b"."].concat());
    for (bytes, limit) in [
        (repeated(b"N", LIMITS.pickle_stack + 1), "pickle_stack"),
        (repeated(b"(", LIMITS.pickle_marks + 1), "pickle_marks"),
        (repeated(b"\x85", LIMITS.pickle_nodes + 1), "pickle_nodes"),
        (repeated(b"\x94", LIMITS.pickle_memo + 1), "pickle_memo"),
    ] {
        let kind = refuse(&bytes);
        assert!(
            matches!(kind, ErrorKind::TooLarge { what, .. } if what == limit),
            "{kind:?} and not {limit}"
        );
    }
    // Deep nesting, and a list that holds itself twice over, are only large: nobody walks them.
    let kind = refuse(&repeated(b"\x85", 100_000));
    assert_refused!(kind, ErrorKind::Torch(TorchFault::NotAStateDict));
    let doubled = [&b"\x80\x02]\x94"[..], &b"(h\x00h\x00e".repeat(20_000), b"."].concat();
    assert_refused!(refuse(&checkpoint(&doubled)), ErrorKind::Torch(TorchFault::NotAStateDict));
}

#[test]
fn tensors_beyond_their_storage() {
    let fail = |tensor: Described| refuse(&checkpoint(&state_dict(&[tensor])));
    let good = Described::default;
    for tensor in [
        Described { offset: 1, ..good() },
        Described { offset: -1, ..good() },
        Described { offset: i64::MAX, ..good() },
        Described { sizes: vec![3, 2], ..good() },
        Described { sizes: vec![-2, -2], ..good() },
        Described { strides: vec![-2, 1], ..good() },
        Described { strides: vec![i64::MAX, 1], ..good() },
        Described { sizes: vec![1 << 40, 2], strides: vec![0, 1], ..good() },
        Described { sizes: vec![i64::MAX; 2], strides: vec![i64::MAX; 2], ..good() },
        Described { elements: 3, ..good() },
        Described { elements: -4, ..good() },
    ] {
        let kind = fail(tensor.clone());
        assert!(matches!(kind, ErrorKind::Torch(TorchFault::OutOfRange)), "{kind:?} {tensor:?}");
    }
    for tensor in [
        Described { elements: 5, ..good() },
        Described { elements: i64::MAX, ..good() },
        Described { class: "DoubleStorage", ..good() },
    ] {
        let kind = fail(tensor.clone());
        assert!(
            matches!(kind, ErrorKind::Torch(TorchFault::StorageSize { found: 16, .. })),
            "{kind:?} {tensor:?}"
        );
    }
    assert_refused!(fail(Described { key: "1", ..good() }), ErrorKind::Torch(TorchFault::StorageMissing(_)));
    assert_refused!(
        fail(Described { key: "../data.pkl", ..good() }),
        ErrorKind::Torch(TorchFault::StorageMissing(_))
    );
    assert_refused!(fail(Described { class: "Size", ..good() }), ErrorKind::Torch(TorchFault::Description));
    assert_refused!(
        fail(Described { class: "ComplexFloatStorage", ..good() }),
        ErrorKind::Pickle(PickleFault::Global(_))
    );
    assert_refused!(
        fail(Described { strides: vec![1], ..good() }),
        ErrorKind::Torch(TorchFault::Description)
    );
    let nine = Described { sizes: vec![1; 9], strides: vec![1; 9], ..good() };
    assert_refused!(fail(nine), ErrorKind::TooLarge { what: "dimensions", found: 9, .. });
    assert_refused!(
        fail(Described { rebuild: "_rebuild_parameter", ..good() }),
        ErrorKind::Torch(TorchFault::Description)
    );
}

#[test]
fn errors_name_the_tensor() {
    let bytes =
        checkpoint(&state_dict(&[Described { name: "lm_head.weight", offset: 1, ..Described::default() }]));
    let message = read(&bytes).unwrap_err().to_string();
    assert_eq!(
        message,
        "model.pt, tensor \"lm_head.weight\": the checkpoint is not acceptable: a tensor reaches beyond its storage"
    );
}

#[test]
fn names_that_collide_or_are_too_long() {
    let named = |name| Described { name, ..Described::default() };
    for names in [["w", "w"], ["w", "model.w"], ["_orig_mod.w", "module.w"]] {
        let kind = refuse(&checkpoint(&state_dict(&names.map(named))));
        assert_refused!(kind, ErrorKind::DuplicateTensor);
    }
    let long: &'static str = "x".repeat(LIMITS.name_bytes + 1).leak();
    assert_refused!(
        refuse(&checkpoint(&state_dict(&[named(long)]))),
        ErrorKind::TooLarge { what: "name_bytes", .. }
    );
}

#[test]
fn legacy_files_that_lie() {
    let tensor = Described::default();
    let file = |tensor: &Described, view: &[u8], keys: &[&str], count: u64, bytes: usize| {
        let storages = [&count.to_le_bytes()[..], &vec![0; bytes]].concat();
        refuse(&legacy(&state_dict_legacy(tensor, view), keys, &storages))
    };
    assert_refused!(file(&tensor, b"N", &["0"], 4, 15), ErrorKind::Truncated { needed: 16, available: 15 });
    assert_refused!(file(&tensor, b"N", &["0"], u64::MAX, 16), ErrorKind::Truncated { needed: u64::MAX, .. });
    assert_refused!(file(&tensor, b"N", &["0"], 1 << 62, 16), ErrorKind::Truncated { .. });
    assert_refused!(
        file(&tensor, b"N", &["0"], 3, 16),
        ErrorKind::Torch(TorchFault::StorageSize { announced: 16, found: 12 })
    );
    assert_refused!(
        file(&tensor, b"N", &["0"], 5, 20),
        ErrorKind::Torch(TorchFault::StorageSize { announced: 16, found: 20 })
    );
    assert_refused!(file(&tensor, b"N", &["7"], 4, 16), ErrorKind::Torch(TorchFault::StorageMissing(_)));
    assert_refused!(file(&tensor, b"N", &[], 4, 16), ErrorKind::Torch(TorchFault::StorageMissing(_)));
    assert_refused!(file(&tensor, b"N", &["0", "0"], 4, 64), ErrorKind::Torch(TorchFault::NotTorch));
    assert_refused!(file(&tensor, b")", &["0"], 4, 16), ErrorKind::Torch(TorchFault::StorageView));
    assert_refused!(refuse(b"\x80\x02}."), ErrorKind::Torch(TorchFault::NotTorch));
    let mut big = legacy(&state_dict_legacy(&tensor, b"N"), &["0"], &[]);
    let flag = big.iter().position(|byte| *byte == 0x88).unwrap();
    big[flag] = 0x89;
    assert_refused!(refuse(&big), ErrorKind::Torch(TorchFault::BigEndian));
}

#[test]
fn safetensors_that_lie() {
    let file = |header: &str, bytes: usize| refuse(&safetensors(header, &vec![0; bytes]));
    let entry = |name: &str, shape: &str, offsets: &str| {
        format!(r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}"#)
    };
    let one = |shape: &str, offsets: &str| format!("{{{}}}", entry("w", shape, offsets));
    assert!(read(&safetensors(&one("[2]", "[0,8]"), &[0; 8])).is_ok());
    assert_refused!(file(&one("[2]", "[0,8]"), 7), ErrorKind::Truncated { needed: 8, available: 7 });
    assert_refused!(file(&one("[2]", "[0,8]"), 9), ErrorKind::Safetensors(SafetensorsFault::Hole));
    assert_refused!(file(&one("[2]", "[4,12]"), 12), ErrorKind::Safetensors(SafetensorsFault::Hole));
    assert_refused!(file(&one("[2]", "[8,0]"), 8), ErrorKind::Safetensors(SafetensorsFault::OutOfRange));
    assert_refused!(file(&one("[3]", "[0,8]"), 8), ErrorKind::Safetensors(SafetensorsFault::Size));
    assert_refused!(
        file(&one("[4611686018427387906]", "[0,8]"), 8),
        ErrorKind::Safetensors(SafetensorsFault::Size)
    );
    assert_refused!(
        file(&one("[4294967296,4294967296,2]", "[0,8]"), 8),
        ErrorKind::Safetensors(SafetensorsFault::Size)
    );
    assert_refused!(
        file(&one("[1,1,1,1,1,1,1,1,2]", "[0,8]"), 8),
        ErrorKind::TooLarge { what: "dimensions", .. }
    );
    let overlapping = format!("{{{},{}}}", entry("a", "[2]", "[0,8]"), entry("b", "[1]", "[4,8]"));
    assert_refused!(file(&overlapping, 8), ErrorKind::Safetensors(SafetensorsFault::Overlap));
    let twice = format!("{{{},{}}}", entry("a", "[2]", "[0,8]"), entry("a", "[1]", "[8,12]"));
    assert_refused!(file(&twice, 12), ErrorKind::DuplicateTensor);
    let other = one("[2]", "[0,8]").replace("F32", "F8_E4M3");
    assert_refused!(file(&other, 8), ErrorKind::UnsupportedDType(_));
    assert_refused!(file("{}", 0), ErrorKind::Safetensors(SafetensorsFault::NoTensors));
    for length in [1_u64 << 63, u64::MAX, LIMITS.safetensors_header_bytes + 1] {
        let bytes = [&length.to_le_bytes()[..], b"{}"].concat();
        assert_refused!(refuse(&bytes), ErrorKind::TooLarge { what: "safetensors_header_bytes", .. });
    }
    let bytes = [&3_u64.to_le_bytes()[..], b"{}"].concat();
    assert_refused!(refuse(&bytes), ErrorKind::Truncated { needed: 3, available: 2 });
    let deep = "[".repeat(100_000);
    let error = read(&safetensors(&format!(r#"{{"__metadata__":{deep}"#), &[])).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Json { .. }), "{error}");
}

#[test]
fn shard_names_stay_in_the_directory() {
    let index =
        |name: &str| read_shard_index("i.json", format!(r#"{{"weight_map":{{"w":"{name}"}}}}"#).as_bytes());
    assert_eq!(index("model-00001-of-00002.safetensors").unwrap().len(), 1);
    let long = "x".repeat(256);
    let names = [
        "",
        ".",
        "..",
        "../a",
        "a/b",
        "/etc/passwd",
        "a\\\\b",
        "C:a",
        "a\\u0000",
        ".hidden",
        "-rf",
        "é",
        "a b",
        &long,
    ];
    for name in names {
        let error = index(name).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::ShardName(_)), "{name}: {error}");
    }
}

#[test]
fn tokenizer_pickles_that_lie() {
    let fault =
        |body: &[u8]| read_tokenizer_pickle("t.pkl", &[&b"\x80\x04"[..], body, b"."].concat()).unwrap_err();
    let check = |body: &[u8], expected: TokenizerFault| {
        let error = fault(body);
        assert!(matches!(error.kind(), ErrorKind::Tokenizer(found) if *found == expected), "{error}");
    };
    check(b"N", TokenizerFault::NotATokenizer);
    check(b"}", TokenizerFault::NotATokenizer);
    check(b"}(C\x01aK\x00C\x01aK\x01u", TokenizerFault::DuplicateToken);
    check(b"}(C\x01aJ\xff\xff\xff\xffu", TokenizerFault::Id);
    check(b"}(C\x01a\x8a\x05\0\0\0\0\x01u", TokenizerFault::Id);
    check(b"}(C\x00K\x00u", TokenizerFault::Token);
    check(b"}(\x8c\x01aK\x00u", TokenizerFault::Token);
    check(b"ctiktoken.core\nEncoding\n)\x81}b", TokenizerFault::Missing("pat_str"));
    check(b"ctiktoken.core\nEncoding\n)\x81Nb", TokenizerFault::NotATokenizer);
    let import = fault(b"cos\nsystem\n");
    assert!(matches!(import.kind(), ErrorKind::Pickle(PickleFault::Global(name)) if &**name == "os.system"));
    let torch = fault(b"ctorch._utils\n_rebuild_tensor_v2\n");
    assert!(matches!(torch.kind(), ErrorKind::Pickle(PickleFault::Global(_))));
}

#[test]
fn metas_that_lie() {
    let field = |text: &str| match read_meta("meta.json", text.as_bytes()).unwrap_err().kind() {
        ErrorKind::Field { field, .. } => *field,
        other => panic!("{other:?}"),
    };
    assert_eq!(field(r#"{"n_layer":"12"}"#), "n_layer");
    assert_eq!(field(r#"{"n_layer":-1}"#), "n_layer");
    assert_eq!(field(r#"{"n_layer":1.5}"#), "n_layer");
    assert_eq!(field(r#"{"n_layer":18446744073709551616}"#), "n_layer");
    assert_eq!(field(r#"{"model_config":[]}"#), "model_config");
    assert_eq!(field(r#"{"window_pattern":3}"#), "window_pattern");
    let refuse = |text: String| read_meta("meta.json", text.as_bytes()).unwrap_err();
    assert!(matches!(
        refuse("[".repeat(100_000)).kind(),
        ErrorKind::TooLarge { what: "meta_containers", .. }
    ));
    assert!(matches!(refuse(r#"{"a":"#.repeat(2000)).kind(), ErrorKind::Json { .. }));
    assert!(matches!(refuse(" ".repeat(2 << 20)).kind(), ErrorKind::TooLarge { what: "meta_bytes", .. }));
    assert!(matches!(refuse("[]".to_owned()).kind(), ErrorKind::Json { fault: JsonFault::Data, .. }));
    assert!(matches!(refuse("<!doctype html>".to_owned()).kind(), ErrorKind::HtmlPage));
    assert!(matches!(refuse(String::new()).kind(), ErrorKind::Empty));
}
