//! Attention: the work list of its kernels, one entry per block of rows of a sentence, and their launches.

use std::cmp::Reverse;
use std::sync::{Arc, PoisonError};

use super::buffer::{Block, Buffer};
use super::device::{Device, Element, argument};
use super::engine::{Cuda, Form, Forms, Mask, blocks};
use super::shapes::{defect, expect, expect_attention, matrix};
use crate::Result;
use crate::ops::AttentionShape;
use crate::rng::Dropout;

/// Rows of a block of the kernels on tensor cores, and of those in f32.
const TILE: usize = 64;
const SMALL_TILE: usize = 32;
/// The largest head of the kernels.
const LARGEST_HEAD: usize = 128;

/// What the forward keeps: its output and the logarithm of each softmax's denominator. The probabilities themselves are
/// computed again.
pub struct Probabilities<D: Device> {
    out: Buffer<D>,
    /// (tokens, heads)
    log_totals: Block<D>,
}

/// `Tile`s of the kernels on the device: (start, length, first row, keys).
pub(super) struct Tiles<D: Device> {
    starts: Vec<usize>,
    keys: Option<Vec<usize>>,
    rows: usize,
    block: Block<D>,
    count: usize,
}

/// Which kernels an attention runs on, and what they need.
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

    fn element(&self) -> Element {
        if self.kernels.is_some() { Element::Bf16 } else { Element::F32 }
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

impl<D: Device> Cuda<D> {
    fn plan(&self, qkv: &Buffer<D>, shape: AttentionShape<'_>) -> Result<Plan<D>> {
        let (tokens, width) = matrix(qkv)?;
        let hidden = width / 3;
        expect("queries, keys and values", qkv, &[tokens, 3 * hidden])?;
        expect_attention(shape, tokens, hidden)?;
        let size = hidden / shape.heads;
        if size > LARGEST_HEAD {
            return Err(defect(format!("attention heads of {size} are larger than the {LARGEST_HEAD} of the kernels")));
        }
        let kernels = match (self.products, size) {
            (Element::Bf16, 32) => Some(["attention_32", "attention_backward_32"]),
            (Element::Bf16, 64) => Some(["attention_64", "attention_backward_64"]),
            (Element::Bf16, 96) => Some(["attention_96", "attention_backward_96"]),
            (Element::Bf16, 128) => Some(["attention_128", "attention_backward_128"]),
            _ => None,
        };
        let rows = if kernels.is_some() { TILE } else { SMALL_TILE };
        Ok(Plan { tiles: self.tiles_of(shape, rows)?, tokens, heads: shape.heads, size, kernels })
    }

    fn tiles_of(&self, shape: AttentionShape<'_>, rows: usize) -> Result<Arc<Tiles<D>>> {
        // The lock only guards a list that no panic leaves half-changed.
        let mut known = self.tiles.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |tiles: &&Arc<Tiles<D>>| {
            tiles.rows == rows && tiles.starts == shape.starts && tiles.keys.as_deref() == shape.keys
        };
        if let Some(tiles) = known.iter().find(same) {
            return Ok(tiles.clone());
        }
        let mut list = Vec::new();
        for (sentence, bounds) in shape.starts.windows(2).enumerate() {
            let length = bounds[1] - bounds[0];
            let keys = shape.keys_of(sentence, length);
            list.extend((0..length).step_by(rows).map(|first| [bounds[0], length, first, keys]));
        }
        // The longest first: a block that starts last should not be one that takes long.
        list.sort_by_key(|tile| Reverse(tile[1]));
        let count = list.len();
        let values: Vec<i32> = list.into_iter().flatten().map(|value| value as i32).collect();
        let tiles = Arc::new(Tiles {
            starts: shape.starts.to_vec(),
            keys: shape.keys.map(<[usize]>::to_vec),
            rows,
            block: self.send(&values)?,
            count,
        });
        if known.len() == 4 {
            known.remove(0);
        }
        known.push(tiles.clone());
        Ok(tiles)
    }

    pub(super) fn attend(
        &self,
        qkv: &Buffer<D>,
        shape: AttentionShape<'_>,
        dropout: Option<&Dropout>,
    ) -> Result<(Buffer<D>, Probabilities<D>)> {
        let plan = self.plan(qkv, shape)?;
        let (out, form) = self.make(&[plan.tokens, plan.hidden()], plan.forms())?;
        let log_totals = self.pool.block(4 * plan.tokens * plan.heads)?;
        let (tiles, heads, size) = (plan.tiles.block.address(), plan.heads as i32, plan.size as i32);
        let (qkv, scale, mask) = (self.address(qkv, plan.element())?, plan.scale(), Mask::from(dropout));
        let (to, lse) = (form.f32.max(form.bf16), log_totals.address());
        let [tiles, heads, size] = [argument(&tiles), argument(&heads), argument(&size)];
        let rest = [argument(&qkv), argument(&scale), argument(&mask), argument(&to), argument(&lse)];
        // SAFETY: (const Tile*, int, [int,] const bf16* or float*, float, Mask, bf16* or float*, float*); the tiles lie
        // inside the sentences, which were checked to cover the tokens.
        unsafe {
            match plan.kernels {
                Some([kernel, _]) => {
                    let mut arguments = [&[tiles, heads][..], &rest].concat();
                    self.launch(kernel, plan.grid(1), 128, plan.shared(2, 0), &mut arguments)?;
                }
                None => {
                    let mut arguments = [&[tiles, heads, size][..], &rest].concat();
                    self.launch("attention_f32", plan.grid(1), 128, plan.shared(3, 4), &mut arguments)?;
                }
            }
        }
        Ok((out.clone(), Probabilities { out, log_totals }))
    }

    pub(super) fn attend_backward(
        &self,
        qkv: &Buffer<D>,
        probabilities: &Probabilities<D>,
        dy: &Buffer<D>,
        shape: AttentionShape<'_>,
        dropout: Option<&Dropout>,
    ) -> Result<Buffer<D>> {
        let plan = self.plan(qkv, shape)?;
        expect("the gradient", dy, &[plan.tokens, plan.hidden()])?;
        expect("the output of the forward", &probabilities.out, &[plan.tokens, plan.hidden()])?;
        let (out, form) = self.make(&[plan.tokens, 3 * plan.hidden()], plan.forms())?;
        let (tiles, heads, size) = (plan.tiles.block.address(), plan.heads as i32, plan.size as i32);
        let (qkv, dout) = (self.address(qkv, plan.element())?, self.address(dy, plan.element())?);
        let (scale, mask, to) = (plan.scale(), Mask::from(dropout), form.f32.max(form.bf16));
        let lse = probabilities.log_totals.address();
        let [tiles, heads, size] = [argument(&tiles), argument(&heads), argument(&size)];
        let [qkv, dout, scale, mask] = [argument(&qkv), argument(&dout), argument(&scale), argument(&mask)];
        let [lse, to] = [argument(&lse), argument(&to)];
        match plan.kernels {
            Some([_, kernel]) => {
                let attended = self.address(&probabilities.out, plan.element())?;
                let mut arguments = [tiles, heads, qkv, dout, argument(&attended), scale, mask, lse, to];
                // SAFETY: (const Tile*, int, 3 x const bf16*, float, Mask, const float*, bf16*).
                unsafe { self.launch(kernel, plan.grid(2), 128, plan.shared(2, 2), &mut arguments)? };
            }
            None => {
                let deltas = self.pool.block(4 * plan.tokens * plan.heads)?;
                let delta = deltas.address();
                self.deltas(&plan, dy, &probabilities.out, delta)?;
                let mut arguments = [tiles, heads, size, qkv, dout, scale, mask, lse, argument(&delta), to];
                // SAFETY: (const Tile*, int, int, 2 x const float*, float, Mask, 2 x const float*, float*).
                unsafe { self.launch("attention_backward_f32", plan.grid(2), 128, plan.shared(4, 6), &mut arguments)? };
            }
        }
        Ok(out)
    }

    /// `rowsum(dO O)` of every token and head, which is `rowsum(P dP)`, for the kernel in f32.
    fn deltas(&self, plan: &Plan<D>, dy: &Buffer<D>, out: &Buffer<D>, to: u64) -> Result<()> {
        let pairs = plan.tokens * plan.heads;
        let (pairs32, size, dy, out): (i32, i32, Form, Form) =
            (pairs as i32, plan.size as i32, self.input(dy)?, self.input(out)?);
        let mut arguments = [argument(&pairs32), argument(&size), argument(&dy), argument(&out), argument(&to)];
        // SAFETY: (int, int, In, In, float*).
        unsafe { self.launch("attention_delta", [blocks(pairs, 4), 1, 1], 128, 0, &mut arguments) }
    }
}
