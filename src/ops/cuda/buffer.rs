//! Arrays on the device, and the pool that their memory comes from.
//!
//! An array exists as f32, as bf16, or as both: the residual stream is read in f32 by the next
//! LayerNorm and in bf16 by the next product, a weight in f32 by the optimizer and in bf16 by
//! products. A missing form is computed when it is first needed, and kept.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use super::device::{Device, Dtype};
use crate::Result;

/// Allocations are multiples of this, so that free blocks fit more requests.
const UNIT: usize = 4096;

/// Free blocks by size, and the accounting that bounds them.
struct PoolState<M> {
    free: BTreeMap<usize, Vec<M>>,
    /// Bytes in free blocks, in blocks in use, and the most that were ever in use.
    idle: usize,
    live: usize,
    peak: usize,
}

fn lock<M>(state: &Mutex<PoolState<M>>) -> MutexGuard<'_, PoolState<M>> {
    // The lock only guards counters and lists that no panic leaves half-changed.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Memory of a device, reused in the order of its queue: a dropped block may be reused immediately,
/// because the work of its new owner runs after that of the old one.
pub struct Pool<D: Device> {
    device: Arc<D>,
    state: Arc<Mutex<PoolState<D::Memory>>>,
    reuse: bool,
}

impl<D: Device> Clone for Pool<D> {
    fn clone(&self) -> Self {
        Self { device: self.device.clone(), state: self.state.clone(), reuse: self.reuse }
    }
}

impl<D: Device> Pool<D> {
    /// Without `reuse` every block has exactly the requested size and is freed when dropped, so
    /// that a memory checker sees every access out of bounds.
    pub fn new(device: Arc<D>, reuse: bool) -> Self {
        let state = PoolState { free: BTreeMap::new(), idle: 0, live: 0, peak: 0 };
        Self { device, state: Arc::new(Mutex::new(state)), reuse }
    }

    /// Memory of undefined content.
    pub fn block(&self, bytes: usize) -> Result<Block<D>> {
        let requested = if self.reuse { bytes.max(1).next_multiple_of(UNIT) } else { bytes.max(1) };
        let mut state = lock(&self.state);
        let taken = state.take(requested);
        drop(state);
        let (bytes, memory) = match taken {
            Some(taken) => taken,
            None => match self.device.allocate(requested) {
                Ok(memory) => (requested, memory),
                Err(_) => {
                    self.trim();
                    (requested, self.device.allocate(requested)?)
                }
            },
        };
        let mut state = lock(&self.state);
        state.live += bytes;
        state.peak = state.peak.max(state.live);
        drop(state);
        let address = self.device.address(&memory);
        let state = if self.reuse { Arc::downgrade(&self.state) } else { Weak::new() };
        Ok(Block { memory: Some(memory), address, bytes, state })
    }

    /// Whether blocks are used again.
    pub fn reuses(&self) -> bool {
        self.reuse
    }

    /// Bytes in blocks that are in use, and in free ones.
    pub fn bytes(&self) -> (usize, usize) {
        let state = lock(&self.state);
        (state.live, state.idle)
    }

    /// Give the memory of free blocks back to the device.
    pub fn trim(&self) {
        let mut state = lock(&self.state);
        let free = std::mem::take(&mut state.free);
        state.idle = 0;
        state.peak = state.live;
        drop(state);
        drop(free);
    }
}

impl<M> PoolState<M> {
    /// The smallest free block that fits and is at most half as large again.
    fn take(&mut self, requested: usize) -> Option<(usize, M)> {
        let (&bytes, blocks) = self.free.range_mut(requested..=requested + requested / 2).next()?;
        let memory = blocks.pop();
        if blocks.is_empty() {
            self.free.remove(&bytes);
        }
        self.idle -= bytes;
        memory.map(|memory| (bytes, memory))
    }

    /// Put a block back. The memory that exceeds the peak by more than a quarter is returned to be
    /// freed, smallest blocks first, because those serve the fewest requests.
    fn give(&mut self, bytes: usize, memory: M) -> Vec<M> {
        let mut surplus = Vec::new();
        self.live -= bytes;
        self.idle += bytes;
        self.free.entry(bytes).or_default().push(memory);
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

/// Memory that goes back to its pool.
pub struct Block<D: Device> {
    /// `None` only while it is dropped.
    memory: Option<D::Memory>,
    address: u64,
    bytes: usize,
    state: Weak<Mutex<PoolState<D::Memory>>>,
}

impl<D: Device> Block<D> {
    /// Address of its first byte.
    pub fn address(&self) -> u64 {
        self.address
    }
}

impl<D: Device> Drop for Block<D> {
    fn drop(&mut self) {
        if let (Some(memory), Some(state)) = (self.memory.take(), self.state.upgrade()) {
            let surplus = lock(&state).give(self.bytes, memory);
            drop(surplus);
        }
    }
}

/// Some rows of a matrix whose other rows are 0: the gradient of a table of which a batch reads a few rows.
pub struct SomeRows<D: Device> {
    /// (rows, width)
    pub values: Block<D>,
    /// For each row of the matrix, 1 + its place among them, or 0.
    pub places: Block<D>,
    /// How many they are.
    pub rows: usize,
}

/// An array. Cloning shares it; nothing writes to a shared one.
pub struct Buffer<D: Device> {
    shape: Box<[usize]>,
    forms: Arc<Forms<D>>,
}

/// At least one is set.
struct Forms<D: Device> {
    f32: OnceLock<Block<D>>,
    bf16: OnceLock<Block<D>>,
    rows: Option<SomeRows<D>>,
    /// Whether the kernel that writes it is still to be enqueued.
    pending: AtomicBool,
}

impl<D: Device> Clone for Buffer<D> {
    fn clone(&self) -> Self {
        Self { shape: self.shape.clone(), forms: self.forms.clone() }
    }
}

impl<D: Device> Buffer<D> {
    /// An array in the given forms.
    pub fn new(shape: &[usize], f32: Option<Block<D>>, bf16: Option<Block<D>>) -> Self {
        let pending = AtomicBool::new(false);
        let forms = Forms { f32: OnceLock::new(), bf16: OnceLock::new(), rows: None, pending };
        let _ = f32.map(|block| forms.f32.set(block));
        let _ = bf16.map(|block| forms.bf16.set(block));
        Self { shape: shape.into(), forms: Arc::new(forms) }
    }

    /// A matrix of which some rows are given. Its f32 form is made when something needs it.
    pub fn of_rows(shape: &[usize], rows: SomeRows<D>) -> Self {
        let pending = AtomicBool::new(false);
        let forms = Forms { f32: OnceLock::new(), bf16: OnceLock::new(), rows: Some(rows), pending };
        Self { shape: shape.into(), forms: Arc::new(forms) }
    }

    /// The same elements in another shape.
    pub fn reshaped(mut self, shape: &[usize]) -> Self {
        debug_assert_eq!(self.elements(), shape.iter().product::<usize>());
        self.shape = shape.into();
        self
    }

    /// Its rows that are not 0, unless it has all of them.
    pub fn some_rows(&self) -> Option<&SomeRows<D>> {
        self.forms.rows.as_ref().filter(|_| self.forms.f32.get().is_none())
    }

    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Address of a form, if it exists.
    pub fn address(&self, element: Dtype) -> Option<u64> {
        self.form(element).get().map(Block::address)
    }

    /// Add a form with the same values; the first one stays.
    pub fn add(&self, element: Dtype, block: Block<D>) {
        let _ = self.form(element).set(block);
    }

    /// Whether the kernel that writes it is still to be enqueued (`reductions.rs`).
    pub fn is_pending(&self) -> bool {
        self.forms.pending.load(Ordering::Acquire)
    }

    /// Set whether it is.
    pub fn set_pending(&self, pending: bool) {
        self.forms.pending.store(pending, Ordering::Release);
    }

    /// Whether no clone shares it.
    pub fn is_unique(&self) -> bool {
        Arc::strong_count(&self.forms) == 1
    }

    fn form(&self, element: Dtype) -> &OnceLock<Block<D>> {
        match element {
            Dtype::F32 => &self.forms.f32,
            Dtype::Bf16 => &self.forms.bf16,
        }
    }
}
