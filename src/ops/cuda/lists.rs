//! Lists that kernels read: identifiers, rows, work lists, arrays to be updated. A step has dozens
//! of them, some in every layer. Lists that are known at the same time are one upload, and a list
//! that the device still has is none.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::buffer::{Block, Pool};
use super::device::Device;
use crate::Result;

/// Most lists that are kept, and most bytes of them: those of about two steps.
const KEPT: usize = 32;
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
    pub fn get<const N: usize>(
        &self,
        pool: &Pool<D>,
        lists: [&[u8]; N],
        upload: impl Fn(&[u8], u64) -> Result<()>,
    ) -> Result<[List<D>; N]> {
        // Memory checkers should see an access behind a list: each has its own memory then.
        if !pool.reuses() {
            let alone = |bytes: &[u8]| {
                let list = List { block: Arc::new(pool.block(bytes.len())?), offset: 0 };
                if !bytes.is_empty() {
                    upload(bytes, list.address())?;
                }
                Ok(list)
            };
            return all(lists.into_iter().map(alone));
        }
        // The lock only guards a list that no panic leaves half-changed.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let find = |known: &VecDeque<(Vec<u8>, List<D>)>, bytes: &[u8]| {
            known.iter().rev().find(|(values, _)| values == bytes).map(|(_, list)| list.clone())
        };
        let found = lists.map(|bytes| find(&known, bytes));
        let mut blob = Vec::new();
        let mut offsets = [0; N];
        for ((bytes, found), offset) in lists.iter().zip(&found).zip(&mut offsets) {
            if found.is_none() {
                blob.resize(blob.len().next_multiple_of(ALIGNMENT), 0);
                *offset = blob.len();
                blob.extend_from_slice(bytes);
            }
        }
        if found.iter().all(Option::is_some) {
            return all(found.into_iter().flatten().map(Ok));
        }
        let block = Arc::new(pool.block(blob.len())?);
        if !blob.is_empty() {
            upload(&blob, block.address())?;
        }
        let sent = lists.into_iter().zip(found).zip(offsets).map(|((bytes, found), offset)| {
            Ok(found.unwrap_or_else(|| {
                let list = List { block: block.clone(), offset };
                known.push_back((bytes.to_vec(), list.clone()));
                list
            }))
        });
        let sent = all(sent);
        while known.len() > KEPT || known.iter().map(|(values, _)| values.len()).sum::<usize>() > KEPT_BYTES {
            known.pop_front();
        }
        sent
    }
}

/// N lists.
fn all<D: Device, const N: usize>(lists: impl Iterator<Item = Result<List<D>>>) -> Result<[List<D>; N]> {
    let lists = lists.collect::<Result<Vec<_>>>()?;
    let Ok(lists) = lists.try_into() else { unreachable!("there are N") };
    Ok(lists)
}
