//! The sorted table of LevelDB, in which TensorFlow keeps the index of a checkpoint, and the
//! protocol-buffer fields of its entries.
//!
//! A table is a sequence of blocks, each followed by a byte for its compression and a checksum, and
//! a footer that points to the index block, whose values point to the data blocks. Inside a block
//! each key says how much of the previous key it repeats. The reader is ours: LevelDB's crates open
//! databases, not a single table, and the entries need four kinds of protocol-buffer field.

use crc32c::{crc32c, crc32c_append};

const MAGIC: u64 = 0xdb47_7524_8b80_fb57;
const FOOTER: usize = 48;
/// Type and checksum behind every block.
const TRAILER: usize = 5;
const LONGEST_KEY: usize = 4096;

type Result<T> = std::result::Result<T, String>;

/// Call `each` with every key and value, in order.
pub(super) fn for_each(
    table: &[u8],
    mut each: impl FnMut(&[u8], &[u8]) -> crate::Result<()>,
) -> Result<crate::Result<()>> {
    let footer =
        table.len().checked_sub(FOOTER).and_then(|start| table.get(start..)).ok_or("is too short for an index")?;
    let (handles, magic) = footer.split_at(FOOTER - 8);
    if magic != MAGIC.to_le_bytes() {
        return Err("does not end as TensorFlow's index files do".into());
    }
    let mut handles = Bytes(handles);
    let (_meta, index) = (Handle::read(&mut handles)?, Handle::read(&mut handles)?);
    let mut entries = Entries::new(block(table, index)?)?;
    let mut read_up_to = 0;
    while let Some(value) = entries.next()? {
        let handle = Handle::read(&mut Bytes(value))?;
        // In order and disjoint, as they were written: no block is read twice.
        if handle.offset < read_up_to {
            return Err("has blocks that overlap".into());
        }
        let data = block(table, handle)?;
        read_up_to = handle.offset + handle.size;
        let mut entries = Entries::new(data)?;
        while let Some(value) = entries.next()? {
            if let Err(error) = each(&entries.key, value) {
                return Ok(Err(error));
            }
        }
    }
    Ok(Ok(()))
}

#[derive(Debug, Clone, Copy)]
struct Handle {
    offset: usize,
    size: usize,
}

impl Handle {
    fn read(bytes: &mut Bytes<'_>) -> Result<Self> {
        let mut position =
            || usize::try_from(bytes.varint()?).map_err(|_| "has a block at a position out of range".to_string());
        Ok(Self { offset: position()?, size: position()? })
    }
}

/// The contents of a block whose checksum is correct.
fn block(table: &[u8], handle: Handle) -> Result<&[u8]> {
    let end = handle.offset.checked_add(handle.size);
    let (Some(data), Some(trailer)) = (
        end.and_then(|end| table.get(handle.offset..end)),
        end.and_then(|end| table.get(end..end.checked_add(TRAILER)?)),
    ) else {
        return Err("has a block outside of the file".into());
    };
    let (kind, checksum) = trailer.split_at(1);
    let expected = unmask(checksum.try_into().map(u32::from_le_bytes).unwrap_or_default());
    if crc32c_append(crc32c(data), kind) != expected {
        return Err("has a block that does not match its checksum".into());
    }
    match kind {
        [0] => Ok(data),
        _ => Err("has compressed blocks, which TensorFlow's checkpoints never have".into()),
    }
}

/// The entries of one block.
struct Entries<'a> {
    rest: Bytes<'a>,
    key: Vec<u8>,
}

impl<'a> Entries<'a> {
    fn new(block: &'a [u8]) -> Result<Self> {
        // After the entries: the positions of keys that repeat nothing, and their number.
        let body = block.split_last_chunk::<4>().and_then(|(body, restarts)| {
            let restarts = usize::try_from(u32::from_le_bytes(*restarts)).ok()?;
            body.get(..body.len().checked_sub(restarts.checked_mul(4)?)?)
        });
        Ok(Self { rest: Bytes(body.ok_or("has a block without an end")?), key: Vec::new() })
    }

    /// The next value; its key is then in `key`.
    fn next(&mut self) -> Result<Option<&'a [u8]>> {
        if self.rest.0.is_empty() {
            return Ok(None);
        }
        let (shared, own, size) = (self.rest.varint()?, self.rest.varint()?, self.rest.varint()?);
        if shared > self.key.len() as u64 || shared.saturating_add(own) > LONGEST_KEY as u64 {
            return Err("has an entry with a malformed name".into());
        }
        self.key.truncate(shared as usize);
        self.key.extend(self.rest.take(own)?);
        self.rest.take(size).map(Some)
    }
}

/// CRC-32C is stored "masked", rotated and shifted, so that checksums of data that contains
/// checksums stay sound.
pub(super) fn unmask(masked: u32) -> u32 {
    masked.wrapping_sub(0xa282_ead8).rotate_right(17)
}

/// Bytes that are read from the front.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, size: u64) -> Result<&'a [u8]> {
        let taken = usize::try_from(size).ok().and_then(|size| self.0.split_at_checked(size));
        let (taken, rest) = taken.ok_or("ends in the middle of an entry")?;
        self.0 = rest;
        Ok(taken)
    }

    /// Seven bits per byte, lowest first; the top bit says that more follow.
    fn varint(&mut self) -> Result<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?.first().copied().unwrap_or_default();
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err("has a number that does not end".into())
    }

    /// The next field of a protocol-buffer message: its number and content.
    pub(super) fn field(&mut self) -> Result<Option<(u64, Field<'a>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => Field::Number(self.varint()?),
            1 => self.take(8).map(|_| Field::Other)?,
            2 => {
                let size = self.varint()?;
                Field::Message(self.take(size)?)
            }
            5 => Field::Fixed(self.take(4)?.try_into().map(u32::from_le_bytes).unwrap_or_default()),
            kind => return Err(format!("has an entry with a field of kind {kind}")),
        };
        Ok(Some((tag >> 3, field)))
    }
}

/// The content of a protocol-buffer field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Field<'a> {
    /// A variable-length number.
    Number(u64),
    /// Four bytes.
    Fixed(u32),
    /// A message or a string.
    Message(&'a [u8]),
    /// Eight bytes; none of the fields here is one.
    Other,
}
