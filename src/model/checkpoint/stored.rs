//! The contents of a checkpoint of any format: the type, shape and position of each tensor.
//!
//! A format's reader only lists tensors; values are read one tensor at a time when the encoder asks
//! for them. So other heads and optimizer slots cost nothing, and no second copy of the model is
//! ever in memory. Every tensor passes [`Contents::insert`], the single entry point, which refuses
//! tensors that do not lie inside their file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use half::{bf16, f16};

use super::format::Format;
use crate::{Error, Result};

/// Type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dtype {
    /// 64-bit float.
    F64,
    /// 32-bit float.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// Integers and other types that parameters never have, of this many bytes (0 where it does not
    /// matter).
    Other(usize),
}

impl Dtype {
    /// Bytes of one element.
    pub(super) fn size(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Other(size) => size,
        }
    }
}

/// One tensor in a file, not read yet.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stored {
    /// Type of the elements.
    pub(super) dtype: Dtype,
    /// Shape.
    pub(super) shape: Vec<usize>,
    /// Distance in elements between neighbours along each axis.
    pub(super) strides: Vec<usize>,
    /// Index into the files of [`Contents`].
    pub(super) file: usize,
    /// Position in the file of the element at index 0.
    pub(super) offset: u64,
    /// CRC-32C of its bytes, where the format stores one.
    pub(super) checksum: Option<u32>,
}

impl Stored {
    /// A row-major tensor without a checksum.
    pub(super) fn row_major(dtype: Dtype, shape: Vec<usize>, file: usize, offset: u64) -> Self {
        let strides = row_major_strides(&shape);
        Self { dtype, shape, strides, file, offset, checksum: None }
    }

    /// The same bytes seen with the axes reversed: how a `(in, out)` kernel becomes a `(out, in)`
    /// weight.
    pub(super) fn transposed(mut self) -> Self {
        self.shape.reverse();
        self.strides.reverse();
        self
    }

    /// Number of elements, if it can be counted.
    fn elements(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))
    }

    /// Elements from the first to the furthest, both included.
    fn extent(&self) -> Option<usize> {
        if self.shape.contains(&0) {
            return Some(0);
        }
        let steps = self.shape.iter().zip(&self.strides);
        steps.map(|(d, stride)| (d - 1).checked_mul(*stride)).try_fold(1usize, |n, step| n.checked_add(step?))
    }

    /// Whether all of it lies in the `room` bytes from its offset.
    pub(super) fn fits(&self, room: u64) -> bool {
        let bytes = self.extent().and_then(|extent| extent.checked_mul(self.dtype.size()));
        bytes.is_some_and(|bytes| bytes as u64 <= room)
    }

    /// Bytes that its values take in the file. Counted when it was inserted, so it does not
    /// overflow.
    pub(super) fn bytes(&self) -> u64 {
        self.elements().unwrap_or(0) as u64 * self.dtype.size() as u64
    }

    fn is_row_major(&self) -> bool {
        let expected = row_major_strides(&self.shape);
        self.shape.contains(&0)
            || self.shape.iter().zip(self.strides.iter().zip(expected)).all(|(d, (s, e))| *d == 1 || *s == e)
    }
}

fn row_major_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        // An overflow belongs to a shape that `insert` refuses.
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis].max(1));
    }
    strides
}

/// An open file of a checkpoint.
#[derive(Debug)]
pub(super) struct DataFile {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Size in bytes when it was opened.
    pub(super) len: u64,
    file: File,
}

impl DataFile {
    /// Open a file for reading.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path))?;
        let len = file.metadata().map_err(Error::io(path))?.len();
        Ok(Self { path: path.to_path_buf(), len, file })
    }

    /// Fill `buffer` from position `offset`.
    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let mut file = &self.file;
        let read = file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(buffer));
        read.map_err(Error::io(&self.path))
    }

    /// `len` bytes from `offset`; an error, before anything is allocated, where the file does not
    /// hold them.
    pub(super) fn slice(&self, offset: u64, len: u64) -> Result<Vec<u8>> {
        match (offset.checked_add(len), usize::try_from(len)) {
            (Some(end), Ok(size)) if end <= self.len => {
                let mut bytes = vec![0; size];
                self.read_at(offset, &mut bytes)?;
                Ok(bytes)
            }
            _ => Err(self.corrupt(format!("ends before byte {}", offset.saturating_add(len)))),
        }
    }

    /// A reader over the whole file.
    pub(super) fn reader(&self) -> &File {
        &self.file
    }

    /// An error about this file.
    pub(super) fn corrupt(&self, what: impl std::fmt::Display) -> Error {
        Error::checkpoint(&self.path, format!("{what}; the file is corrupt or incomplete: fetch it again"))
    }
}

/// The contents of a checkpoint.
#[derive(Debug)]
pub(super) struct Contents {
    /// How it was written.
    pub(super) format: Format,
    /// The file to name in messages about the whole: the only one, or the index.
    pub(super) path: PathBuf,
    /// Its files.
    pub(super) files: Vec<DataFile>,
    /// Tensors by their names in the file.
    pub(super) tensors: BTreeMap<String, Stored>,
    /// Entries other than tensors, such as the epoch of a training script.
    pub(super) others: Vec<String>,
}

impl Contents {
    /// Without tensors.
    pub(super) fn new(format: Format, path: &Path) -> Self {
        Self { format, path: path.to_path_buf(), files: Vec::new(), tensors: BTreeMap::new(), others: Vec::new() }
    }

    /// Add a tensor after checking that every element of it lies inside its file.
    pub(super) fn insert(&mut self, name: String, stored: Stored) -> Result<()> {
        let Some(file) = self.files.get(stored.file) else {
            return Err(Error::tensor(&self.path, name, "is said to be in a file that this checkpoint does not have"));
        };
        // Strides of zero would repeat elements, which no parameter does.
        let distinct =
            stored.elements().is_some_and(|elements| stored.extent().is_some_and(|extent| elements <= extent));
        if !distinct || stored.offset > file.len || !stored.fits(file.len - stored.offset) {
            let message = format!(
                "shape {:?} needs more bytes than the file has; the file is corrupt or incomplete: fetch it again",
                stored.shape
            );
            return Err(Error::tensor(&file.path, name, message));
        }
        if self.tensors.contains_key(&name) {
            return Err(Error::tensor(&file.path, name, "appears twice; the checkpoint is corrupt: fetch it again"));
        }
        self.tensors.insert(name, stored);
        Ok(())
    }

    /// Append the values of a tensor, converted to f32, to `values`.
    pub(super) fn read(&self, name: &str, stored: &Stored, values: &mut Vec<f32>) -> Result<()> {
        let Some(file) = self.files.get(stored.file) else {
            return Err(Error::tensor(&self.path, name, "is in no file"));
        };
        let start = values.len();
        if stored.is_row_major() {
            read_run(file, name, stored, stored.elements().unwrap_or(0), values)?;
        } else {
            let mut run = Vec::new();
            read_run(file, name, stored, stored.extent().unwrap_or(0), &mut run)?;
            gather(&run, &stored.shape, &stored.strides, values);
        }
        if let Some((at, value)) = values[start..].iter().enumerate().find(|(_, value)| !value.is_finite()) {
            let message = format!("value {at} is {value}; the file is corrupt or its training diverged");
            return Err(Error::tensor(&file.path, name, message));
        }
        Ok(())
    }
}

/// Read `elements` adjacent elements in pieces: the file's bytes and all values are never in memory
/// together.
fn read_run(file: &DataFile, name: &str, stored: &Stored, elements: usize, values: &mut Vec<f32>) -> Result<()> {
    const PIECE: usize = 1 << 18;
    let size = stored.dtype.size();
    let mut left = elements * size;
    let mut buffer = vec![0u8; left.min(PIECE)];
    let (mut offset, mut crc) = (stored.offset, 0);
    values.reserve(elements);
    while left > 0 {
        let piece = &mut buffer[..left.min(PIECE)];
        file.read_at(offset, piece)?;
        if stored.checksum.is_some() {
            crc = crc32c::crc32c_append(crc, piece);
        }
        match stored.dtype {
            Dtype::F32 => values.extend(piece.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
            Dtype::F64 => values.extend(piece.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32)),
            Dtype::F16 => values.extend(piece.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32())),
            Dtype::Bf16 => values.extend(piece.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32())),
            Dtype::Other(_) => return Err(Error::tensor(&file.path, name, "does not contain floating-point numbers")),
        }
        offset += piece.len() as u64;
        left -= piece.len();
    }
    match stored.checksum {
        Some(expected) if expected != crc => {
            let message = "its bytes do not match their checksum; the file is corrupt: fetch it again";
            Err(Error::tensor(&file.path, name, message))
        }
        _ => Ok(()),
    }
}

/// Append the elements of a strided view of `run` in row-major order.
fn gather(run: &[f32], shape: &[usize], strides: &[usize], values: &mut Vec<f32>) {
    match (shape, strides) {
        ([], _) | (_, []) => values.extend(run.first()),
        ([n], [stride]) => values.extend(run.iter().step_by((*stride).max(1)).take(*n)),
        ([n, shape @ ..], [stride, strides @ ..]) => {
            for i in 0..*n {
                gather(run.get(i * stride..).unwrap_or_default(), shape, strides, values);
            }
        }
    }
}
