//! The engine that users run, on all cores of the current rayon pool.
//!
//! Products in f32 go to the `gemm` crate, which runs at the machine's peak in every orientation needed; those in bf16 to
//! [`bf16`]. Everything else is in f32,
//! fused into as few passes over memory as possible, vectorised ([`simd`]), and cut into fixed pieces that do not depend
//! on the number of threads; partial sums are added in a fixed order. So the same input gives the same bits at any
//! number of threads.
//!
//! Tried, and no gain: cutting the rows of a product into tasks of our own instead of the crate's threads (2 % slower
//! with one task a thread, 12 % with four: each packs the weights again); copying queries, keys and values of a head
//! together before its products. `benchmarks/speed/step.rs` shows where the time of a step goes.

// Loops over an index are what the compiler turns into vector code when several slices are read at once.
#![allow(clippy::needless_range_loop)]

pub mod attention;
pub mod bf16;
pub mod buffer;
pub mod simd;

mod embed;
mod first;
pub(super) mod gates;
mod gelu;
mod mask;
mod math;
mod norm;
pub(super) mod tile;
mod update;

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use self::bf16::{Products, Start, Unit};
use super::product::{Matrix, all_threads, multiply};
use super::shapes::{self, defect, expect_attention, expect_inside};
use super::{
    AdamWStep, AttentionShape, AttentionTape, FirstAttention, Loss, Moments, Norm, NormGradients, Normed, Ops, TapeOf,
};
use crate::rng::Dropout;
use crate::{Error, Result};

pub use attention::Probabilities;
pub use buffer::{Buffer, Pool};
use first::{First, Kept};
use mask::Mask;
pub use simd::Level;
use simd::Simd;

/// Rows of one piece of an element-wise pass, and of one partial sum over rows.
const ROWS: usize = 32;
/// Elements of a product up to which the `gemm` crate takes a way of its own.
const SMALL_PRODUCT: usize = 256;
/// Elements of one piece of a pass without rows.
const ELEMENTS: usize = 1 << 14;

/// All cores. Cloning shares the pool of buffers.
#[derive(Debug, Clone)]
pub struct Cpu {
    simd: Simd,
    /// `None` for products in f32.
    bf16: Option<Products>,
    pool: Pool,
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

    /// An engine whose products are in bf16, computed by `unit`.
    ///
    /// # Errors
    /// [`Error::Config`] when this machine lacks it.
    pub fn with_bf16(unit: Unit) -> Result<Self> {
        let simd = Simd::detect();
        let message = || format!("this machine does not have {}", unit.name());
        let products = Products::new(unit, simd).ok_or_else(|| Error::config("precision", message()))?;
        Ok(Self { simd, bf16: Some(products), pool: Pool::default() })
    }

    /// An engine that is held to an instruction set; for tests. Products choose their own.
    ///
    /// # Errors
    /// [`Error::Config`] when this machine lacks it.
    pub fn with_level(level: Level) -> Result<Self> {
        let message = || format!("this machine does not have {}", level.name());
        let simd = Simd::new(level).ok_or_else(|| Error::config("instructions", message()))?;
        Ok(Self { simd, bf16: None, pool: Pool::default() })
    }

    /// The instruction set in use.
    pub fn level(&self) -> Level {
        self.simd.level()
    }

    /// Bytes in buffers that are in use, and in free ones that wait to be used again.
    pub fn memory(&self) -> (usize, usize) {
        self.pool.bytes()
    }

    /// Give the memory of free buffers back to the system.
    pub fn trim(&self) {
        self.pool.trim();
    }

    /// Sums over rows: `run` adds rows `first..` onto its piece's sums, `(width)`; pieces are added in order.
    fn sums<P: Send>(
        &self,
        pieces: impl IndexedParallelIterator<Item = P>,
        width: usize,
        run: impl Fn(usize, P, &mut [f32]) + Sync,
    ) -> Buffer {
        let mut partial = self.pool.dirty(&[pieces.len(), width]);
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

    /// `dx = onto + dy W` and `dW = dyᵀ x` in bf16.
    fn bf16_backward(
        &self,
        products: Products,
        [x, dy]: [Matrix<'_, f32>; 2],
        weight: &Buffer,
        (dx, onto): (&mut [f32], bool),
        dw: &mut [f32],
    ) {
        let pool = &self.pool;
        let weights = Matrix::new(weight.values(), dy.columns(), x.columns());
        let packed = weight.packs().backward.get_or_init(|| products.right(pool, weights));
        let start = if onto { Start::There } else { Start::Zero };
        products.multiply(dx, &products.left(pool, dy), packed, start);
        let (left, right) = (products.left_transposed(pool, dy), products.right(pool, x));
        products.multiply(dw, &left, &right, Start::Zero);
    }

    /// The transpose of a weight with long rows, for a product with many rows. The `gemm` crate gathers such a weight column by
    /// column, from addresses a power of two apart that share a few lines of the cache: 9 % slower with 1536 inputs and
    /// 384 outputs, 16 % with 3072 and 768. The bits of the product are the same.
    fn transposed(&self, weight: &Buffer, rows: usize) -> Option<Buffer> {
        const MANY: usize = 256;
        let [outputs, inputs] = *weight.shape() else { return None };
        if inputs < 2 * outputs || rows < MANY || !outputs.is_multiple_of(math::LANES) {
            return None;
        }
        let mut out = self.pool.dirty(&[inputs, outputs]);
        out.fill(|out| {
            out.par_chunks_mut(tile::TOGETHER * outputs).enumerate().for_each(|(block, out)| {
                let first = block * tile::TOGETHER;
                let columns = tile::TOGETHER.min(inputs - first);
                tile::transpose_far(
                    self.simd,
                    Matrix::strided(&weight.values()[first..], outputs, columns, inputs),
                    out,
                );
            });
        });
        Some(out)
    }

    fn first<'a>(&'a self, of: &FirstAttention<'a, Buffer>) -> Result<First<'a>> {
        let FirstAttention { input, weight, bias, hidden, shape, dropout } = *of;
        let (tokens, _) = matrix(input)?;
        expect("the input", input, &[tokens, hidden])?;
        expect("the weight", weight, &[3 * hidden, hidden])?;
        expect("the bias", bias, &[3 * hidden])?;
        expect_attention(shape, tokens, hidden)?;
        if let Some(sentence) = shape.starts.windows(2).position(|bounds| bounds[0] == bounds[1]) {
            return Err(defect(format!("sentence {sentence} has no first token")));
        }
        let [x, weight, bias] = [input, weight, bias].map(Buffer::values);
        Ok(First { simd: self.simd, pool: &self.pool, x, weight, bias, hidden, shape, dropout })
    }

    fn part(&self, sums: &Buffer, part: usize, width: usize) -> Buffer {
        self.pool.copy(&sums.values()[part * width..(part + 1) * width], &[width])
    }
}

/// Rows and columns of a matrix.
fn matrix(x: &Buffer) -> Result<(usize, usize)> {
    shapes::matrix(x.shape())
}

/// Refuse a buffer of another shape.
fn expect(what: &str, x: &Buffer, shape: &[usize]) -> Result<()> {
    shapes::expect(what, x.shape(), shape)
}

impl Ops for Cpu {
    type Buffer = Buffer;
    type Probabilities = Probabilities;

    fn name(&self) -> &'static str {
        "cpu"
    }

    fn upload(&self, values: &[f32], shape: &[usize]) -> Result<Buffer> {
        if values.len() != shape.iter().product::<usize>() {
            return Err(defect(format!("{} values do not fill the shape {shape:?}", values.len())));
        }
        Ok(self.pool.copy(values, shape))
    }

    fn download(&self, buffer: &Buffer) -> Result<Vec<f32>> {
        Ok(buffer.values().to_vec())
    }

    fn zeros(&self, shape: &[usize]) -> Result<Buffer> {
        Ok(self.pool.zeros(shape))
    }

    fn to_candle(&self, buffer: &Buffer) -> Result<Tensor> {
        Ok(Tensor::from_slice(buffer.values(), buffer.shape(), &candle_core::Device::Cpu)?)
    }

    fn upload_candle(&self, tensor: &Tensor) -> Result<Buffer> {
        let tensor = tensor.to_device(&candle_core::Device::Cpu)?.to_dtype(DType::F32)?.contiguous()?;
        let (storage, layout) = tensor.storage_and_layout();
        match (&*storage, layout.contiguous_offsets()) {
            (candle_core::Storage::Cpu(storage), Some((from, to))) => {
                self.upload(&storage.as_slice::<f32>()?[from..to], tensor.dims())
            }
            _ => Err(defect("the tensor is not contiguous on the CPU".into())),
        }
    }

    fn embed(&self, ids: &[u32], positions: &[u32], [words, places, kinds]: [&Buffer; 3]) -> Result<Buffer> {
        let (vocabulary, hidden) = matrix(words)?;
        let (longest, _) = matrix(places)?;
        expect("the position table", places, &[longest, hidden])?;
        let (types, _) = matrix(kinds)?;
        expect("the type table", kinds, &[types.max(1), hidden])?;
        expect_inside("word piece", ids.iter().map(|id| *id as usize), vocabulary)?;
        expect_inside("position", positions.iter().map(|position| *position as usize), longest)?;
        if ids.len() != positions.len() {
            return Err(defect(format!("{} ids have {} positions", ids.len(), positions.len())));
        }
        let mut out = self.pool.dirty(&[ids.len(), hidden]);
        let tables = [words.values(), places.values(), kinds.values()];
        out.fill(|out| embed::gather(self.simd, ids, positions, tables, hidden, out));
        Ok(out)
    }

    fn embed_backward(
        &self,
        ids: &[u32],
        positions: &[u32],
        gradient: &Buffer,
        tables: [&Buffer; 3],
    ) -> Result<[Buffer; 3]> {
        let [(vocabulary, hidden), (longest, _), _] = [matrix(tables[0])?, matrix(tables[1])?, matrix(tables[2])?];
        expect("the gradient of the embeddings", gradient, &[ids.len(), hidden])?;
        expect_inside("word piece", ids.iter().map(|id| *id as usize), vocabulary)?;
        expect_inside("position", positions.iter().map(|position| *position as usize), longest)?;
        if ids.len() != positions.len() {
            return Err(defect(format!("{} ids have {} positions", ids.len(), positions.len())));
        }
        let [mut words, mut places, mut kinds] = tables.map(|table| self.pool.dirty(table.shape()));
        words.fill(|words| embed::scatter(self.simd, ids, gradient.values(), hidden, words));
        places.fill(|places| embed::scatter(self.simd, positions, gradient.values(), hidden, places));
        let sums = self.column_sum(gradient)?;
        kinds.fill(|kinds| {
            kinds.fill(0.0);
            kinds[..hidden].copy_from_slice(sums.values());
        });
        Ok([words, places, kinds])
    }

    fn linear(&self, x: &Buffer, weight: &Buffer, bias: Option<&Buffer>) -> Result<Buffer> {
        let ((tokens, inputs), (outputs, _)) = (matrix(x)?, matrix(weight)?);
        expect("the weight", weight, &[outputs, inputs])?;
        if let Some(bias) = bias {
            expect("the bias", bias, &[outputs])?;
        }
        let enough = (SMALL_PRODUCT / outputs.max(1) + 1).max(2);
        if self.bf16.is_none() && (1..enough).contains(&tokens) {
            // The crate adds up a small product in another order, and what a sentence gets must not depend, in its last
            // bits, on what else is in its batch.
            let repeated: Vec<usize> = (0..enough).map(|row| row % tokens).collect();
            let out = self.linear(&self.rows(x, &repeated)?, weight, bias)?;
            return self.rows(&out, &repeated[..tokens]);
        }
        let mut out = self.pool.dirty(&[tokens, outputs]);
        if let Some(products) = self.bf16 {
            let rows = || Matrix::new(weight.values(), outputs, inputs);
            let packed = weight.packs().forward.get_or_init(|| products.right_transposed(&self.pool, rows()));
            let x = products.left(&self.pool, Matrix::new(x.values(), tokens, inputs));
            let start = bias.map_or(Start::Zero, |bias| Start::Row(bias.values()));
            out.fill(|out| products.multiply(out, &x, packed, start));
            return Ok(out);
        }
        out.fill(|out| {
            if let Some(bias) = bias {
                let rows = out.par_chunks_mut(outputs.max(1)).with_min_len(ROWS);
                rows.for_each(|row| row.copy_from_slice(bias.values()));
            }
            let onto = if bias.is_some() { 1.0 } else { 0.0 };
            let x = Matrix::new(x.values(), tokens, inputs);
            let transposed = self.transposed(weight, tokens);
            let weight = match &transposed {
                Some(transposed) => Matrix::new(transposed.values(), inputs, outputs),
                None => Matrix::new(weight.values(), outputs, inputs).t(),
            };
            multiply(out, outputs, x, weight, 1.0, onto, all_threads());
        });
        Ok(out)
    }

    fn linear_backward(
        &self,
        x: &Buffer,
        weight: &Buffer,
        dy: &Buffer,
        onto: Option<Buffer>,
    ) -> Result<(Buffer, Buffer)> {
        let ((tokens, inputs), (outputs, _)) = (matrix(x)?, matrix(weight)?);
        expect("the weight", weight, &[outputs, inputs])?;
        expect("the gradient", dy, &[tokens, outputs])?;
        let added = onto.is_some();
        let mut dx = match onto {
            Some(onto) => {
                expect("what to add onto", &onto, &[tokens, inputs])?;
                onto.owned(&self.pool)
            }
            None => self.pool.dirty(&[tokens, inputs]),
        };
        let dy = Matrix::new(dy.values(), tokens, outputs);
        let x = Matrix::new(x.values(), tokens, inputs);
        let mut dw = self.pool.dirty(&[outputs, inputs]);
        if let Some(products) = self.bf16 {
            dx.fill(|dx| dw.fill(|dw| self.bf16_backward(products, [x, dy], weight, (dx, added), dw)));
            return Ok((dx, dw));
        }
        let weights = Matrix::new(weight.values(), outputs, inputs);
        let beta = if added { 1.0 } else { 0.0 };
        dx.fill(|dx| multiply(dx, inputs, dy, weights, 1.0, beta, all_threads()));
        dw.fill(|dw| multiply(dw, inputs, dy.t(), x, 1.0, 0.0, all_threads()));
        Ok((dx, dw))
    }

    fn column_sum(&self, dy: &Buffer) -> Result<Buffer> {
        let (_, width) = matrix(dy)?;
        let pieces = dy.values().par_chunks((ROWS * width).max(1));
        Ok(self.sums(pieces, width, |_, rows, sums| math::add_columns(self.simd, rows, sums)))
    }

    fn bias_gelu(&self, x: &Buffer, bias: &Buffer) -> Result<Buffer> {
        let (_, width) = matrix(x)?;
        expect("the bias", bias, &[width])?;
        let mut out = self.pool.dirty(x.shape());
        let piece = (ROWS * width).max(1);
        out.fill(|out| {
            let pieces = x.values().par_chunks(piece).zip(out.par_chunks_mut(piece));
            pieces.for_each(|(x, out)| gelu::forward(self.simd, x, bias.values(), out));
        });
        Ok(out)
    }

    fn bias_gelu_backward(&self, x: &Buffer, bias: &Buffer, dy: Buffer) -> Result<(Buffer, Buffer)> {
        let (_, width) = matrix(x)?;
        expect("the bias", bias, &[width])?;
        expect("the gradient", &dy, x.shape())?;
        let mut dx = dy.owned(&self.pool);
        let piece = (ROWS * width).max(1);
        let sums = dx.fill(|dx| {
            let pieces = x.values().par_chunks(piece).zip(dx.par_chunks_mut(piece));
            self.sums(pieces, width, |_, (x, dx), sums| gelu::backward(self.simd, x, bias.values(), dx, sums))
        });
        Ok((dx, sums))
    }

    fn add_norm(
        &self,
        branch: Buffer,
        bias: Option<&Buffer>,
        residual: Option<&Buffer>,
        norm: Norm<'_, Buffer>,
        dropout: Option<&Dropout>,
    ) -> Result<Normed<Buffer>> {
        let (tokens, hidden) = matrix(&branch)?;
        for (what, vector) in [("the bias", bias), ("gamma", Some(norm.gamma)), ("beta", Some(norm.beta))] {
            vector.map_or(Ok(()), |vector| expect(what, vector, &[hidden]))?;
        }
        residual.map_or(Ok(()), |residual| expect("the residual", residual, &[tokens, hidden]))?;
        let mask = dropout.map(Mask::from);
        let mut normalized = branch.owned(&self.pool);
        let (mut out, mut rstd) = (self.pool.dirty(&[tokens, hidden]), self.pool.dirty(&[tokens]));
        let (bias, affine) = (bias.map(Buffer::values), [norm.gamma.values(), norm.beta.values()]);
        let piece = (ROWS * hidden).max(1);
        normalized.fill(|x| {
            out.fill(|out| {
                rstd.fill(|rstd| {
                    let pieces = x.par_chunks_mut(piece).zip(out.par_chunks_mut(piece)).zip(rstd.par_chunks_mut(ROWS));
                    pieces.enumerate().for_each(|(index, ((x, out), rstd))| {
                        let start = index * piece;
                        let residual = residual.map(|residual| &residual.values()[start..start + x.len()]);
                        let mask = mask.as_ref().map(|mask| (mask, start as u64));
                        norm::forward(self.simd, x, bias, residual, affine, norm.eps as f32, mask, out, rstd);
                    });
                });
            });
        });
        Ok(Normed { out, normalized, rstd })
    }

    fn add_norm_backward(
        &self,
        dy: Buffer,
        normed: &Normed<Buffer>,
        gamma: &Buffer,
        dropout: Option<&Dropout>,
    ) -> Result<NormGradients<Buffer>> {
        let (tokens, hidden) = matrix(&dy)?;
        expect("the normalized rows", &normed.normalized, &[tokens, hidden])?;
        expect("rstd", &normed.rstd, &[tokens])?;
        expect("gamma", gamma, &[hidden])?;
        let mut residual = dy.owned(&self.pool);
        let (normalized, rstd) = (normed.normalized.values(), normed.rstd.values());
        let piece = (ROWS * hidden).max(1);
        let mask = dropout.map(Mask::from);
        let (branch, sums) = match &mask {
            Some(mask) => {
                let mut branch = self.pool.dirty(&[tokens, hidden]);
                let sums = residual.fill(|dx| {
                    branch.fill(|branch| {
                        let pieces = dx.par_chunks_mut(piece).zip(branch.par_chunks_mut(piece));
                        self.sums(pieces, 3 * hidden, |row, (dx, branch), sums| {
                            let (start, rows) = (row * hidden, dx.len() / hidden);
                            let (n, rstd) = (&normalized[start..start + dx.len()], &rstd[row..row + rows]);
                            let branch = Some((mask, start as u64, branch));
                            norm::backward(self.simd, dx, n, rstd, gamma.values(), branch, sums);
                        })
                    })
                });
                (branch, sums)
            }
            None => {
                let sums = residual.fill(|dx| {
                    self.sums(dx.par_chunks_mut(piece), 3 * hidden, |row, dx, sums| {
                        let (start, rows) = (row * hidden, dx.len() / hidden);
                        let (n, rstd) = (&normalized[start..start + dx.len()], &rstd[row..row + rows]);
                        norm::backward(self.simd, dx, n, rstd, gamma.values(), None, sums);
                    })
                });
                // Nothing drops: the two gradients are one.
                (residual.clone(), sums)
            }
        };
        let [gamma, beta, bias] = [0, 1, 2].map(|part| self.part(&sums, part, hidden));
        Ok(NormGradients { branch, residual, gamma, beta, bias })
    }

    fn dropout(&self, x: Buffer, dropout: &Dropout) -> Result<Buffer> {
        let mut x = x.owned(&self.pool);
        let mask = Mask::from(dropout);
        x.fill(|x| {
            let pieces = x.par_chunks_mut(ELEMENTS).enumerate();
            pieces.for_each(|(index, x)| mask::apply(self.simd, &mask, (index * ELEMENTS) as u64, x));
        });
        Ok(x)
    }

    fn attention(
        &self,
        qkv: &Buffer,
        shape: AttentionShape<'_>,
        dropout: Option<&Dropout>,
    ) -> Result<(Buffer, Probabilities)> {
        let (tokens, width) = matrix(qkv)?;
        let hidden = width / 3;
        expect("queries, keys and values", qkv, &[tokens, 3 * hidden])?;
        expect_attention(shape, tokens, hidden)?;
        let mut out = self.pool.dirty(&[tokens, hidden]);
        let probabilities =
            out.fill(|out| attention::forward(self.simd, &self.pool, qkv.values(), hidden, shape, dropout, out));
        Ok((out, probabilities))
    }

    fn attention_backward(
        &self,
        qkv: &Buffer,
        probabilities: Probabilities,
        dy: &Buffer,
        shape: AttentionShape<'_>,
        dropout: Option<&Dropout>,
    ) -> Result<Buffer> {
        let (tokens, hidden) = matrix(dy)?;
        expect("queries, keys and values", qkv, &[tokens, 3 * hidden])?;
        expect_attention(shape, tokens, hidden)?;
        probabilities.expect(shape)?;
        let mut out = self.pool.dirty(&[tokens, 3 * hidden]);
        out.fill(|out| {
            let (qkv, dy) = (qkv.values(), dy.values());
            attention::backward(self.simd, &self.pool, qkv, hidden, &probabilities, dy, shape, dropout, out);
        });
        Ok(out)
    }

    fn attend_first(&self, of: &FirstAttention<'_, Buffer>) -> Result<(Buffer, TapeOf<Self>)> {
        let (out, Kept { queries, asked, probabilities, mean }) = self.first(of)?.forward();
        Ok((out, AttentionTape::First { queries, asked, probabilities, mean }))
    }

    fn attend_first_backward(
        &self,
        of: &FirstAttention<'_, Buffer>,
        tape: TapeOf<Self>,
        dy: &Buffer,
    ) -> Result<[Buffer; 3]> {
        let AttentionTape::First { queries, asked, probabilities, mean } = tape else {
            return Err(defect("the tape of another engine's attention".into()));
        };
        let (sentences, heads) = (of.shape.first_tokens().len(), of.shape.heads);
        expect("the gradient", dy, &[sentences, of.hidden])?;
        expect("the mean input", &mean, &[sentences, heads * of.hidden])?;
        let first = self.first(of)?;
        Ok(first.backward(&Kept { queries, asked, probabilities, mean }, dy.values()))
    }

    fn rows(&self, x: &Buffer, rows: &[usize]) -> Result<Buffer> {
        let (total, width) = matrix(x)?;
        expect_inside("row", rows.iter().copied(), total)?;
        let mut out = self.pool.dirty(&[rows.len(), width]);
        out.fill(|out| {
            for (out, row) in out.chunks_exact_mut(width.max(1)).zip(rows) {
                out.copy_from_slice(&x.values()[row * width..(row + 1) * width]);
            }
        });
        Ok(out)
    }

    fn add_rows(&self, x: Buffer, rows: &[usize], values: &Buffer) -> Result<Buffer> {
        let (total, width) = matrix(&x)?;
        expect("what to add to rows", values, &[rows.len(), width])?;
        expect_inside("row", rows.iter().copied(), total)?;
        let mut x = x.owned(&self.pool);
        x.fill(|x| {
            for (row, values) in rows.iter().zip(values.values().chunks_exact(width.max(1))) {
                math::add(self.simd, &mut x[row * width..(row + 1) * width], values);
            }
        });
        Ok(x)
    }

    fn add(&self, a: Buffer, b: &Buffer) -> Result<Buffer> {
        expect("the second term", b, a.shape())?;
        let mut a = a.owned(&self.pool);
        a.fill(|a| {
            let pieces = a.par_chunks_mut(ELEMENTS).zip(b.values().par_chunks(ELEMENTS));
            pieces.for_each(|(a, b)| math::add(self.simd, a, b));
        });
        Ok(a)
    }

    fn cross_entropy(&self, logits: &Buffer, labels: &[u32], loss: &Loss<'_>) -> Result<(Buffer, Buffer)> {
        let (_, classes) = loss.expect(logits.shape(), labels)?;
        let (sum, gradient) = loss.of_rows(logits.values(), classes, labels);
        Ok((self.upload(&[sum as f32], &[1])?, self.upload(&gradient, logits.shape())?))
    }

    fn sum_squares(&self, x: &Buffer) -> Result<f64> {
        Ok(update::sum_squares(self.simd, x.values()))
    }

    fn adamw(
        &self,
        value: &mut Buffer,
        moments: &mut Moments<Buffer>,
        gradient: &Buffer,
        step: &AdamWStep,
    ) -> Result<()> {
        for (what, x) in
            [("the first moment", &moments.m), ("the second moment", &moments.v), ("the gradient", gradient)]
        {
            expect(what, x, value.shape())?;
        }
        for x in [&mut *value, &mut moments.m, &mut moments.v] {
            x.unshare(&self.pool);
        }
        let (m, v) = (&mut moments.m, &mut moments.v);
        value.fill(|w| m.fill(|m| v.fill(|v| update::adamw(self.simd, step, w, m, v, gradient.values()))));
        Ok(())
    }
}
