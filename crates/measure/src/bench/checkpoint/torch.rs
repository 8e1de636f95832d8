//! Writes what `torch.save` writes for a state dict: a zip archive of stored entries, one of them a pickle.
//!
//! Every archive has 64-bit records, and every entry begins at a multiple of 64 bytes, as PyTorch's own do.
//! Source: PKWARE APPNOTE 6.3.10, 4.3 and 4.5.3; PyTorch, `torch/_utils.py` for the calls in the pickle.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Multiples at which entries begin.
const ALIGNMENT: usize = 64;
/// Stands in a 32-bit field whose value is in the 64-bit record.
const ELSEWHERE: u32 = u32::MAX;

/// How the numbers of a tensor are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Numeric {
    F32,
    Bf16,
}

impl Numeric {
    fn storage(self) -> &'static str {
        match self {
            Self::F32 => "FloatStorage",
            Self::Bf16 => "BFloat16Storage",
        }
    }
}

/// A tensor, but for its numbers.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) numeric: Numeric,
}

/// The pickle of a state dict; tensor i has the storage `data/i` to itself.
pub(crate) fn pickle(tensors: &[Described]) -> Vec<u8> {
    let mut bytes = b"\x80\x02".to_vec();
    bytes.extend(ordered_dict());
    bytes.push(b'(');
    for (index, tensor) in tensors.iter().enumerate() {
        bytes.extend(text(&tensor.name));
        bytes.extend(rebuilt(index, tensor));
    }
    bytes.extend(b"u.");
    bytes
}

/// The call that makes a tensor of its storage.
fn rebuilt(index: usize, tensor: &Described) -> Vec<u8> {
    let elements = tensor.shape.iter().product();
    let strides: Vec<usize> =
        (1..=tensor.shape.len()).map(|dimension| tensor.shape[dimension..].iter().product()).collect();
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        text("storage"),
        format!("ctorch\n{}\n", tensor.numeric.storage()).into_bytes(),
        text(&index.to_string()),
        text("cpu"),
        integer(elements),
        b"tQ".to_vec(),
        integer(0),
        tuple(&tensor.shape),
        tuple(&strides),
        // No gradient, and no hooks.
        b"\x89".to_vec(),
        ordered_dict(),
        b"tR".to_vec(),
    ]
    .concat()
}

fn ordered_dict() -> Vec<u8> {
    b"ccollections\nOrderedDict\n)R".to_vec()
}

fn text(text: &str) -> Vec<u8> {
    [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

fn integer(value: usize) -> Vec<u8> {
    [&b"J"[..], &(value as u32).to_le_bytes()].concat()
}

fn tuple(items: &[usize]) -> Vec<u8> {
    [b"(".to_vec(), items.iter().flat_map(|item| integer(*item)).collect(), b"t".to_vec()].concat()
}

/// A zip archive that is being written.
pub(crate) struct Archive {
    out: BufWriter<File>,
    folder: String,
    written: u64,
    entries: Vec<ArchiveEntry>,
}

struct ArchiveEntry {
    name: String,
    header: u64,
    size: u64,
    checksum: u32,
}

impl Archive {
    /// An archive whose entries lie in `folder`.
    pub(crate) fn create(path: &Path, folder: &str) -> io::Result<Self> {
        let out = BufWriter::new(File::create(path)?);
        Ok(Self { out, folder: folder.to_owned(), written: 0, entries: Vec::new() })
    }

    /// Appends an entry.
    pub(crate) fn add(&mut self, name: &str, contents: &[u8]) -> io::Result<()> {
        let name = format!("{}/{name}", self.folder);
        let (header, size, checksum) = (self.written, contents.len() as u64, checksum(contents));
        let size_32 = u32::try_from(size).map_err(io::Error::other)?;
        // The padding is a field of its own, of four bytes and as many as are missing.
        let start = header as usize + 30 + name.len() + 4;
        let padding = start.next_multiple_of(ALIGNMENT) - start;
        let mut local = b"PK\x03\x04".to_vec();
        shorts(&mut local, &[0, 0, 0, 0, 0]);
        words(&mut local, &[checksum, size_32, size_32]);
        shorts(&mut local, &[name.len() as u16, padding as u16 + 4]);
        local.extend(name.as_bytes());
        local.extend(b"FB");
        shorts(&mut local, &[padding as u16]);
        local.extend(vec![b'Z'; padding]);
        self.put(&local)?;
        self.put(contents)?;
        self.entries.push(ArchiveEntry { name, header, size, checksum });
        Ok(())
    }

    /// Writes the directory and closes the file.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        let (directory, count) = (self.written, self.entries.len() as u64);
        let entries: Vec<u8> = self.entries.iter().flat_map(ArchiveEntry::in_directory).collect();
        self.put(&entries)?;
        let (at, size) = (self.written, entries.len() as u64);
        let mut end = b"PK\x06\x06".to_vec();
        longs(&mut end, &[44]);
        shorts(&mut end, &[45, 45]);
        words(&mut end, &[0, 0]);
        longs(&mut end, &[count, count, size, directory]);
        end.extend(b"PK\x06\x07");
        words(&mut end, &[0]);
        longs(&mut end, &[at]);
        words(&mut end, &[1]);
        end.extend(b"PK\x05\x06");
        shorts(&mut end, &[0, 0, count as u16, count as u16]);
        words(&mut end, &[size as u32, ELSEWHERE]);
        shorts(&mut end, &[0]);
        self.put(&end)?;
        self.out.flush()
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.out.write_all(bytes)
    }
}

impl ArchiveEntry {
    fn in_directory(&self) -> Vec<u8> {
        let mut bytes = b"PK\x01\x02".to_vec();
        shorts(&mut bytes, &[45, 45, 0, 0, 0, 0]);
        words(&mut bytes, &[self.checksum, ELSEWHERE, ELSEWHERE]);
        shorts(&mut bytes, &[self.name.len() as u16, 28, 0, 0, 0]);
        words(&mut bytes, &[0, ELSEWHERE]);
        bytes.extend(self.name.as_bytes());
        shorts(&mut bytes, &[1, 24]);
        longs(&mut bytes, &[self.size, self.size, self.header]);
        bytes
    }
}

fn shorts(bytes: &mut Vec<u8>, values: &[u16]) {
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn words(bytes: &mut Vec<u8>, values: &[u32]) {
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn longs(bytes: &mut Vec<u8>, values: &[u64]) {
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

/// CRC-32 as zip has it: the reflected polynomial 0xedb88320.
fn checksum(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let mut rest = byte as u32;
            let mut bit = 0;
            while bit < 8 {
                rest = (rest >> 1) ^ ((rest & 1) * 0xedb8_8320);
                bit += 1;
            }
            table[byte] = rest;
            byte += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |sum, byte| sum >> 8 ^ TABLE[(sum as u8 ^ byte) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(checksum(b"123456789"), 0xcbf4_3926);
        assert_eq!(checksum(b""), 0);
    }

    #[test]
    fn entries_begin_at_multiples_of_64() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pt");
        let mut archive = Archive::create(&path, "a").unwrap();
        let entries = [("one", b"first!".as_slice()), ("another", b"second"), ("x", b"third.")];
        for (name, contents) in entries {
            archive.add(name, contents).unwrap();
        }
        archive.finish().unwrap();
        let bytes = std::fs::read(path).unwrap();
        for (_, contents) in entries {
            let at = bytes.windows(6).position(|window| window == contents).unwrap();
            assert_eq!(at % ALIGNMENT, 0);
        }
    }
}
