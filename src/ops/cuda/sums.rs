//! Sums over rows, the gradients of biases and LayerNorms, in two stages. The first leaves partial sums behind; the second
//! waits until one of its results is read, and then one launch does it for all that wait: once a step instead of four times a
//! layer. Their partial sums stay in memory until then, (parts, columns) each.

use std::sync::PoisonError;

use super::buffer::{Block, Buffer};
use super::device::{Device, argument};
use super::engine::{Cuda, Plain, blocks};
use super::shapes::matrix;
use crate::Result;

/// Rows of one partial sum: SUM_ROWS of columns.cuh.
pub(super) const SUM_ROWS: usize = 16;

/// A second stage that waits.
pub(super) struct Waiting<D: Device> {
    partial: Block<D>,
    parts: usize,
    outputs: Vec<Buffer<D>>,
}

/// `Reduction` of the kernels.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct Reduction {
    partial: u64,
    out: [u64; 3],
    parts: i32,
    width: i32,
    each: i32,
    first: u32,
}
// SAFETY: four eight-byte numbers and four of four bytes: no padding.
unsafe impl Plain for Reduction {}

impl<D: Device> Cuda<D> {
    pub(super) fn sum_columns(&self, dy: &Buffer<D>) -> Result<Buffer<D>> {
        let (rows, width) = matrix(dy)?;
        let parts = rows.div_ceil(SUM_ROWS);
        let partial = self.pool.block(4 * parts * width)?;
        let (partial_at, x) = (partial.address(), self.input(dy)?);
        let (rows, width32) = (rows as i32, width as i32);
        let mut arguments = [argument(&rows), argument(&width32), argument(&x), argument(&partial_at)];
        // SAFETY: (int, int, In, float*).
        unsafe { self.launch("column_sum", [blocks(width, 128), parts as u32, 1], 128, 0, &mut arguments)? };
        let [out] = self.reduced(partial, parts, width)?;
        Ok(out)
    }

    /// Sums of (parts, N * each) partial sums, which follow each other in the columns. They are computed when one of them is
    /// read.
    pub(super) fn reduced<const N: usize>(
        &self,
        partial: Block<D>,
        parts: usize,
        each: usize,
    ) -> Result<[Buffer<D>; N]> {
        let outputs: Vec<Buffer<D>> = (0..N).map(|_| Ok(self.floats(&[each])?.0)).collect::<Result<_>>()?;
        let mut waiting = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        // What nobody can read any more need not be computed.
        waiting.retain(|sum| !sum.outputs.iter().all(Buffer::is_unshared));
        outputs.iter().for_each(|output| output.set_waiting(true));
        let Ok(handed) = outputs.clone().try_into() else { unreachable!("there are N") };
        waiting.push(Waiting { partial, parts, outputs });
        Ok(handed)
    }

    /// Enqueue all second stages that wait.
    pub(super) fn add_up(&self) -> Result<()> {
        // Held to the end: who finds nothing waiting must find the sums enqueued.
        let mut waiting = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let mut items = Vec::new();
        let mut first = 0;
        for Waiting { partial, parts, outputs } in waiting.iter() {
            let mut out = [0; 3];
            for (out, output) in out.iter_mut().zip(outputs) {
                *out = output.address(super::device::Element::F32).unwrap_or(0);
            }
            let each = outputs.first().map_or(0, Buffer::elements);
            let width = each * outputs.len();
            if width > 0 {
                let (parts, width32, each) = (*parts as i32, width as i32, each as i32);
                items.push(Reduction { partial: partial.address(), out, parts, width: width32, each, first });
                first += blocks(width, 32);
            }
        }
        let list = self.send(&items)?;
        let (items, count) = (list.address(), items.len() as i32);
        let mut arguments = [argument(&items), argument(&count)];
        // SAFETY: (const Reduction*, int); every item has its arrays.
        unsafe { self.launch("column_reduce", [first, 1, 1], 256, 4 * 256, &mut arguments)? };
        for output in waiting.drain(..).flat_map(|sum| sum.outputs) {
            output.set_waiting(false);
        }
        Ok(())
    }
}
