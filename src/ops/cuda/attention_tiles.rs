//! The work list of the attention kernels: one entry for each block of rows of a sentence.

use std::cmp::Reverse;
use std::sync::{Arc, Mutex, PoisonError};

use super::device::Device;
use super::lists::List;
use crate::Result;
use crate::ops::{AttentionShape, Window};

/// How many lists are kept: global and local ones of a few batches.
const KEPT: usize = 4;

/// The window of tokens that attend to all others, and the largest position.
const EVERYWHERE: usize = 1 << 29;

/// `Tile`s of the kernels on the device: (start, length, first row, end, valid length, group, window, lowest and
/// highest position).
pub(super) struct Tiles<D: Device> {
    cu_seqlens: Vec<usize>,
    valid_lengths: Option<Vec<usize>>,
    group: usize,
    window: usize,
    /// Of all tokens; none without groups or without a window, where a position is a place in the sentence.
    positions: Vec<u32>,
    rows: usize,
    list: List<D>,
    pub count: usize,
}

impl<D: Device> Tiles<D> {
    /// Elements of a tile.
    const WIDTH: usize = 9;

    /// Address of the tiles.
    pub fn address(&self) -> u64 {
        self.list.address()
    }

    /// Address of the positions, which follow them; 0 if there are none.
    pub fn positions(&self) -> u64 {
        if self.positions.is_empty() { 0 } else { self.list.address() + (4 * Self::WIDTH * self.count) as u64 }
    }
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
        let (window, positions) = window(shape);
        // The lock only guards a list that no panic leaves half-changed.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |tiles: &&Arc<Tiles<D>>| {
            tiles.rows == rows
                && tiles.cu_seqlens == shape.cu_seqlens
                && tiles.valid_lengths.as_deref() == shape.valid_lengths
                && tiles.group == shape.group
                && tiles.window == window
                && tiles.positions == positions
        };
        if let Some(tiles) = known.iter().find(same) {
            return Ok(tiles.clone());
        }
        let (values, count) = tiles(shape, rows);
        let tiles = Arc::new(Tiles {
            cu_seqlens: shape.cu_seqlens.to_vec(),
            valid_lengths: shape.valid_lengths.map(<[usize]>::to_vec),
            group: shape.group,
            window,
            positions: positions.to_vec(),
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

/// The distance of the window, and the positions of the tokens if tiles need them; see [`Tiles::positions`].
fn window(shape: AttentionShape<'_>) -> (usize, &[u32]) {
    let window = shape.window.map_or(EVERYWHERE, |window| window.distance.min(EVERYWHERE));
    match shape.window {
        Some(Window { positions, .. }) if shape.group > 0 && window < EVERYWHERE => (window, positions),
        _ => (window, &[]),
    }
}

/// Tiles of at most `rows` rows and the positions behind them, and the number of tiles.
pub(super) fn tiles(shape: AttentionShape<'_>, rows: usize) -> (Vec<i32>, usize) {
    let (window, positions) = window(shape);
    let mut list = Vec::new();
    for (sentence, bounds) in shape.cu_seqlens.windows(2).enumerate() {
        let length = bounds[1] - bounds[0];
        let (start, valid, group) = (bounds[0], shape.valid_length(sentence, length), shape.group);
        // Tokens behind the valid ones have tiles of their own where they attend in another way.
        let apart = group > 0 || window < EVERYWHERE;
        let height = rows.checked_div(group).map_or(rows, |groups| groups * group);
        // Padding attends to all valid tokens.
        let reach = if group > 0 { window } else { EVERYWHERE };
        let alike = if apart { valid } else { length };
        for (tokens, rows, group, window) in [(0..alike, rows, 0, window), (alike..length, height, group, reach)] {
            let end = tokens.end;
            list.extend(tokens.step_by(rows).map(|first| {
                let end = end.min(first + rows);
                let own = positions.get(start + first..start + end).filter(|_| group > 0);
                let at = |position: Option<&u32>| position.map(|position| (*position as usize).min(EVERYWHERE));
                let lowest = at(own.and_then(|own| own.iter().min())).unwrap_or(first);
                let highest = at(own.and_then(|own| own.iter().max())).unwrap_or(end - 1);
                [start, length, first, end, valid, group, window, lowest, highest]
            }));
        }
    }
    // The longest first: a block that starts last should not be one that takes long.
    list.sort_by_key(|tile| Reverse(tile[1]));
    let count = list.len();
    let places = positions.iter().map(|position| (*position as usize).min(EVERYWHERE));
    let values: Vec<i32> = list.into_iter().flatten().chain(places).map(|value| value as i32).collect();
    (values, count)
}
