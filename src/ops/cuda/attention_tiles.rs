//! The work list of the attention kernels: one entry for each block of rows of a sentence.

use std::cmp::Reverse;
use std::sync::{Arc, Mutex, PoisonError};

use super::device::Device;
use super::lists::List;
use crate::Result;
use crate::ops::AttentionShape;

/// How many lists are kept: global and local ones of a few batches.
const KEPT: usize = 4;

/// The window of tokens that attend to all others.
const EVERYWHERE: usize = 1 << 29;

/// `Tile`s of the kernels on the device: (start, length, first row, end, valid length, group, window).
pub(super) struct Tiles<D: Device> {
    cu_seqlens: Vec<usize>,
    valid_lengths: Option<Vec<usize>>,
    group: usize,
    window: usize,
    rows: usize,
    pub list: List<D>,
    pub count: usize,
}

/// A cache of lists: a step needs the same one in every layer.
pub(super) struct TileLists<D: Device>(Mutex<Vec<Arc<Tiles<D>>>>);

impl<D: Device> Default for TileLists<D> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<D: Device> TileLists<D> {
    /// Tiles of at most `rows` rows, whole groups of which none is larger; `send` copies a new list
    /// to the device.
    pub fn get(
        &self,
        shape: AttentionShape<'_>,
        rows: usize,
        send: impl FnOnce(&[i32]) -> Result<List<D>>,
    ) -> Result<Arc<Tiles<D>>> {
        let window = shape.window.map_or(EVERYWHERE, |window| window.distance.min(EVERYWHERE));
        // The lock only guards a list that no panic leaves half-changed.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |tiles: &&Arc<Tiles<D>>| {
            tiles.rows == rows
                && tiles.cu_seqlens == shape.cu_seqlens
                && tiles.valid_lengths.as_deref() == shape.valid_lengths
                && tiles.group == shape.group
                && tiles.window == window
        };
        if let Some(tiles) = known.iter().find(same) {
            return Ok(tiles.clone());
        }
        let mut list = Vec::new();
        for (sentence, bounds) in shape.cu_seqlens.windows(2).enumerate() {
            let length = bounds[1] - bounds[0];
            let (start, valid, group) = (bounds[0], shape.valid_length(sentence, length), shape.group);
            let (ungrouped, height) = match rows.checked_div(group) {
                Some(groups) => (valid, groups * group),
                None => (length, rows),
            };
            for (tokens, rows, group) in [(0..ungrouped, rows, 0), (ungrouped..length, height, group)] {
                let end = tokens.end;
                let tile = |first: usize| [start, length, first, end.min(first + rows), valid, group, window];
                list.extend(tokens.step_by(rows).map(tile));
            }
        }
        // The longest first: a block that starts last should not be one that takes long.
        list.sort_by_key(|tile| Reverse(tile[1]));
        let count = list.len();
        let values: Vec<i32> = list.into_iter().flatten().map(|value| value as i32).collect();
        let tiles = Arc::new(Tiles {
            cu_seqlens: shape.cu_seqlens.to_vec(),
            valid_lengths: shape.valid_lengths.map(<[usize]>::to_vec),
            group: shape.group,
            window,
            rows,
            list: send(&values)?,
            count,
        });
        if known.len() == KEPT {
            known.remove(0);
        }
        known.push(tiles.clone());
        Ok(tiles)
    }
}
