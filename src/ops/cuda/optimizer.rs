//! AdamW and sums of squares over many arrays in one launch: a network has hundreds of arrays, most
//! of them small. The clipping factor stays on the device, so that a step can be enqueued without a
//! wait.

use std::ops::Range;

use super::buffer::{Block, Buffer};
use super::device::{Device, Dtype, argument};
use super::engine::Cuda;
use super::lists::List;
use super::parameters::{Plain, bytes_of, bytes_of_mut};
use super::shapes::expect;
use crate::Result;
use crate::ops::{AdamWStep, Pending, StepResult, Update};

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
    places: u64,
    bf16: u64,
    elements: u64,
    first: u64,
    width: u64,
    rate: f32,
    decay: f32,
}

/// `Step` of the kernels: the numbers that all arrays of a launch share.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
struct Step {
    betas: [f32; 2],
    complements: [f32; 2],
    corrections: [f32; 2],
    epsilon: f32,
    clip: f32,
}

// SAFETY: eight-byte numbers, and two of four bytes at the end: no padding.
unsafe impl Plain for Squared {}
// SAFETY: as above.
unsafe impl Plain for Updated {}

/// `ClipFactor` of the kernels.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct ClipFactor {
    squares: f64,
    loss: f32,
    clip: f32,
}
// SAFETY: numbers without padding, any bytes of which are a value.
unsafe impl Plain for ClipFactor {}

/// Sum of squares of all elements of an array, in f64; waits for the device.
pub(super) fn sum_squares<D: Device>(cuda: &Cuda<D>, array: &Buffer<D>) -> Result<f64> {
    let squares = Squares::of(cuda, &[array])?;
    let [list] = cuda.flush_reductions([bytes_of(&squares.items)])?;
    let clip_factor = clip_factor(cuda, &squares, &list, None, 0.0)?;
    // SAFETY: `clip_factor` has enqueued what writes it.
    Ok(unsafe { cuda.fetch::<ClipFactor>(clip_factor.address(), 1)? }[0].squares)
}

/// Clipping and AdamW, enqueued.
pub(super) fn step<D: Device>(
    cuda: &Cuda<D>,
    loss: &Buffer<D>,
    updates: &mut [Update<'_, Buffer<D>>],
    max_norm: f64,
) -> Result<Pending<StepResult>> {
    expect("the loss", loss, &[1])?;
    let gradients: Vec<_> = updates.iter().map(|update| update.gradient).collect();
    let squares = Squares::of(cuda, &gradients)?;
    let groups = Groups::of(cuda, updates)?;
    // Together with the sums that write some of the gradients, and before anything reads them.
    let [squared, updated] = cuda.flush_reductions([bytes_of(&squares.items), bytes_of(&groups.items)])?;
    let clip_factor = clip_factor(cuda, &squares, &squared, Some(loss), max_norm)?;
    groups.launch(cuda, &updated, clip_factor.address())?;
    // SAFETY: as above.
    let readback = unsafe { cuda.device.download_async(clip_factor.address(), size_of::<ClipFactor>())? };
    let device = cuda.device.clone();
    Ok(Pending::new(move || {
        let mut found = [ClipFactor::default()];
        let bytes = device.wait_for(readback)?;
        bytes_of_mut(&mut found).copy_from_slice(&bytes);
        let [ClipFactor { squares, loss, .. }] = found;
        Ok(StepResult { loss: f64::from(loss), norm: squares.sqrt() })
    }))
}

/// The arrays of a sum of squares.
struct Squares {
    items: Vec<Squared>,
    blocks: u64,
}

impl Squares {
    fn of<D: Device>(cuda: &Cuda<D>, arrays: &[&Buffer<D>]) -> Result<Self> {
        let (mut items, mut blocks) = (Vec::new(), 0);
        for array in arrays.iter().filter(|array| array.elements() > 0) {
            // Rows that are 0 add nothing.
            let (x, elements) = match (array.some_rows(), array.shape()) {
                (Some(some), [_, width]) => (some.values.address(), some.rows * width),
                _ => (address(cuda, array)?, array.elements()),
            };
            items.push(Squared { x, elements: elements as u64, first: blocks });
            blocks += elements.div_ceil(BLOCK_ELEMENTS) as u64;
        }
        Ok(Self { items, blocks })
    }
}

/// A `ClipFactor` on the device. The list is that of the squares.
fn clip_factor<D: Device>(
    cuda: &Cuda<D>,
    squares: &Squares,
    list: &List<D>,
    loss: Option<&Buffer<D>>,
    max_norm: f64,
) -> Result<Block<D>> {
    let blocks = squares.blocks as u32;
    let (sums, out) = (cuda.pool.block(8 * blocks as usize)?, cuda.pool.block(size_of::<ClipFactor>())?);
    let (items, count, blocks32) = (list.address(), squares.items.len() as i32, blocks as i32);
    let loss = loss.map(|loss| cuda.f32(loss)).transpose()?.unwrap_or(0);
    let (partial, to) = (sums.address(), out.address());
    // SAFETY: (const Squared*, int, double*), then (const double*, int, const float*, double, ClipFactor*), one block.
    unsafe {
        let mut arguments = [argument(&items), argument(&count), argument(&partial)];
        cuda.launch("sum_squares", [blocks, 1, 1], 256, 64, &mut arguments)?;
        let mut arguments =
            [argument(&partial), argument(&blocks32), argument(&loss), argument(&max_norm), argument(&to)];
        cuda.launch("clip_factor", [1, 1, 1], 256, 64, &mut arguments)?;
    }
    Ok(out)
}

/// One step of AdamW on all arrays, clipped by each update's own factor.
pub(super) fn update<D: Device>(cuda: &Cuda<D>, updates: &mut [Update<'_, Buffer<D>>]) -> Result<()> {
    let groups = Groups::of(cuda, updates)?;
    let [list] = cuda.flush_reductions([bytes_of(&groups.items)])?;
    groups.launch(cuda, &list, 0)
}

/// The arrays that AdamW updates, in groups of consecutive ones with the same [`Step`].
struct Groups {
    items: Vec<Updated>,
    /// The numbers of a group, its items, and the number of its blocks.
    groups: Vec<(Step, Range<usize>, u64)>,
}

impl Groups {
    fn of<D: Device>(cuda: &Cuda<D>, updates: &mut [Update<'_, Buffer<D>>]) -> Result<Self> {
        let shared = |step: &AdamWStep| Step {
            betas: step.betas.map(|x| x as f32),
            complements: step.complements(),
            corrections: step.corrections.map(|x| x as f32),
            epsilon: step.epsilon as f32,
            clip: step.clip as f32,
        };
        let (mut items, mut groups) = (Vec::new(), Vec::new());
        for group in updates.chunk_by_mut(|a, b| shared(&a.step) == shared(&b.step)) {
            let Some(step) = group.first().map(|first| shared(&first.step)) else { continue };
            let start = items.len();
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
                let (gradient, places, width) = match (gradient.some_rows(), gradient.shape()) {
                    (Some(some), [_, width]) => (some.values.address(), some.places.address(), *width),
                    _ => (address(cuda, gradient)?, 0, 0),
                };
                items.push(Updated {
                    value: make_unique(cuda, value)?,
                    m: make_unique(cuda, &mut moments.m)?,
                    v: make_unique(cuda, &mut moments.v)?,
                    gradient,
                    places,
                    bf16: value.address(Dtype::Bf16).unwrap_or(0),
                    elements: elements as u64,
                    first: blocks,
                    width: width as u64,
                    rate: step.learning_rate as f32,
                    decay: step.decay as f32,
                });
                blocks += elements.div_ceil(BLOCK_ELEMENTS) as u64;
            }
            groups.push((step, start..items.len(), blocks));
        }
        Ok(Self { items, groups })
    }

    /// Clipped by the `ClipFactor` at an address, or else by each group's own factor. The list is
    /// that of the items.
    fn launch<D: Device>(&self, cuda: &Cuda<D>, list: &List<D>, clip_factor: u64) -> Result<()> {
        for (step, range, blocks) in &self.groups {
            let items = list.address() + (range.start * size_of::<Updated>()) as u64;
            let count = range.len() as i32;
            let mut arguments = [argument(&items), argument(&count), argument(step), argument(&clip_factor)];
            // SAFETY: (const Updated*, int, Step, const ClipFactor*); nothing else shares the arrays that are written.
            unsafe { cuda.launch("adamw", [*blocks as u32, 1, 1], 256, 0, &mut arguments)? };
        }
        Ok(())
    }
}

/// Address of the f32 form of an array, whose sum over rows may still be pending.
fn address<D: Device>(cuda: &Cuda<D>, x: &Buffer<D>) -> Result<u64> {
    match x.address(Dtype::F32) {
        Some(address) => Ok(address),
        None => cuda.f32(x),
    }
}

/// Become a copy of itself if another clone shares the values; the address of its f32 form.
fn make_unique<D: Device>(cuda: &Cuda<D>, x: &mut Buffer<D>) -> Result<u64> {
    if !x.is_unique() {
        *x = cuda.unique(x.clone())?.0;
    }
    cuda.f32(x)
}
