//! Matrix products in bf16 with sums in f32, for processors that have instructions for them.
//!
//! Both operands are packed into contiguous tiles of 16 x 32 numbers (1 KB), whatever their
//! orientation in memory. Such a tile fits into an AMX tile register, and the AVX-512 instruction
//! reads it in order. A weight stays packed until it changes (see `PackedWeight` in `buffer.rs`).
//!
//! `out = left right`, cut into panels of columns whose part of `right` stays in the second-level
//! cache, and each panel into pieces of rows. Every element of `out` is summed by one thread in one
//! order, so the bits do not depend on the number of threads.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
mod amx_emulator;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod pack;
mod tile;

use rayon::prelude::*;

use self::pack::Packer;
pub(super) use self::tile::Start;
use self::tile::{DEPTH, Piece, SIDE, TILE, unpack};
use super::buffer::{PackedOperand, Pool};
use super::matmul::{Matrix, MatrixMut};
use super::simd::{Simd, kernel};

/// The instructions that compute matrix products in bf16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bf16Isa {
    /// Plain loops: correct everywhere, and slower than f32.
    Portable,
    /// `vdpbf16ps` of AVX-512-BF16.
    Avx512,
    /// The tile registers of AMX.
    Amx,
}

impl Bf16Isa {
    /// All of them, slowest first.
    pub const ALL: [Self; 3] = [Self::Portable, Self::Avx512, Self::Amx];

    /// Whether this machine and its operating system support them.
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::has_avx512(),
            #[cfg(target_arch = "x86_64")]
            Self::Amx => amx::has_amx(),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx512 | Self::Amx => false,
        }
    }

    /// The fastest of this machine.
    pub fn detect() -> Self {
        Self::ALL.into_iter().rev().find(|isa| isa.is_available()).unwrap_or(Self::Portable)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "bf16 without instructions for it",
            Self::Avx512 => "avx512_bf16",
            Self::Amx => "amx_bf16",
        }
    }
}

/// Instructions that this machine was found to have, and the instruction set of everything else.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bf16Matmul {
    isa: Bf16Isa,
    simd: Simd,
}

/// Bytes of a panel of the right operand: with the data that streams past it, it fits well into a
/// second-level cache.
const PANEL: usize = 384 << 10;
/// The number of adjacent tiles in a panel is a multiple of this. Each instruction set computes
/// a divisor of it at a time.
const ABREAST: usize = 6;
/// Row blocks of one task at most; a panel is read once for each.
const BLOCKS: usize = 8;

impl Bf16Matmul {
    /// `None` when this machine lacks the instructions.
    pub(super) fn new(isa: Bf16Isa, simd: Simd) -> Option<Self> {
        isa.is_available().then_some(Self { isa, simd })
    }

    fn packer(self) -> Packer {
        Packer { simd: self.simd, rounding: self.isa != Bf16Isa::Portable && Bf16Isa::Avx512.is_available() }
    }

    /// Rows of `x` become rows of a left operand.
    pub(super) fn left(self, pool: &Pool, x: Matrix<'_, f32>) -> PackedOperand {
        pack::along_rows(self.packer(), pool, x, false)
    }

    /// Columns of `x` become rows of a left operand: the operand is the transpose of `x`.
    pub(super) fn left_transposed(self, pool: &Pool, x: Matrix<'_, f32>) -> PackedOperand {
        pack::along_columns(self.packer(), pool, x, true)
    }

    /// Columns of `x` become columns of a right operand.
    pub(super) fn right(self, pool: &Pool, x: Matrix<'_, f32>) -> PackedOperand {
        pack::along_columns(self.packer(), pool, x, false)
    }

    /// Rows of `x` become columns of a right operand: the operand is the transpose of `x`.
    pub(super) fn right_transposed(self, pool: &Pool, x: Matrix<'_, f32>) -> PackedOperand {
        pack::along_rows(self.packer(), pool, x, true)
    }

    /// `out = start + left right`, `out` dense and row-major.
    pub(super) fn matmul(self, out: &mut [f32], left: &PackedOperand, right: &PackedOperand, start: Start<'_>) {
        let (rows, columns) = (left.outer, right.outer);
        assert_eq!(left.inner, right.inner, "inner sizes of a product");
        if rows == 0 || columns == 0 {
            return;
        }
        let column_bytes = 2 * SIDE * right.depth().max(1) * DEPTH;
        let mut panel = (PANEL / column_bytes / ABREAST * ABREAST).max(ABREAST);
        // With few rows, the panels must be enough for all threads.
        let threads = rayon::current_num_threads();
        let pieces = left.blocks().div_ceil(BLOCKS);
        if pieces < 2 * threads {
            let panels = (2 * threads).div_ceil(pieces);
            panel = panel.min(right.blocks().div_ceil(panels).next_multiple_of(ABREAST));
        }
        let mut tasks = Vec::new();
        for (index, strip) in MatrixMut::new(out, rows, columns).split_columns(panel * SIDE).enumerate() {
            for (piece, part) in strip.split_rows(BLOCKS * SIDE).enumerate() {
                tasks.push((piece * BLOCKS, index * panel, part));
            }
        }
        // Panel by panel, so that neighbouring tasks of a thread find theirs in the cache.
        tasks.into_par_iter().for_each(|(block, tile, mut part)| {
            let piece = Piece { left, right, block, tile, start };
            match self.isa {
                // An empty sum: only the initial value is written.
                _ if left.inner == 0 => portable(self.simd, &piece, &mut part),
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the unit is available; the operands have the tiles of the piece.
                Bf16Isa::Avx512 => unsafe { avx512::avx512(&piece, &mut part) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                Bf16Isa::Amx => unsafe { amx::amx(&piece, &mut part) },
                _ => portable(self.simd, &piece, &mut part),
            }
        });
    }
}

fn portable(simd: Simd, piece: &Piece<'_>, out: &mut MatrixMut<'_, f32>) {
    let depth = piece.left.depth();
    let mut sums = [0.0; SIDE * SIDE];
    for top in (0..out.rows()).step_by(SIDE) {
        let left = piece.left.block(piece.block + top / SIDE);
        for first in (0..out.columns()).step_by(SIDE) {
            let right = piece.right.block(piece.tile + first / SIDE);
            let (height, width) = (SIDE.min(out.rows() - top), SIDE.min(out.columns() - first));
            let shared = piece.start_row(first, width);
            for (row, sums) in sums.chunks_exact_mut(SIDE).enumerate().take(height) {
                match (piece.start, shared) {
                    (Start::Accumulate, _) => {
                        sums[..width].copy_from_slice(&out.row_mut(top + row)[first..first + width]);
                    }
                    (_, Some(shared)) => sums[..width].copy_from_slice(shared),
                    _ => sums.fill(0.0),
                }
            }
            tile_product(simd, left, right, depth, &mut sums);
            for (row, sums) in sums.chunks_exact(SIDE).enumerate().take(height) {
                out.row_mut(top + row)[first..first + width].copy_from_slice(&sums[..width]);
            }
        }
    }
}

kernel! {
    /// 16 x 16 sums of a row of tiles times a column of tiles.
    fn tile_product<A>(left: &[f32], right: &[f32], depth: usize, sums: &mut [f32; SIDE * SIDE]) {
        for tile in 0..depth {
            let (left, right) = (&left[tile * TILE..][..TILE], &right[tile * TILE..][..TILE]);
            for pair in 0..SIDE {
                let right = &right[pair * SIDE..][..SIDE];
                for row in 0..SIDE {
                    let (a, b) = unpack(left[row * SIDE + pair]);
                    let sums = &mut sums[row * SIDE..][..SIDE];
                    for column in 0..SIDE {
                        let (c, d) = unpack(right[column]);
                        sums[column] = A::madd(b, d, A::madd(a, c, sums[column]));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
