//! Dropout: the mask that kernels compute from the counter-based generator, and its operations.

use super::buffer::Buffer;
use super::device::{Device, argument};
use super::engine::Cuda;
use super::parameters::blocks;
use crate::Result;
use crate::rng::Dropout;

/// `Mask` of the kernels.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Mask {
    key: [u32; 2],
    site: u32,
    step: u32,
    micro: u32,
    /// 0: no dropout.
    keep: u32,
    scale: f32,
    /// Of an attention: blocks of 4 elements between two of its rows.
    row_blocks: u32,
}

impl Mask {
    /// The mask of an attention whose rows are `stride` elements apart.
    pub(super) fn of_attention(dropout: Option<&Dropout>, stride: usize) -> Self {
        Self { row_blocks: (stride / 4) as u32, ..Self::from(dropout) }
    }
}

impl From<Option<&Dropout>> for Mask {
    fn from(dropout: Option<&Dropout>) -> Self {
        match dropout {
            None => Self { key: [0; 2], site: 0, step: 0, micro: 0, keep: 0, scale: 1.0, row_blocks: 0 },
            Some(d) => Self {
                key: [d.seed as u32, (d.seed >> 32) as u32],
                site: d.site,
                step: d.step,
                micro: d.micro,
                keep: d.threshold().max(1), // a rate this close to 1 keeps one element in 2^32
                scale: d.scale(),
                row_blocks: 0,
            },
        }
    }
}

pub(super) fn dropout<D: Device>(cuda: &Cuda<D>, x: Buffer<D>, dropout: &Dropout) -> Result<Buffer<D>> {
    let (out, to) = cuda.floats(x.shape())?;
    let (n, from, mask) = (x.elements() as u64, cuda.f32(&x)?, Mask::from(Some(dropout)));
    let mut arguments = [argument(&n), argument(&from), argument(&mask), argument(&to)];
    // SAFETY: (size_t, const float*, Mask, float*).
    unsafe { cuda.launch("dropout", [blocks(x.elements(), 1024), 1, 1], 256, 0, &mut arguments)? };
    Ok(out)
}

/// A mask as an array, `(rows, columns)`.
pub(super) fn mask<D: Device>(cuda: &Cuda<D>, dropout: &Dropout, rows: usize, columns: usize) -> Result<Buffer<D>> {
    let (out, to) = cuda.floats(&[rows, columns])?;
    let (n, nothing, mask) = (out.elements() as u64, 0_u64, Mask::from(Some(dropout)));
    let mut arguments = [argument(&n), argument(&nothing), argument(&mask), argument(&to)];
    // SAFETY: (size_t, const float*, Mask, float*); without a first array the mask itself comes out.
    unsafe { cuda.launch("dropout", [blocks(out.elements(), 1024), 1, 1], 256, 0, &mut arguments)? };
    Ok(out)
}
