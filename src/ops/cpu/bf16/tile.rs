//! Tiles of bf16 numbers, and a part of a product of them, for all instruction sets.

use crate::ops::cpu::buffer::PackedOperand;

/// Rows, or columns, of a tile.
pub const SIDE: usize = 16;
/// Numbers along the sum in a tile; two of them, a pair, fill one 32-bit word.
pub const DEPTH: usize = 32;
/// 32-bit words in a tile.
pub const TILE: usize = SIDE * DEPTH / 2;
/// Column blocks that are packed together: 256 bytes of each row at a time.
pub const TOGETHER: usize = 4;

impl PackedOperand {
    /// Tiles along the sum.
    pub fn depth(&self) -> usize {
        self.inner.div_ceil(DEPTH)
    }

    /// Tiles along the rows or columns.
    pub fn blocks(&self) -> usize {
        self.outer.div_ceil(SIDE)
    }

    /// The tiles of a block of rows or columns.
    pub fn block(&self, block: usize) -> &[f32] {
        let size = self.depth() * TILE;
        &self.words.values()[block * size..(block + 1) * size]
    }
}

/// The initial value of the sums of a product.
#[derive(Debug, Clone, Copy)]
pub enum Start<'a> {
    Zero,
    /// A bias: each row starts from this one.
    Bias(&'a [f32]),
    /// The current content of the output.
    Accumulate,
}

/// A part of a product that one thread computes: blocks of rows from `block`, blocks of columns
/// from `tile`.
pub struct Piece<'a> {
    pub left: &'a PackedOperand,
    pub right: &'a PackedOperand,
    pub block: usize,
    pub tile: usize,
    pub start: Start<'a>,
}

impl Piece<'_> {
    /// The bias of the columns from `first` (counted in the piece), if there is one.
    pub fn start_row(&self, first: usize, width: usize) -> Option<&[f32]> {
        match self.start {
            Start::Bias(row) => Some(&row[self.tile * SIDE + first..][..width]),
            Start::Zero | Start::Accumulate => None,
        }
    }
}

/// The two numbers of a pair.
#[inline(always)]
pub fn unpack(word: f32) -> (f32, f32) {
    let bits = word.to_bits();
    (f32::from_bits(bits << 16), f32::from_bits(bits & 0xffff_0000))
}
