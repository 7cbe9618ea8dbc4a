//! Attention: the choice of its kernels, and their launches.

use std::sync::Arc;

use super::attention_tiles::{self, Tiles};
use super::buffer::{Block, Buffer};
use super::device::{Device, Dtype, argument};
use super::dropout::Mask;
use super::engine::Cuda;
use super::parameters::{Form, Forms, blocks};
use super::shapes::{expect, expect_attention, internal_error, matrix};
use crate::Result;
use crate::ops::AttentionShape;
use crate::rng::Dropout;

/// Rows of a block of the kernels on tensor cores, and of those in f32, which is also the largest
/// group.
const TILE: usize = 64;
const SMALL_TILE: usize = 32;
/// The largest size of an attention head that the kernels support.
const LARGEST_HEAD: usize = 128;

/// The forward's output and the logarithm of each softmax's denominator. The backward recomputes
/// the probabilities from them.
pub struct Probabilities<D: Device> {
    out: Buffer<D>,
    /// (tokens, heads)
    log_totals: Block<D>,
}

/// The kernels of an attention, and their arguments.
struct Plan<D: Device> {
    tiles: Arc<Tiles<D>>,
    tokens: usize,
    heads: usize,
    size: usize,
    /// Names of forward and backward on tensor cores; `None` for f32.
    kernels: Option<[&'static str; 2]>,
}

impl<D: Device> Plan<D> {
    fn hidden(&self) -> usize {
        self.heads * self.size
    }

    fn element(&self) -> Dtype {
        if self.kernels.is_some() { Dtype::Bf16 } else { Dtype::F32 }
    }

    fn forms(&self) -> Forms {
        if self.kernels.is_some() { Forms::Bf16 } else { Forms::F32 }
    }

    /// Shared memory of `tiles` tiles of rows, and of `floats` floats a row.
    fn shared(&self, tiles: usize, floats: usize) -> usize {
        match self.kernels {
            Some(_) => TILE * (tiles * 2 * (self.size + 8) + 4 * floats),
            None => SMALL_TILE * (tiles * 4 * (self.size + 1) + 4 * floats),
        }
    }

    fn scale(&self) -> f32 {
        (1.0 / (self.size as f64).sqrt()) as f32
    }

    fn grid(&self, roles: u32) -> [u32; 3] {
        [self.tiles.count as u32, self.heads as u32, roles]
    }
}

fn plan<D: Device>(cuda: &Cuda<D>, qkv: &Buffer<D>, shape: AttentionShape<'_>) -> Result<Plan<D>> {
    let (tokens, width) = matrix(qkv)?;
    let hidden = width / 3;
    expect("queries, keys and values", qkv, &[tokens, 3 * hidden])?;
    expect_attention(shape, tokens, hidden)?;
    if shape.group > SMALL_TILE {
        return Err(internal_error(format!(
            "groups of {} tokens are larger than the {SMALL_TILE} of the kernels",
            shape.group
        )));
    }
    let size = hidden / shape.heads;
    if size > LARGEST_HEAD {
        return Err(internal_error(format!(
            "attention heads of {size} are larger than the {LARGEST_HEAD} of the kernels"
        )));
    }
    let (kernels, rows) = kernels(cuda.dtype, size, shape);
    Ok(Plan {
        tiles: cuda.tiles.get(shape, rows, |values| cuda.send(values))?,
        tokens,
        heads: shape.heads,
        size,
        kernels,
    })
}

/// Names of forward and backward on tensor cores, if there are any for these heads; rows of a tile.
fn kernels(dtype: Dtype, size: usize, shape: AttentionShape<'_>) -> (Option<[&'static str; 2]>, usize) {
    // The kernels for groups also know windows.
    let kernels = match (dtype, size, shape.group.max(usize::from(shape.window.is_some()))) {
        (Dtype::Bf16, 32, 0) => Some(["attention_32", "attention_backward_32"]),
        (Dtype::Bf16, 64, 0) => Some(["attention_64", "attention_backward_64"]),
        (Dtype::Bf16, 96, 0) => Some(["attention_96", "attention_backward_96"]),
        (Dtype::Bf16, 128, 0) => Some(["attention_128", "attention_backward_128"]),
        (Dtype::Bf16, 32, _) => Some(["attention_groups_32", "attention_backward_groups_32"]),
        (Dtype::Bf16, 64, _) => Some(["attention_groups_64", "attention_backward_groups_64"]),
        (Dtype::Bf16, 96, _) => Some(["attention_groups_96", "attention_backward_groups_96"]),
        (Dtype::Bf16, 128, _) => Some(["attention_groups_128", "attention_backward_groups_128"]),
        _ => None,
    };
    let rows = if kernels.is_some() { TILE } else { SMALL_TILE };
    (kernels, rows)
}

/// The work list of an attention with hidden size `hidden`.
pub(super) fn tiles<D: Device>(cuda: &Cuda<D>, shape: AttentionShape<'_>, hidden: usize) -> Vec<i32> {
    let (_, rows) = kernels(cuda.dtype, hidden / shape.heads.max(1), shape);
    attention_tiles::tiles(shape, rows).0
}

pub(super) fn attention<D: Device>(
    cuda: &Cuda<D>,
    qkv: &Buffer<D>,
    shape: AttentionShape<'_>,
    dropout: Option<&Dropout>,
) -> Result<(Buffer<D>, Probabilities<D>)> {
    let plan = plan(cuda, qkv, shape)?;
    let (out, form) = cuda.make(&[plan.tokens, plan.hidden()], plan.forms())?;
    let log_totals = cuda.pool.block(4 * plan.tokens * plan.heads)?;
    let (tiles, heads, size) = (plan.tiles.address(), plan.heads as i32, plan.size as i32);
    let positions = plan.tiles.positions();
    let (qkv, scale, mask) =
        (cuda.address(qkv, plan.element())?, plan.scale(), Mask::of_attention(dropout, shape.stride));
    let (to, lse) = (form.f32.max(form.bf16), log_totals.address());
    let [tiles, positions] = [argument(&tiles), argument(&positions)];
    let [heads, size] = [argument(&heads), argument(&size)];
    let rest = [argument(&qkv), argument(&scale), argument(&mask), argument(&to), argument(&lse)];
    // SAFETY: (const Tile*, const int*, int, [int,] const bf16* or float*, float, Mask, bf16* or float*, float*); the tiles lie
    // inside the sentences, which were checked to cover the tokens; positions are null or one for each token.
    unsafe {
        match plan.kernels {
            Some([kernel, _]) => {
                let mut arguments = [&[tiles, positions, heads][..], &rest].concat();
                cuda.launch(kernel, plan.grid(1), 128, plan.shared(2, 0), &mut arguments)?;
            }
            None => {
                let mut arguments = [&[tiles, positions, heads, size][..], &rest].concat();
                cuda.launch("attention_f32", plan.grid(1), 128, plan.shared(3, 4), &mut arguments)?;
            }
        }
    }
    Ok((out.clone(), Probabilities { out, log_totals }))
}

pub(super) fn attention_backward<D: Device>(
    cuda: &Cuda<D>,
    qkv: &Buffer<D>,
    probabilities: Probabilities<D>,
    dy: &Buffer<D>,
    shape: AttentionShape<'_>,
    dropout: Option<&Dropout>,
) -> Result<Buffer<D>> {
    let plan = plan(cuda, qkv, shape)?;
    expect("the gradient", dy, &[plan.tokens, plan.hidden()])?;
    expect("the output of the forward", &probabilities.out, &[plan.tokens, plan.hidden()])?;
    let (out, form) = cuda.make(&[plan.tokens, 3 * plan.hidden()], plan.forms())?;
    let (tiles, heads, size) = (plan.tiles.address(), plan.heads as i32, plan.size as i32);
    let positions = plan.tiles.positions();
    let (qkv, dout) = (cuda.address(qkv, plan.element())?, cuda.address(dy, plan.element())?);
    let (scale, mask, to) = (plan.scale(), Mask::of_attention(dropout, shape.stride), form.f32.max(form.bf16));
    let lse = probabilities.log_totals.address();
    let [tiles, positions] = [argument(&tiles), argument(&positions)];
    let [heads, size] = [argument(&heads), argument(&size)];
    let [qkv, dout, scale, mask] = [argument(&qkv), argument(&dout), argument(&scale), argument(&mask)];
    let [lse, to] = [argument(&lse), argument(&to)];
    match plan.kernels {
        Some([_, kernel]) => {
            let attended = cuda.address(&probabilities.out, plan.element())?;
            let mut arguments = [tiles, positions, heads, qkv, dout, argument(&attended), scale, mask, lse, to];
            // SAFETY: (const Tile*, const int*, int, 3 x const bf16*, float, Mask, const float*, bf16*).
            unsafe { cuda.launch(kernel, plan.grid(2), 128, plan.shared(2, 3), &mut arguments)? };
        }
        None => {
            let deltas = cuda.pool.block(4 * plan.tokens * plan.heads)?;
            let delta = deltas.address();
            row_sums(cuda, &plan, dy, &probabilities.out, delta)?;
            let mut arguments = [tiles, positions, heads, size, qkv, dout, scale, mask, lse, argument(&delta), to];
            // SAFETY: (const Tile*, const int*, int, int, 2 x const float*, float, Mask, 2 x const float*, float*).
            unsafe { cuda.launch("attention_backward_f32", plan.grid(2), 128, plan.shared(4, 6), &mut arguments)? };
        }
    }
    Ok(out)
}

/// `rowsum(dO O)` of every token and head, which is `rowsum(P dP)`, for the kernel in f32.
fn row_sums<D: Device>(cuda: &Cuda<D>, plan: &Plan<D>, dy: &Buffer<D>, out: &Buffer<D>, to: u64) -> Result<()> {
    let pairs = plan.tokens * plan.heads;
    let (pairs32, size, dy, out): (i32, i32, Form, Form) =
        (pairs as i32, plan.size as i32, cuda.input(dy)?, cuda.input(out)?);
    let mut arguments = [argument(&pairs32), argument(&size), argument(&dy), argument(&out), argument(&to)];
    // SAFETY: (int, int, In, In, float*).
    unsafe { cuda.launch("attention_delta", [blocks(pairs, 4), 1, 1], 128, 0, &mut arguments) }
}
