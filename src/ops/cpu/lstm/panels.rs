//! The recurrent weight and rows of gates, rearranged by blocks of units.

use rayon::prelude::*;

use super::cell::Cell;
use super::gates::UNITS;

/// Sizes of a recurrence: H, and H padded to whole blocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Width {
    pub hidden: usize,
    pub full: usize,
}

impl Width {
    /// From `(H)` to whole blocks: the values of a row of four gates as its blocks have them, zeros
    /// beyond H.
    pub fn into_blocks<T: Cell>(self, row: &[T], out: &mut [T]) {
        for (block, out) in out.chunks_exact_mut(4 * UNITS).enumerate() {
            for (gate, out) in out.chunks_exact_mut(UNITS).enumerate() {
                let units = block * UNITS..self.hidden.min((block + 1) * UNITS);
                let (out, rest) = out.split_at_mut(units.len());
                out.copy_from_slice(&row[gate * self.hidden + units.start..gate * self.hidden + units.end]);
                rest.fill(T::ZERO);
            }
        }
    }

    /// The inverse of [`Self::into_blocks`].
    pub fn out_of_blocks<T: Cell>(self, blocks: &[T], row: &mut [T]) {
        for (block, blocks) in blocks.chunks_exact(4 * UNITS).enumerate() {
            for (gate, values) in blocks.chunks_exact(UNITS).enumerate() {
                let units = block * UNITS..self.hidden.min((block + 1) * UNITS);
                row[gate * self.hidden + units.start..gate * self.hidden + units.end]
                    .copy_from_slice(&values[..units.len()]);
            }
        }
    }

    /// `W_hh` by blocks of the units that are computed, each `(H, 4 UNITS)`.
    pub fn panels_forward<T: Cell>(self, recurrent: &[T]) -> Vec<T> {
        let mut panels = vec![T::ZERO; 4 * self.full * self.full];
        panels.par_chunks_mut((self.full * 4 * UNITS).max(1)).enumerate().for_each(|(block, panel)| {
            for gate in 0..4 {
                for unit in 0..UNITS.min(self.hidden - block * UNITS) {
                    let row = gate * self.hidden + block * UNITS + unit;
                    let weights = &recurrent[row * self.hidden..(row + 1) * self.hidden];
                    for (k, weight) in weights.iter().enumerate() {
                        panel[k * 4 * UNITS + gate * UNITS + unit] = *weight;
                    }
                }
            }
        });
        panels
    }

    /// `W_hh` by blocks of the units that gradients go back to, each `(4H, UNITS)`, rows in the
    /// order of the blocks.
    pub fn panels_backward<T: Cell>(self, recurrent: &[T]) -> Vec<T> {
        let mut panels = vec![T::ZERO; 4 * self.full * self.full];
        panels.par_chunks_mut((4 * self.full * UNITS).max(1)).enumerate().for_each(|(to, panel)| {
            let units = to * UNITS..self.hidden.min((to + 1) * UNITS);
            for (row, out) in panel.chunks_exact_mut(UNITS).enumerate() {
                let (block, gate, unit) = (row / (4 * UNITS), row / UNITS % 4, row % UNITS);
                if block * UNITS + unit < self.hidden {
                    let from = (gate * self.hidden + block * UNITS + unit) * self.hidden;
                    out[..units.len()].copy_from_slice(&recurrent[from + units.start..from + units.end]);
                }
            }
        });
        panels
    }
}
