//! Buffers of f32 from a pool, so that a training step allocates nothing after the first.
//!
//! A fresh large allocation costs a page fault for every 4 KB that is first touched: more than the
//! arithmetic of an element-wise operation. Batches differ in their number of tokens, so a request
//! is served by the smallest free block that fits and is at most twice as large.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

/// Floats in a cache line. Every buffer starts at one.
const LINE: usize = 16;

/// Free blocks by capacity, and the accounting that bounds them.
#[derive(Debug, Default)]
struct PoolState {
    free: BTreeMap<usize, Vec<Vec<f32>>>,
    /// Floats in free blocks, in blocks in use, and the most that were ever in use.
    idle: usize,
    live: usize,
    peak: usize,
}

impl PoolState {
    fn take(&mut self, requested: usize) -> Option<Vec<f32>> {
        let (&capacity, blocks) = self.free.range_mut(requested..=2 * requested).next()?;
        let block = blocks.pop();
        if blocks.is_empty() {
            self.free.remove(&capacity);
        }
        self.idle -= capacity;
        block
    }

    fn begin(&mut self, capacity: usize) {
        self.live += capacity;
        self.peak = self.peak.max(self.live);
    }

    /// Put a block back. The memory that exceeds the peak by more than a quarter goes back to the
    /// system, largest blocks first: one of them makes as much room as many small ones, which most
    /// requests are for.
    fn give(&mut self, block: Vec<f32>) -> Vec<Vec<f32>> {
        let mut surplus = Vec::new();
        self.live -= block.len();
        self.idle += block.len();
        self.free.entry(block.len()).or_default().push(block);
        while self.idle + self.live > self.peak + self.peak / 4 {
            let Some(mut entry) = self.free.last_entry() else { break };
            self.idle -= entry.key();
            surplus.extend(entry.get_mut().pop());
            if entry.get().is_empty() {
                entry.remove();
            }
        }
        surplus
    }
}

/// The pool of an engine's buffers.
#[derive(Debug, Clone, Default)]
pub struct Pool {
    state: Arc<Mutex<PoolState>>,
}

fn lock(state: &Mutex<PoolState>) -> MutexGuard<'_, PoolState> {
    // The lock only guards counters and lists that no panic leaves half-changed.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// A buffer of undefined content.
    pub fn uninit(&self, shape: &[usize]) -> Buffer {
        let len = shape.iter().product();
        Buffer { block: Arc::new(self.block(len)), len, shape: shape.into(), rows: None }
    }

    /// A matrix of `shape` that is zero but for the rows `indices`, which ascend; `write` gets the
    /// memory of these rows, of undefined content.
    pub(super) fn rows(&self, shape: [usize; 2], indices: Vec<u32>, write: impl FnOnce(&mut [f32])) -> Buffer {
        debug_assert!(indices.is_sorted_by(|a, b| a < b) && indices.last().is_none_or(|i| (*i as usize) < shape[0]));
        let mut buffer = self.uninit(&[indices.len(), shape[1]]);
        buffer.fill(write);
        let rows = Some(Arc::new(StoredRows { indices, dense: OnceLock::new() }));
        Buffer { len: shape[0] * shape[1], shape: shape.into(), rows, ..buffer }
    }

    /// A buffer of zeros.
    pub fn zeros(&self, shape: &[usize]) -> Buffer {
        let mut buffer = self.uninit(shape);
        buffer.fill(|out| out.fill(0.0));
        buffer
    }

    /// A copy of `values`.
    pub fn copy(&self, values: &[f32], shape: &[usize]) -> Buffer {
        debug_assert_eq!(values.len(), shape.iter().product::<usize>());
        let mut buffer = self.uninit(shape);
        buffer.fill(|out| out.copy_from_slice(values));
        buffer
    }

    /// Bytes in buffers that are in use, and in free ones.
    pub fn bytes(&self) -> (usize, usize) {
        let state = lock(&self.state);
        (4 * state.live, 4 * state.idle)
    }

    /// Give the memory of free buffers back to the system.
    pub fn trim(&self) {
        let mut state = lock(&self.state);
        let free = std::mem::take(&mut state.free);
        state.idle = 0;
        state.peak = state.live;
        drop(state);
        drop(free);
    }

    fn block(&self, len: usize) -> Block {
        let requested = len.next_multiple_of(LINE) + LINE;
        let mut state = lock(&self.state);
        let taken = state.take(requested);
        state.begin(taken.as_ref().map_or(requested, Vec::len));
        drop(state);
        let memory = taken.unwrap_or_else(|| vec![0.0; requested]);
        // The memory has one extra line, so that the start of a line is always inside.
        let misalignment = memory.as_ptr() as usize % (4 * LINE) / 4;
        let start = (LINE - misalignment) % LINE;
        Block { memory, start, state: Arc::downgrade(&self.state), packed: PackedWeight::default(), active: None }
    }
}

/// An operand of a product in bf16, in tiles: `[outer / 16][inner / 32][tile]`, the rest filled
/// with zeros. `outer` counts rows of a left operand or columns of a right one. In the tiles of a
/// left operand the pairs of one row follow each other, `[16 rows][16 pairs]`; in those of a right
/// operand the columns, `[16 pairs][16 columns]`.
#[derive(Debug, Clone)]
pub(super) struct PackedOperand {
    pub words: Buffer,
    pub outer: usize,
    pub inner: usize,
}

/// A weight, packed for matrix products in bf16: for the forward and for the backward. It lasts
/// from its first product until the weight changes.
#[derive(Debug, Default)]
pub(super) struct PackedWeight {
    pub forward: OnceLock<PackedOperand>,
    pub backward: OnceLock<PackedOperand>,
}

/// Memory that goes back to its pool.
#[derive(Debug)]
struct Block {
    memory: Vec<f32>,
    start: usize,
    state: Weak<Mutex<PoolState>>,
    packed: PackedWeight,
    /// See [`Buffer::take_active`].
    active: Option<Vec<bool>>,
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(state) = self.state.upgrade() {
            let surplus = lock(&state).give(std::mem::take(&mut self.memory));
            drop(surplus);
        }
    }
}

/// Which rows of a matrix its block stores.
#[derive(Debug)]
struct StoredRows {
    indices: Vec<u32>,
    /// All rows, made when they are first asked for.
    dense: OnceLock<Block>,
}

/// An array of f32 that starts at a cache line. Cloning shares it; nothing writes to a shared one.
///
/// The gradient of an embedding table stores only the rows that a batch reads, a hundredth of them.
#[derive(Debug, Clone)]
pub struct Buffer {
    block: Arc<Block>,
    len: usize,
    shape: Box<[usize]>,
    rows: Option<Arc<StoredRows>>,
}

impl Buffer {
    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Its values in row-major order.
    pub fn values(&self) -> &[f32] {
        let block = self.rows.as_ref().map_or(&*self.block, |rows| rows.dense.get_or_init(|| self.dense(rows)));
        &block.memory[block.start..][..self.len]
    }

    /// The indices and values of the rows that are stored, if the others are zero.
    pub(super) fn stored_rows(&self) -> Option<(&[u32], &[f32])> {
        let indices = &self.rows.as_ref()?.indices;
        let width = self.len / self.shape[0].max(1);
        Some((indices, &self.block.memory[self.block.start..][..indices.len() * width]))
    }

    /// All rows of a buffer that stores `rows`.
    fn dense(&self, rows: &StoredRows) -> Block {
        let pool = Pool { state: self.block.state.upgrade().unwrap_or_default() };
        let width = self.len / self.shape[0].max(1);
        let mut block = pool.block(self.len);
        let dense = &mut block.memory[block.start..][..self.len];
        dense.fill(0.0);
        let stored = self.block.memory[self.block.start..].chunks(width.max(1));
        for (index, row) in rows.indices.iter().zip(stored) {
            dense[*index as usize * width..][..width].copy_from_slice(row);
        }
        block
    }

    /// Whether each row was ever changed, if that is known; forgotten when the values are written.
    pub(super) fn take_active(&mut self) -> Option<Vec<bool>> {
        Arc::get_mut(&mut self.block)?.active.take()
    }

    /// Remember which rows were ever changed, until the values are written.
    pub(super) fn set_active(&mut self, active: Vec<bool>) {
        if let Some(block) = Arc::get_mut(&mut self.block) {
            block.active = Some(active);
        }
    }

    /// Its packed forms, which last as long as its values do.
    pub(super) fn packed(&self) -> &PackedWeight {
        &self.block.packed
    }

    /// Its values, to be written; `None` when another clone shares them, or not all are stored.
    pub fn values_mut(&mut self) -> Option<&mut [f32]> {
        if self.rows.is_some() {
            return None;
        }
        let len = self.len;
        let block = Arc::get_mut(&mut self.block)?;
        block.packed = PackedWeight::default();
        block.active = None;
        Some(&mut block.memory[block.start..block.start + len])
    }

    /// Write a buffer that was just made or [made unique](Self::make_unique).
    pub fn fill<T>(&mut self, write: impl FnOnce(&mut [f32]) -> T) -> T {
        write(self.values_mut().expect("the buffer was made, or made unique, just before"))
    }

    /// The buffer itself if nothing shares it, else a copy.
    pub fn into_unique(mut self, pool: &Pool) -> Self {
        self.make_unique(pool);
        self
    }

    /// Become a copy of itself if another clone shares the values, or not all are stored.
    pub fn make_unique(&mut self, pool: &Pool) {
        if self.rows.is_some() || Arc::get_mut(&mut self.block).is_none() {
            *self = pool.copy(self.values(), &self.shape);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_reused() {
        let pool = Pool::default();
        let mut places = Vec::new();
        for _ in 0..3 {
            let buffer = pool.zeros(&[7, 3]);
            assert_eq!(buffer.values(), [0.0; 21]);
            assert_eq!(buffer.values().as_ptr() as usize % 64, 0);
            places.push(buffer.values().as_ptr() as usize);
            let mut buffer = buffer;
            buffer.fill(|values| values.fill(5.0));
        }
        assert!(places.iter().all(|place| *place == places[0]), "{places:?}");
        assert!(pool.zeros(&[0]).values().is_empty());
    }

    #[test]
    fn sharing_forbids_writing() {
        let pool = Pool::default();
        let mut a = pool.copy(&[1.0, 2.0], &[2]);
        let b = a.clone();
        assert!(a.values_mut().is_none());
        let mut own = a.into_unique(&pool);
        own.fill(|values| values[0] = 9.0);
        assert_eq!((b.values(), own.values()), ([1.0, 2.0].as_slice(), [9.0, 2.0].as_slice()));
    }

    #[test]
    fn rows_that_are_not_stored_are_zero() {
        let pool = Pool::default();
        let mut sparse = pool.rows([4, 2], vec![1, 3], |rows| rows.copy_from_slice(&[1.0, 2.0, 3.0, 4.0]));
        assert_eq!(sparse.stored_rows(), Some(([1, 3].as_slice(), [1.0, 2.0, 3.0, 4.0].as_slice())));
        assert_eq!(
            (sparse.shape(), sparse.values()),
            ([4, 2].as_slice(), [0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 3.0, 4.0].as_slice())
        );
        assert!(sparse.values_mut().is_none());
        let mut dense = sparse.clone().into_unique(&pool);
        dense.fill(|values| values[0] = 5.0);
        assert_eq!((dense.values()[0], dense.values()[6], sparse.values()[0]), (5.0, 3.0, 0.0));
        assert!(dense.stored_rows().is_none());
        let live = pool.bytes().0;
        drop((sparse, dense));
        assert!(live > 0 && pool.bytes().0 == 0);
    }

    #[test]
    fn writing_forgets_which_rows_were_changed() {
        let pool = Pool::default();
        let mut buffer = pool.zeros(&[2, 1]);
        buffer.set_active(vec![true, false]);
        assert_eq!(buffer.take_active(), Some(vec![true, false]));
        buffer.set_active(vec![true, false]);
        buffer.fill(|values| values[1] = 1.0);
        assert_eq!(buffer.take_active(), None);
    }

    #[test]
    fn a_large_block_makes_room_before_small_ones() {
        let mut state = PoolState::default();
        (0..20).for_each(|_| state.begin(100));
        (0..20).for_each(|_| assert!(state.give(vec![0.0; 100]).is_empty()));
        state.begin(2400);
        assert_eq!(state.give(vec![0.0; 2400]).iter().map(Vec::len).collect::<Vec<_>>(), [2400]);
        assert_eq!(state.take(100).map(|block| block.len()), Some(100));
    }

    /// Free memory stays below a quarter of the peak in use however the sizes vary.
    #[test]
    fn the_pool_is_bounded() {
        let pool = Pool::default();
        let mut peak = 0;
        for step in 0..200 {
            let size = 1000 + (step * 7919) % 3000;
            let buffers: Vec<Buffer> = (0..10).map(|i| pool.uninit(&[size + i * 100])).collect();
            peak = peak.max(pool.bytes().0);
            drop(buffers);
            let (live, idle) = pool.bytes();
            assert_eq!(live, 0);
            assert!(idle <= peak + peak / 4, "{idle} {peak}");
        }
        pool.trim();
        assert_eq!(pool.bytes(), (0, 0));
    }
}
