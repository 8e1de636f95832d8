//! Builders of checkpoints, right or wrong on purpose. They write what they are told.

/// A zip archive of stored entries, with no ZIP64 records.
pub(crate) fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in entries {
        let (offset, size) = (bytes.len() as u32, content.len() as u32);
        let mut common = vec![0; 12]; // flags, method, time, date, CRC
        common.extend([size.to_le_bytes(), size.to_le_bytes()].concat());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        bytes.extend([&b"PK\x03\x04\x14\0"[..], &common, name.as_bytes(), content].concat());
        directory.extend([&b"PK\x01\x02\x14\0\x14\0"[..], &common, &[0; 10]].concat());
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (start, size, count) = (bytes.len() as u32, directory.len() as u32, entries.len() as u16);
    bytes.extend(directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend([count.to_le_bytes(), count.to_le_bytes()].concat());
    bytes.extend([size.to_le_bytes(), start.to_le_bytes()].concat());
    bytes.extend([0, 0]);
    bytes
}

/// A zip archive with one deflated entry among stored ones; `size` is what the directory announces.
pub(crate) fn zip_deflated(entries: &[(&str, &[u8])], which: usize, size: u32) -> Vec<u8> {
    let compressed = miniz_oxide::deflate::compress_to_vec(entries[which].1, 9);
    let mut entries = entries.to_vec();
    entries[which].1 = &compressed;
    let mut bytes = zip(&entries);
    let at = directory_entry(&bytes, which);
    patch(&mut bytes, at + 10, &8_u16.to_le_bytes());
    patch(&mut bytes, at + 24, &size.to_le_bytes());
    bytes
}

/// The offset of a directory entry.
pub(crate) fn directory_entry(bytes: &[u8], which: usize) -> usize {
    let starts = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"PK\x01\x02"));
    starts.collect::<Vec<_>>()[which]
}

/// The offset of the end record.
pub(crate) fn end_record(bytes: &[u8]) -> usize {
    bytes.windows(4).rposition(|window| window == b"PK\x05\x06").unwrap()
}

pub(crate) fn patch(bytes: &mut [u8], at: usize, with: &[u8]) {
    bytes[at..at + with.len()].copy_from_slice(with);
}

/// A tensor as `torch.save` describes it.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    pub(crate) name: &'static str,
    pub(crate) rebuild: &'static str,
    pub(crate) class: &'static str,
    pub(crate) key: &'static str,
    pub(crate) elements: i64,
    pub(crate) offset: i64,
    pub(crate) sizes: Vec<i64>,
    pub(crate) strides: Vec<i64>,
}

impl Default for Described {
    fn default() -> Self {
        Described {
            name: "w",
            rebuild: "_rebuild_tensor_v2",
            class: "FloatStorage",
            key: "0",
            elements: 4,
            offset: 0,
            sizes: vec![2, 2],
            strides: vec![2, 1],
        }
    }
}

impl Described {
    /// The call that rebuilds it; `view` is the sixth part of the persistent id in a legacy file.
    pub(crate) fn call(&self, view: &[u8]) -> Vec<u8> {
        let tuple = |items: &[i64]| {
            [b"(".to_vec(), items.iter().flat_map(|i| int(*i)).collect(), b"t".to_vec()].concat()
        };
        let id = [
            b"(",
            &*text("storage"),
            &global("torch", self.class),
            &text(self.key),
            &text("cpu"),
            &int(self.elements),
        ];
        [
            &global("torch._utils", self.rebuild)[..],
            b"(",
            &id.concat(),
            view,
            b"tQ",
            &int(self.offset),
            &tuple(&self.sizes),
            &tuple(&self.strides),
            &[0x89],
            &global("collections", "OrderedDict"),
            b")RtR",
        ]
        .concat()
    }
}

/// The pickle of a plain state dict.
pub(crate) fn state_dict(tensors: &[Described]) -> Vec<u8> {
    let items: Vec<u8> = tensors.iter().flat_map(|t| [text(t.name), t.call(&[])].concat()).collect();
    [&b"\x80\x02}("[..], &items, b"u."].concat()
}

/// A checkpoint of one storage `0` of four floats.
pub(crate) fn checkpoint(pickle: &[u8]) -> Vec<u8> {
    let storage: Vec<u8> = [1.0_f32, 2.0, 3.0, 4.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    zip(&[("archive/data.pkl", pickle), ("archive/data/0", &storage), ("archive/byteorder", b"little")])
}

/// A legacy file; `storages` is everything behind the pickles.
pub(crate) fn legacy(object: &[u8], keys: &[&str], storages: &[u8]) -> Vec<u8> {
    let keys: Vec<u8> = keys.iter().flat_map(|key| text(key)).collect();
    [
        &b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."[..],
        b"\x80\x02}(",
        &text("little_endian"),
        b"\x88u.",
        object,
        b"\x80\x02](",
        &keys,
        b"e.",
        storages,
    ]
    .concat()
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

pub(crate) fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

/// As LONG1 of eight bytes.
pub(crate) fn int(value: i64) -> Vec<u8> {
    [&[0x8a, 8][..], &value.to_le_bytes()].concat()
}

/// A safetensors file with this header.
pub(crate) fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}
