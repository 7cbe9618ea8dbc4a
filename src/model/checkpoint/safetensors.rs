//! safetensors: a JSON header with types, shapes and positions, then the bytes.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::tensor::{self, Metadata, View};

use super::format::Extra;
use super::names::stored_names;
use super::stored::{Contents, DataFile, Dtype, Stored};
use crate::model::Weights;
use crate::{Error, Result};

/// The format's own bound on the header.
const LONGEST_HEADER: u64 = 100_000_000;

/// Add the tensors of a file.
pub(super) fn list(contents: &mut Contents, path: &Path) -> Result<()> {
    let file = DataFile::open(path)?;
    let invalid = |what: &dyn std::fmt::Display| {
        Error::checkpoint(path, format!("not a valid safetensors file ({what}); fetch it again"))
    };
    if file.len < 8 {
        return Err(invalid(&"it has no header"));
    }
    let mut size = [0; 8];
    file.read_at(0, &mut size)?;
    let size = u64::from_le_bytes(size);
    if size > LONGEST_HEADER.min(file.len - 8) {
        return Err(invalid(&format!("a header of {size} bytes")));
    }
    let header = file.slice(8, size)?;
    // The library's type checks every offset against type, shape and the tensor before it.
    let header: Metadata = serde_json::from_slice(&header).map_err(|e| invalid(&e))?;
    let (start, expected) = (8 + size, header.data_len() as u64);
    if start.checked_add(expected) != Some(file.len) {
        return Err(invalid(&format!("{} bytes of values where the header has {expected}", file.len - start)));
    }
    let index = contents.files.len();
    contents.files.push(file);
    // In the order of their names, so that a file with several faults always gives the same error.
    for (name, info) in header.tensors().into_iter().collect::<BTreeMap<_, _>>() {
        let offset = start + info.data_offsets.0 as u64;
        contents.insert(name, Stored::row_major(dtype(info.dtype), info.shape.clone(), index, offset))?;
    }
    Ok(())
}

fn dtype(dtype: tensor::Dtype) -> Dtype {
    match dtype {
        tensor::Dtype::F64 => Dtype::F64,
        tensor::Dtype::F32 => Dtype::F32,
        tensor::Dtype::F16 => Dtype::F16,
        tensor::Dtype::BF16 => Dtype::Bf16,
        // The header's positions are checked already; types of less than a byte have size 0.
        other => Dtype::Other(other.bitsize() / 8),
    }
}

/// A tensor to write; its bytes are made when they are written.
struct Part<'a> {
    shape: Vec<usize>,
    values: &'a [f32],
}

impl View for Part<'_> {
    fn dtype(&self) -> tensor::Dtype {
        tensor::Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = Vec::with_capacity(self.data_len());
        self.values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        Cow::Owned(bytes)
    }
    fn data_len(&self) -> usize {
        size_of_val(self.values)
    }
}

/// Write parameters and extras as one safetensors file.
///
/// # Errors
/// [`Error::Io`] when the disk is full or the path cannot be written.
pub fn write(path: &Path, weights: &Weights, extras: &[Extra]) -> Result<()> {
    let mut parts: Vec<(String, Part<'_>)> = Vec::new();
    for (spec, values) in weights.specs.iter().zip(&weights.values) {
        let names = stored_names(spec);
        let size = (values.len() / names.len()).max(1);
        parts.extend(
            names.into_iter().zip(values.chunks(size)).map(|((name, shape), values)| (name, Part { shape, values })),
        );
    }
    parts.extend(extras.iter().map(|e| (e.name.clone(), Part { shape: e.shape.clone(), values: &e.values })));
    // transformers refuses files without this key.
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    write_tensors(path, parts, metadata)
}

/// Write any tensors as one safetensors file.
///
/// The crate writes a temporary file that only its owner may read and renames it; this gives it the
/// permissions that an ordinary new file would have, so that others can read a model in a shared
/// folder.
///
/// # Errors
/// As [`write`].
pub fn write_tensors<V: View>(path: &Path, tensors: Vec<(String, V)>, metadata: HashMap<String, String>) -> Result<()> {
    let ordinary = std::fs::File::create(path).and_then(|file| file.metadata()).map_err(Error::io(path))?;
    safetensors::serialize_to_file(tensors, Some(metadata), path).map_err(|e| match e {
        safetensors::SafeTensorError::IoError(source) => Error::Io { path: path.to_path_buf(), source },
        other => Error::checkpoint(path, format!("cannot be written: {other}")),
    })?;
    std::fs::set_permissions(path, ordinary.permissions()).map_err(Error::io(path))
}
