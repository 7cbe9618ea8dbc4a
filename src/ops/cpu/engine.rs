//! The engine itself: its instruction set, the precision of its products, its pool of buffers.

use rayon::prelude::*;

use super::bf16::{Bf16Isa, Bf16Matmul};
use super::buffer::{Buffer, Pool};
use super::math;
use super::simd::{Simd, SimdLevel};
use crate::ops::shapes;
use crate::{Error, Result};

/// Rows of one piece of an element-wise pass, and of one partial sum over rows.
pub(super) const ROWS: usize = 32;
/// Elements of one piece of a pass without rows.
pub(super) const ELEMENTS: usize = 1 << 14;

/// All cores. Cloning shares the pool of buffers.
#[derive(Debug, Clone)]
pub struct Cpu {
    pub(super) simd: Simd,
    /// `None` for products in f32.
    pub(super) bf16: Option<Bf16Matmul>,
    pub(super) pool: Pool,
}

impl Default for Cpu {
    fn default() -> Self {
        Self::new()
    }
}

impl Cpu {
    /// An engine that uses the best instructions of this machine.
    pub fn new() -> Self {
        Self { simd: Simd::detect(), bf16: None, pool: Pool::default() }
    }

    /// An engine whose products are in bf16, computed by `isa`.
    ///
    /// # Errors
    /// [`Error::Config`] when this machine lacks it.
    pub fn with_bf16(isa: Bf16Isa) -> Result<Self> {
        let simd = Simd::detect();
        let message = || format!("this machine does not have {}", isa.name());
        let products = Bf16Matmul::new(isa, simd).ok_or_else(|| Error::config("precision", message()))?;
        Ok(Self { simd, bf16: Some(products), pool: Pool::default() })
    }

    /// An engine with a given instruction set, for tests. The `gemm` crate chooses its own.
    ///
    /// # Errors
    /// [`Error::Config`] when this machine lacks it.
    pub fn with_level(level: SimdLevel) -> Result<Self> {
        let message = || format!("this machine does not have {}", level.name());
        let simd = Simd::new(level).ok_or_else(|| Error::config("instructions", message()))?;
        Ok(Self { simd, bf16: None, pool: Pool::default() })
    }

    /// The instruction set in use.
    pub fn level(&self) -> SimdLevel {
        self.simd.level()
    }

    /// Bytes in buffers that are in use, and in free ones that can be reused.
    pub fn memory(&self) -> (usize, usize) {
        self.pool.bytes()
    }

    /// Give the memory of free buffers back to the system.
    pub fn trim(&self) {
        self.pool.trim();
    }

    /// Sums over rows: `run` adds rows `first..` onto its piece's sums, `(width)`; pieces are added
    /// in order.
    pub(super) fn sums<P: Send>(
        &self,
        pieces: impl IndexedParallelIterator<Item = P>,
        width: usize,
        run: impl Fn(usize, P, &mut [f32]) + Sync,
    ) -> Buffer {
        let mut partial = self.pool.uninit(&[pieces.len(), width]);
        let mut sums = self.pool.zeros(&[width]);
        partial.fill(|partial| {
            pieces.zip(partial.par_chunks_mut(width.max(1))).enumerate().for_each(|(index, (piece, sums))| {
                sums.fill(0.0);
                run(index * ROWS, piece, sums);
            });
            sums.fill(|sums| math::add_columns(self.simd, partial, sums));
        });
        sums
    }
}

/// Rows and columns of a matrix.
pub(super) fn matrix(x: &Buffer) -> Result<(usize, usize)> {
    shapes::matrix(x.shape())
}

/// Refuse a buffer of another shape.
pub(super) fn expect(what: &str, x: &Buffer, shape: &[usize]) -> Result<()> {
    shapes::expect(what, x.shape(), shape)
}
