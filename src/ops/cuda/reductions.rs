//! Sums over rows, which are the gradients of biases and LayerNorms, in two stages. The first
//! writes partial sums, (parts, columns). The second is deferred until one of its results is read;
//! one launch then computes all pending ones: once a step instead of four times a layer.

use std::sync::{Mutex, PoisonError};

use super::buffer::{Block, Buffer};
use super::device::{Device, Dtype};
use super::parameters::{Plain, blocks};
use crate::Result;

/// Rows of one partial sum: SUM_ROWS of reductions.cuh.
pub(super) const SUM_ROWS: usize = 16;
/// Columns of one block of the second stage.
const COLUMNS: usize = 32;

/// A deferred second stage.
struct PendingReduction<D: Device> {
    partial: Block<D>,
    parts: usize,
    each: usize,
    outputs: Vec<Buffer<D>>,
}

/// `Reduction` of the kernels.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Reduction {
    partial: u64,
    out: [u64; 3],
    parts: i32,
    width: i32,
    each: i32,
    first: u32,
}
// SAFETY: four eight-byte numbers and four of four bytes: no padding.
unsafe impl Plain for Reduction {}

/// The deferred second stages.
pub(super) struct Reductions<D: Device>(Mutex<Vec<PendingReduction<D>>>);

impl<D: Device> Default for Reductions<D> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<D: Device> Reductions<D> {
    /// Defer the sums of (parts, N * each) partial sums, N results side by side, until one of them
    /// is read. A result has at least `each` elements.
    pub fn add<const N: usize>(
        &self,
        partial: Block<D>,
        parts: usize,
        each: usize,
        outputs: [Buffer<D>; N],
    ) -> [Buffer<D>; N] {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What nobody can read any more need not be computed.
        pending.retain(|sum| !sum.outputs.iter().all(Buffer::is_unique));
        outputs.iter().for_each(|output| output.set_pending(true));
        pending.push(PendingReduction { partial, parts, each, outputs: outputs.to_vec() });
        outputs
    }

    /// Enqueue all deferred sums. `launch` receives the list for the kernel and the number of its
    /// blocks.
    pub fn flush<T>(&self, launch: impl FnOnce(&[Reduction], u32) -> Result<T>) -> Result<T> {
        // Locked to the end: who finds nothing pending must find the sums enqueued.
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut items = Vec::new();
        let mut first = 0;
        for PendingReduction { partial, parts, each, outputs } in pending.iter() {
            let mut out = [0; 3];
            for (out, output) in out.iter_mut().zip(outputs) {
                *out = output.address(Dtype::F32).unwrap_or(0);
            }
            let width = each * outputs.len();
            if width > 0 {
                let (parts, width32, each) = (*parts as i32, width as i32, *each as i32);
                items.push(Reduction { partial: partial.address(), out, parts, width: width32, each, first });
                first += blocks(width, COLUMNS);
            }
        }
        let launched = launch(&items, first)?;
        for output in pending.drain(..).flat_map(|sum| sum.outputs) {
            output.set_pending(false);
        }
        Ok(launched)
    }
}
