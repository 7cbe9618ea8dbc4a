//! `flax_model.msgpack`: nested maps of names, with arrays as extension 1: shape, type and bytes.
//!
//! The reader is ours: it skips over the bytes of arrays, which crates for msgpack would read.

use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::stored::{Contents, DataFile, Dtype, Stored};
use crate::{Error, Result};

/// Maps inside maps; BERT's names have 8 parts.
const DEEPEST: usize = 16;
const LONGEST_NAME: u64 = 4096;
const ARRAY: u8 = 1;

/// Add the arrays of a file.
pub(super) fn list(contents: &mut Contents, path: &Path) -> Result<()> {
    let file = DataFile::open(path)?;
    let mut found = Vec::new();
    let mut reader = Msgpack { reader: BufReader::new(file.reader()), found: &mut found };
    let read = reader.map(String::new(), 0);
    read.map_err(|e| Error::checkpoint(path, format!("not a model that Flax wrote ({e}); fetch it again")))?;
    let index = contents.files.len();
    contents.files.push(file);
    for (name, dtype, shape, (offset, size)) in found {
        let stored = Stored::row_major(dtype, shape, index, offset);
        if !stored.fits(size) || stored.bytes() != size {
            let message = format!("shape {:?} does not fit its {size} bytes", stored.shape);
            return Err(Error::tensor(path, name, message));
        }
        contents.insert(name, stored)?;
    }
    Ok(())
}

type Found = Vec<(String, Dtype, Vec<usize>, (u64, u64))>;

struct Msgpack<'a, R> {
    reader: R,
    found: &'a mut Found,
}

fn invalid<T>(what: impl Into<String>) -> std::io::Result<T> {
    Err(std::io::Error::new(std::io::ErrorKind::InvalidData, what.into()))
}

impl<R: Read + Seek> Msgpack<'_, R> {
    fn array<const N: usize>(&mut self) -> std::io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// A big-endian number of `N` bytes.
    fn number<const N: usize>(&mut self) -> std::io::Result<u64> {
        Ok(self.array::<N>()?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn map(&mut self, name: String, depth: usize) -> std::io::Result<()> {
        let [kind] = self.array()?;
        let entries = match kind {
            0x80..=0x8f => u64::from(kind & 0x0f),
            0xde => self.number::<2>()?,
            0xdf => self.number::<4>()?,
            0xc7..=0xc9 => {
                let size = match kind {
                    0xc7 => self.number::<1>()?,
                    0xc8 => self.number::<2>()?,
                    _ => self.number::<4>()?,
                };
                return self.extension(name, size);
            }
            _ => return invalid(format!("`{}` is neither a map nor an array", name.escape_debug())),
        };
        if depth == DEEPEST {
            return invalid(format!("maps are nested deeper than {DEEPEST}"));
        }
        for _ in 0..entries {
            let key = self.text()?;
            if key.starts_with("__msgpack_chunked_array__") {
                return invalid(format!("`{name}` is stored in chunks, which is not supported"));
            }
            let name = if name.is_empty() { key } else { format!("{name}.{key}") };
            if name.len() as u64 > LONGEST_NAME {
                return invalid("a name is too long");
            }
            self.map(name, depth + 1)?;
        }
        Ok(())
    }

    fn text(&mut self) -> std::io::Result<String> {
        let [kind] = self.array()?;
        let size = match kind {
            0xa0..=0xbf => u64::from(kind & 0x1f),
            0xd9 | 0xc4 => self.number::<1>()?,
            0xda => self.number::<2>()?,
            _ => return invalid("a name is not text"),
        };
        let mut text = Vec::new();
        if self.reader.by_ref().take(size.min(LONGEST_NAME)).read_to_end(&mut text)? as u64 != size {
            return invalid("a name is cut off or too long");
        }
        String::from_utf8(text).or_else(|_| invalid("a name is not UTF-8"))
    }

    /// An array: a msgpack list of shape, type and bytes. The bytes are skipped.
    fn extension(&mut self, name: String, size: u64) -> std::io::Result<()> {
        let [kind] = self.array()?;
        let start = self.reader.stream_position()?;
        if kind != ARRAY {
            return invalid(format!("`{}` is extension {kind}, not an array", name.escape_debug()));
        }
        let shape = match self.array()? {
            [0x93, axes @ 0x90..=0x9f] => {
                (0..axes & 0x0f).map(|_| self.count()).collect::<std::io::Result<Vec<_>>>()?
            }
            _ => return invalid(format!("`{}` has no shape", name.escape_debug())),
        };
        let dtype = match self.text()?.as_str() {
            "float64" => Dtype::F64,
            "float32" => Dtype::F32,
            "float16" => Dtype::F16,
            "bfloat16" => Dtype::Bf16,
            "int64" | "uint64" => Dtype::Other(8),
            "int32" | "uint32" => Dtype::Other(4),
            "int16" | "uint16" => Dtype::Other(2),
            "int8" | "uint8" | "bool" => Dtype::Other(1),
            other => return invalid(format!("`{}` is made of {}", name.escape_debug(), other.escape_debug())),
        };
        let bytes = match self.array()? {
            [0xc4] => self.number::<1>()?,
            [0xc5] => self.number::<2>()?,
            [0xc6] => self.number::<4>()?,
            _ => return invalid(format!("`{}` has no bytes", name.escape_debug())),
        };
        let offset = self.reader.stream_position()?;
        if offset.checked_add(bytes) != start.checked_add(size) {
            return invalid(format!("`{}` does not have its declared length", name.escape_debug()));
        }
        self.reader.seek(SeekFrom::Start(offset + bytes))?;
        self.found.push((name, dtype, shape, (offset, bytes)));
        Ok(())
    }

    fn count(&mut self) -> std::io::Result<usize> {
        let [kind] = self.array()?;
        let number = match kind {
            0..=0x7f => u64::from(kind),
            0xcc => self.number::<1>()?,
            0xcd => self.number::<2>()?,
            0xce => self.number::<4>()?,
            0xcf => self.number::<8>()?,
            _ => return invalid("a size is not a number"),
        };
        usize::try_from(number).or_else(|_| invalid("a size is out of range"))
    }
}
