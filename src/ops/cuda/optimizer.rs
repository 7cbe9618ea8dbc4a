//! AdamW and sums of squares over many arrays in one launch: a network has hundreds, most of them small.

use super::buffer::Buffer;
use super::device::{Device, Element, argument};
use super::engine::{Cuda, Plain};
use super::shapes::expect;
use crate::Result;
use crate::ops::{AdamWStep, Update};

/// Elements of one block: BLOCK_ELEMENTS of optimizer.cuh.
const BLOCK_ELEMENTS: usize = 4096;

/// `Squared` of the kernels.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct Squared {
    x: u64,
    elements: u64,
    first: u64,
}

/// `Updated` of the kernels.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct Updated {
    value: u64,
    m: u64,
    v: u64,
    gradient: u64,
    bf16: u64,
    elements: u64,
    first: u64,
    rate: f32,
    decay: f32,
}

/// `Step` of the kernels: what all arrays of a launch share.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
struct Step {
    betas: [f32; 2],
    corrections: [f32; 2],
    epsilon: f32,
    clip: f32,
}

// SAFETY: eight-byte numbers, and two of four bytes at the end: no padding.
unsafe impl Plain for Squared {}
// SAFETY: as above.
unsafe impl Plain for Updated {}

impl<D: Device> Cuda<D> {
    /// Sum of squares of all elements of all arrays, in f64; waits for the device.
    pub(super) fn squares(&self, arrays: &[&Buffer<D>]) -> Result<f64> {
        let mut items = Vec::new();
        let mut blocks = 0;
        for array in arrays.iter().filter(|array| array.elements() > 0) {
            let elements = array.elements();
            items.push(Squared { x: self.f32(array)?, elements: elements as u64, first: blocks });
            blocks += elements.div_ceil(BLOCK_ELEMENTS) as u64;
        }
        let list = self.send(&items)?;
        let sums = self.pool.block(8 * (blocks as usize + 1))?;
        let (items, count, blocks32) = (list.address(), items.len() as i32, blocks as i32);
        let (total, partial) = (sums.address(), sums.address() + 8);
        // SAFETY: (const Squared*, int, double*), then (const double*, int, double*) with one block.
        unsafe {
            let mut arguments = [argument(&items), argument(&count), argument(&partial)];
            self.launch("sum_squares", [blocks as u32, 1, 1], 256, 64, &mut arguments)?;
            let mut arguments = [argument(&partial), argument(&blocks32), argument(&total)];
            self.launch("sum_partial", [1, 1, 1], 256, 64, &mut arguments)?;
            Ok(self.fetch::<f64>(total, 1)?[0])
        }
    }

    /// One step of AdamW on all arrays.
    pub(super) fn update(&self, updates: &mut [Update<'_, Buffer<D>>]) -> Result<()> {
        let shared = |step: &AdamWStep| Step {
            betas: step.betas.map(|x| x as f32),
            corrections: step.corrections.map(|x| x as f32),
            epsilon: step.epsilon as f32,
            clip: step.clip as f32,
        };
        for group in updates.chunk_by_mut(|a, b| shared(&a.step) == shared(&b.step)) {
            let Some(step) = group.first().map(|first| shared(&first.step)) else { continue };
            let mut items = Vec::new();
            let mut blocks = 0;
            for Update { value, moments, gradient, step } in group.iter_mut() {
                let arrays =
                    [("the first moment", &moments.m), ("the second moment", &moments.v), ("the gradient", *gradient)];
                for (what, x) in arrays {
                    expect(what, x, value.shape())?;
                }
                let elements = value.elements();
                if elements == 0 {
                    continue;
                }
                items.push(Updated {
                    value: self.unshare(value)?,
                    m: self.unshare(&mut moments.m)?,
                    v: self.unshare(&mut moments.v)?,
                    gradient: self.f32(gradient)?,
                    bf16: value.address(Element::Bf16).unwrap_or(0),
                    elements: elements as u64,
                    first: blocks,
                    rate: step.learning_rate as f32,
                    decay: step.decay as f32,
                });
                blocks += elements.div_ceil(BLOCK_ELEMENTS) as u64;
            }
            let list = self.send(&items)?;
            let (items, count) = (list.address(), items.len() as i32);
            let mut arguments = [argument(&items), argument(&count), argument(&step)];
            // SAFETY: (const Updated*, int, Step); nothing else shares the arrays that are written.
            unsafe { self.launch("adamw", [blocks as u32, 1, 1], 256, 0, &mut arguments)? };
        }
        Ok(())
    }

    /// Become a copy of itself if another clone shares the values; the address of its f32 form.
    fn unshare(&self, x: &mut Buffer<D>) -> Result<u64> {
        if !x.is_unshared() {
            *x = self.owned(x.clone())?.0;
        }
        self.f32(x)
    }
}
