//! TensorFlow checkpoints (`NAME.index`, `NAME.data-00000-of-00001`), as BERT, BioBERT and BlueBERT
//! were first released.
//!
//! The index is a sorted table (see `table`). The empty key has the number of data files; the name
//! of each variable has its type, shape, data file, position, size and checksum. `NAME.meta`, the
//! graph, is not needed.

use std::collections::BTreeMap;
use std::path::Path;

use super::stored::{Contents, DataFile, Dtype, Stored};
use super::table::{self, Bytes, Field, unmask};
use crate::{Error, Result};

/// Longest index that is read. BioBERT's takes 23 KB.
const LONGEST_INDEX: u64 = 16 << 20;
/// Most data files.
const MOST_SHARDS: u64 = 1024;

/// Add the variables of the checkpoint whose index is `path`.
pub(super) fn list(contents: &mut Contents, path: &Path) -> Result<()> {
    let index = DataFile::open(path)?;
    if index.len > LONGEST_INDEX {
        return Err(Error::checkpoint(path, format!("an index of {} bytes; more than any model needs", index.len)));
    }
    let bytes = index.slice(0, index.len)?;
    let mut header = None;
    let mut entries: Vec<(String, Entry)> = Vec::new();
    let listed = table::for_each(&bytes, |key, value| {
        if key.is_empty() {
            header = Some(Header::read(value).map_err(|what| index.corrupt(what))?);
            return Ok(());
        }
        let name = String::from_utf8_lossy(key).into_owned();
        let entry = Entry::read(value).map_err(|what| Error::tensor(path, &name, what))?;
        entries.push((name, entry));
        Ok(())
    });
    listed.map_err(|what| index.corrupt(what))??;
    let Some(header) = header else { return Err(index.corrupt("has no header")) };
    if header.big_endian {
        return Err(Error::checkpoint(
            path,
            "was written on a big-endian machine; save it again on a little-endian machine",
        ));
    }
    if header.shards == 0 || header.shards > MOST_SHARDS {
        return Err(index.corrupt(format!("names {} data files", header.shards)));
    }
    // Open only data files that are referred to.
    let mut opened: BTreeMap<u64, usize> = BTreeMap::new();
    for (name, entry) in entries {
        let file = match opened.get(&entry.shard) {
            Some(file) => *file,
            None => {
                let file = contents.files.len();
                contents.files.push(open_shard(path, &entry, header.shards)?);
                opened.insert(entry.shard, file);
                file
            }
        };
        let message = |what: String| Error::tensor(path, &name, what);
        if entry.sliced {
            return Err(message("is stored in slices, which is not supported; save it whole".into()));
        }
        let mut stored = Stored::row_major(entry.dtype, entry.shape, file, entry.offset);
        if !stored.fits(entry.size) || (entry.dtype.size() > 0 && stored.bytes() != entry.size) {
            return Err(message(format!("shape {:?} does not fit its {} bytes", stored.shape, entry.size)));
        }
        stored.checksum = entry.checksum;
        contents.insert(name, stored)?;
    }
    Ok(())
}

fn open_shard(index: &Path, entry: &Entry, shards: u64) -> Result<DataFile> {
    let shard = entry.shard;
    if shard >= shards {
        return Err(Error::checkpoint(index, format!("refers to data file {shard} of {shards}; the index is corrupt")));
    }
    let path = index.with_extension(format!("data-{shard:05}-of-{shards:05}"));
    if !path.is_file() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Err(Error::checkpoint(
            index,
            format!("its data file {name} is missing; fetch it into the same directory"),
        ));
    }
    DataFile::open(&path)
}

struct Header {
    shards: u64,
    big_endian: bool,
}

impl Header {
    /// `BundleHeaderProto`
    fn read(message: &[u8]) -> std::result::Result<Self, String> {
        let mut header = Self { shards: 0, big_endian: false };
        let mut fields = Bytes(message);
        while let Some(field) = fields.field()? {
            match field {
                (1, Field::Number(shards)) => header.shards = shards,
                (2, Field::Number(endianness)) => header.big_endian = endianness != 0,
                _ => {}
            }
        }
        Ok(header)
    }
}

struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    shard: u64,
    offset: u64,
    size: u64,
    checksum: Option<u32>,
    sliced: bool,
}

impl Entry {
    /// `BundleEntryProto`
    fn read(message: &[u8]) -> std::result::Result<Self, String> {
        let (dtype, shape) = (Dtype::Other(0), Vec::new());
        let mut entry = Self { dtype, shape, shard: 0, offset: 0, size: 0, checksum: None, sliced: false };
        let mut fields = Bytes(message);
        while let Some(field) = fields.field()? {
            match field {
                (1, Field::Number(number)) => entry.dtype = dtype_of(number),
                (2, Field::Message(shape)) => entry.shape = read_shape(shape)?,
                (3, Field::Number(shard)) => entry.shard = shard,
                (4, Field::Number(offset)) => entry.offset = offset,
                (5, Field::Number(size)) => entry.size = size,
                (6, Field::Fixed(masked)) => entry.checksum = Some(unmask(masked)),
                (7, _) => entry.sliced = true,
                _ => {}
            }
        }
        Ok(entry)
    }
}

/// `TensorShapeProto`
fn read_shape(message: &[u8]) -> std::result::Result<Vec<usize>, String> {
    let mut shape = Vec::new();
    let mut dims = Bytes(message);
    while let Some(dim) = dims.field()? {
        let (2, Field::Message(dim)) = dim else { continue };
        let (mut fields, mut size) = (Bytes(dim), 0);
        while let Some(field) = fields.field()? {
            if let (1, Field::Number(number)) = field {
                size = usize::try_from(number).map_err(|_| "has a size out of range")?;
            }
        }
        shape.push(size);
    }
    if shape.len() > 16 { Err("has more than 16 axes".into()) } else { Ok(shape) }
}

/// TensorFlow's numbers for types.
fn dtype_of(number: u64) -> Dtype {
    match number {
        1 => Dtype::F32,
        2 => Dtype::F64,
        14 => Dtype::Bf16,
        19 => Dtype::F16,
        9 | 23 => Dtype::Other(8),
        3 | 22 => Dtype::Other(4),
        5 | 17 => Dtype::Other(2),
        4 | 6 | 10 => Dtype::Other(1),
        // Text and other types without a fixed size: never a parameter.
        _ => Dtype::Other(0),
    }
}
