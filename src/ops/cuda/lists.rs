//! Lists that kernels read: identifiers, rows, work lists, arrays to be updated. A step has dozens
//! of them, some in every layer. What is known when it begins is one upload ([`super::prepare`]), the addresses of its
//! gradients are another at its end, and a list that the device still has is none.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::buffer::{Block, Pool};
use super::device::Device;
use crate::Result;

/// Most lists that are kept, and most bytes of them: those of about two steps.
const KEPT: usize = 64;
const KEPT_BYTES: usize = 8 << 20;
/// Where lists of one upload start.
const ALIGNMENT: usize = 256;

/// A list on the device. Kernels only read it.
pub(super) struct List<D: Device> {
    block: Arc<Block<D>>,
    offset: usize,
}

impl<D: Device> Clone for List<D> {
    fn clone(&self) -> Self {
        Self { block: self.block.clone(), offset: self.offset }
    }
}

impl<D: Device> List<D> {
    /// Address of its first byte.
    pub fn address(&self) -> u64 {
        self.block.address() + self.offset as u64
    }
}

/// The lists that were uploaded last, with their values.
pub(super) struct Lists<D: Device>(Mutex<VecDeque<(Vec<u8>, List<D>)>>);

impl<D: Device> Default for Lists<D> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<D: Device> Lists<D> {
    /// The lists on the device. `upload` copies bytes to an address.
    pub fn get(
        &self,
        pool: &Pool<D>,
        lists: &[&[u8]],
        upload: impl Fn(&[u8], u64) -> Result<()>,
    ) -> Result<Vec<List<D>>> {
        // Memory checkers should see an access behind a list: each has its own memory then.
        if !pool.reuses() {
            let alone = |bytes: &[u8]| {
                let list = List { block: Arc::new(pool.block(bytes.len())?), offset: 0 };
                if !bytes.is_empty() {
                    upload(bytes, list.address())?;
                }
                Ok(list)
            };
            return lists.iter().map(|bytes| alone(bytes)).collect();
        }
        // The lock only guards a list that no panic leaves half-changed.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Found ones are the newest again, so that a step does not lose what it has sent at its beginning.
        let mut find = |bytes: &&[u8]| {
            let at = known.iter().rposition(|(values, _)| values == bytes)?;
            let entry = known.remove(at)?;
            let list = entry.1.clone();
            known.push_back(entry);
            Some(list)
        };
        let found: Vec<_> = lists.iter().map(&mut find).collect();
        let mut blob = Vec::new();
        let mut offsets = vec![0; lists.len()];
        for ((bytes, found), offset) in lists.iter().zip(&found).zip(&mut offsets) {
            if found.is_none() {
                blob.resize(blob.len().next_multiple_of(ALIGNMENT), 0);
                *offset = blob.len();
                blob.extend_from_slice(bytes);
            }
        }
        if found.iter().all(Option::is_some) {
            return Ok(found.into_iter().flatten().collect());
        }
        let block = Arc::new(pool.block(blob.len())?);
        if !blob.is_empty() {
            upload(&blob, block.address())?;
        }
        let sent = lists.iter().zip(found).zip(offsets).map(|((bytes, found), offset)| {
            found.unwrap_or_else(|| {
                let list = List { block: block.clone(), offset };
                known.push_back((bytes.to_vec(), list.clone()));
                list
            })
        });
        let sent = sent.collect();
        while known.len() > KEPT || known.iter().map(|(values, _)| values.len()).sum::<usize>() > KEPT_BYTES {
            known.pop_front();
        }
        Ok(sent)
    }
}
