//! Buffers of f32 from a pool, so that a training step allocates nothing after the first.
//!
//! A fresh large allocation costs a page fault for every 4 KB that is first touched: more than the arithmetic of an
//! element-wise operation. Batches differ in their number of tokens, so a request is served by the smallest free block
//! that fits and is at most half as large again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

/// Floats in a cache line. Every buffer starts at one.
const LINE: usize = 16;

/// Free blocks by capacity, and the accounting that bounds them.
#[derive(Debug, Default)]
struct Shelves {
    free: BTreeMap<usize, Vec<Vec<f32>>>,
    /// Floats in free blocks, in blocks in use, and the most that were ever in use.
    idle: usize,
    live: usize,
    peak: usize,
}

impl Shelves {
    fn take(&mut self, wanted: usize) -> Option<Vec<f32>> {
        let (&capacity, blocks) = self.free.range_mut(wanted..=wanted + wanted / 2).next()?;
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

    /// Put a block back; what is more than a quarter above the peak goes back to the system, smallest blocks first,
    /// because those serve the fewest requests.
    fn give(&mut self, block: Vec<f32>) -> Vec<Vec<f32>> {
        let mut surplus = Vec::new();
        self.live -= block.len();
        self.idle += block.len();
        self.free.entry(block.len()).or_default().push(block);
        while self.idle + self.live > self.peak + self.peak / 4 {
            let Some(mut entry) = self.free.first_entry() else { break };
            self.idle -= entry.key();
            surplus.extend(entry.get_mut().pop());
            if entry.get().is_empty() {
                entry.remove();
            }
        }
        surplus
    }
}

/// Where an engine's buffers come from and go back to.
#[derive(Debug, Clone, Default)]
pub struct Pool {
    shelves: Arc<Mutex<Shelves>>,
}

fn lock(shelves: &Mutex<Shelves>) -> MutexGuard<'_, Shelves> {
    // The lock only guards counters and lists that no panic leaves half-changed.
    shelves.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// A buffer with whatever values its memory had before.
    pub fn dirty(&self, shape: &[usize]) -> Buffer {
        let len = shape.iter().product();
        Buffer { block: Arc::new(self.block(len)), len, shape: shape.into() }
    }

    /// A buffer of zeros.
    pub fn zeros(&self, shape: &[usize]) -> Buffer {
        let mut buffer = self.dirty(shape);
        buffer.fill(|out| out.fill(0.0));
        buffer
    }

    /// A copy of `values`.
    pub fn copy(&self, values: &[f32], shape: &[usize]) -> Buffer {
        debug_assert_eq!(values.len(), shape.iter().product::<usize>());
        let mut buffer = self.dirty(shape);
        buffer.fill(|out| out.copy_from_slice(values));
        buffer
    }

    /// Bytes in buffers that are in use, and in free ones.
    pub fn bytes(&self) -> (usize, usize) {
        let shelves = lock(&self.shelves);
        (4 * shelves.live, 4 * shelves.idle)
    }

    /// Give the memory of free buffers back to the system.
    pub fn trim(&self) {
        let mut shelves = lock(&self.shelves);
        let free = std::mem::take(&mut shelves.free);
        shelves.idle = 0;
        shelves.peak = shelves.live;
        drop(shelves);
        drop(free);
    }

    fn block(&self, len: usize) -> Block {
        let wanted = len.next_multiple_of(LINE) + LINE;
        let mut shelves = lock(&self.shelves);
        let taken = shelves.take(wanted);
        shelves.begin(taken.as_ref().map_or(wanted, Vec::len));
        drop(shelves);
        let memory = taken.unwrap_or_else(|| vec![0.0; wanted]);
        // The memory has one line more than it needs, so that a line's start is always inside.
        let misalignment = memory.as_ptr() as usize % (4 * LINE) / 4;
        let start = (LINE - misalignment) % LINE;
        Block { memory, start, shelves: Arc::downgrade(&self.shelves), packs: Packs::default() }
    }
}

/// A factor of a product in bf16, in tiles: `[outer / 16][inner / 32][tile]`, the rest filled with zeros. `outer` counts rows of a left factor
/// or columns of a right one. In the tiles of a left factor the pairs of one row follow each other, `[16 rows][16 pairs]`;
/// in those of a right factor the columns, `[16 pairs][16 columns]`.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    pub words: Buffer,
    pub outer: usize,
    pub inner: usize,
}

/// A weight in the form in which products read it, from its first product until it changes: the forward's and the
/// backward's.
#[derive(Debug, Default)]
pub(super) struct Packs {
    pub forward: OnceLock<Packed>,
    pub backward: OnceLock<Packed>,
}

/// Memory that goes back to its pool.
#[derive(Debug)]
struct Block {
    memory: Vec<f32>,
    start: usize,
    shelves: Weak<Mutex<Shelves>>,
    packs: Packs,
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(shelves) = self.shelves.upgrade() {
            let surplus = lock(&shelves).give(std::mem::take(&mut self.memory));
            drop(surplus);
        }
    }
}

/// A dense array of f32 that starts at a cache line. Cloning shares it; nothing writes to a shared one.
#[derive(Debug, Clone)]
pub struct Buffer {
    block: Arc<Block>,
    len: usize,
    shape: Box<[usize]>,
}

impl Buffer {
    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Its values in row-major order.
    pub fn values(&self) -> &[f32] {
        &self.block.memory[self.block.start..self.block.start + self.len]
    }

    /// Its packed forms, which last as long as its values do.
    pub(super) fn packs(&self) -> &Packs {
        &self.block.packs
    }

    /// Its values, to be written; `None` when another clone shares them.
    pub fn values_mut(&mut self) -> Option<&mut [f32]> {
        let len = self.len;
        let block = Arc::get_mut(&mut self.block)?;
        block.packs = Packs::default();
        Some(&mut block.memory[block.start..block.start + len])
    }

    /// Write a buffer that was just made or [unshared](Self::unshare).
    pub fn fill<T>(&mut self, write: impl FnOnce(&mut [f32]) -> T) -> T {
        write(self.values_mut().expect("the buffer was made or unshared just before"))
    }

    /// The same values in a buffer that nothing shares: itself, or a copy.
    pub fn owned(mut self, pool: &Pool) -> Self {
        self.unshare(pool);
        self
    }

    /// Become a copy of itself if another clone shares the values.
    pub fn unshare(&mut self, pool: &Pool) {
        if Arc::get_mut(&mut self.block).is_none() {
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
        let mut own = a.owned(&pool);
        own.fill(|values| values[0] = 9.0);
        assert_eq!((b.values(), own.values()), ([1.0, 2.0].as_slice(), [9.0, 2.0].as_slice()));
    }

    /// Free memory stays below a quarter of the peak in use however the sizes vary.
    #[test]
    fn the_pool_is_bounded() {
        let pool = Pool::default();
        let mut peak = 0;
        for step in 0..200 {
            let size = 1000 + (step * 7919) % 3000;
            let held: Vec<Buffer> = (0..10).map(|i| pool.dirty(&[size + i * 100])).collect();
            peak = peak.max(pool.bytes().0);
            drop(held);
            let (live, idle) = pool.bytes();
            assert_eq!(live, 0);
            assert!(idle <= peak + peak / 4, "{idle} {peak}");
        }
        pool.trim();
        assert_eq!(pool.bytes(), (0, 0));
    }
}
