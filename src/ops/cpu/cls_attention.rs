//! Attention of the first token of each sentence, which is all that a head on `[CLS]` reads from
//! the last layer.
//!
//! With one query per sentence, no token needs a key or a value. For one attention head with query
//! q, `k_i = W_k x_i + b_k` and `v_i = W_v x_i + b_v`:
//!
//! ```text
//! q k_i       = (W_kᵀ q) x_i + q b_k             softmax cancels q b_k, which is the same for every i
//! sum p_i v_i = W_v (sum p_i x_i) + (sum p_i) b_v
//! ```
//!
//! The 6 T H² operations of the projection become 4 T H N, and a few H² per sentence. All are in
//! f32, whatever the precision of other products. The gradient of the keys' bias is exactly 0.

use gemm::Parallelism;
use rayon::prelude::*;

use super::attention::{scores_gradient, softmax_dropout, softmax_rows, stride};
use super::buffer::{Buffer, Pool};
use super::dropout::Mask;
use super::engine::{Cpu, expect, matrix};
use super::matmul::{Matrix, MatrixMut, all_threads, matmul, matmul_into};
use super::simd::Simd;
use super::small_matmul::{small_matmul, transpose};
use crate::Result;
use crate::ops::shapes::{expect_attention, internal_error};
use crate::ops::{AttentionShape, ClsAttention, SavedAttention, SavedAttentionOf};
use crate::rng::Dropout;

/// Sentences whose products are computed together.
const PIECE: usize = 32;

/// The arguments of [`crate::ops::ClsAttention`], with checked shapes.
struct Pass<'a> {
    pub simd: Simd,
    pub pool: &'a Pool,
    /// `(T, H)`.
    pub x: &'a [f32],
    /// `(3H, H)`.
    pub weight: &'a [f32],
    /// `(3H)`.
    pub bias: &'a [f32],
    pub hidden: usize,
    pub shape: AttentionShape<'a>,
    pub dropout: Option<&'a Dropout>,
}

/// See [`crate::ops::SavedAttention::Cls`].
struct Saved {
    pub queries: Buffer,
    pub key_queries: Buffer,
    pub probabilities: Buffer,
    pub mean: Buffer,
}

/// The parts of the projection, in the order of its rows.
#[derive(Clone, Copy)]
enum Part {
    Queries,
    Keys,
    Values,
}

/// Tokens of a sentence.
#[derive(Clone, Copy)]
struct Sentence {
    start: usize,
    length: usize,
    /// Number of tokens that are attended to, from the first.
    keys: usize,
}

impl<'a> Pass<'a> {
    fn sentences(&self) -> usize {
        self.shape.first_tokens().len()
    }

    /// D.
    fn size(&self) -> usize {
        self.hidden / self.shape.heads
    }

    fn scale(&self) -> f32 {
        1.0 / (self.size() as f32).sqrt()
    }

    /// A head's rows of the projection, `(D, H)`.
    fn weights(&self, part: Part, head: usize) -> Matrix<'a, f32> {
        let row = part as usize * self.hidden + head * self.size();
        Matrix::new(&self.weight[row * self.hidden..], self.size(), self.hidden)
    }

    /// A head's part of the bias, `(D)`.
    fn biases(&self, part: Part, head: usize) -> &'a [f32] {
        &self.bias[part as usize * self.hidden + head * self.size()..][..self.size()]
    }

    /// A head's columns of a matrix of `width` columns for each head, `(sentences, width)`.
    fn columns<'b>(&self, x: &'b [f32], head: usize, width: usize) -> Matrix<'b, f32> {
        Matrix::strided(&x[(head * width).min(x.len())..], self.sentences(), width, self.shape.heads * width)
    }

    /// The inputs of the first tokens, `(sentences, H)`.
    fn first_inputs(&self) -> Buffer {
        let mut firsts = self.pool.uninit(&[self.sentences(), self.hidden]);
        firsts.fill(|firsts| {
            for (row, start) in firsts.chunks_exact_mut(self.hidden).zip(self.shape.first_tokens()) {
                row.copy_from_slice(&self.x[start * self.hidden..][..self.hidden]);
            }
        });
        firsts
    }

    fn sentence(&self, index: usize) -> Sentence {
        let (start, end) = (self.shape.cu_seqlens[index], self.shape.cu_seqlens[index + 1]);
        Sentence { start, length: end - start, keys: self.shape.valid_length(index, end - start) }
    }

    /// `(L, H)`.
    fn inputs(&self, of: Sentence) -> Matrix<'a, f32> {
        Matrix::new(&self.x[of.start * self.hidden..], of.length, self.hidden)
    }

    /// `(sentences, heads x width)`, each head's columns written by `run`.
    fn by_head(&self, width: usize, run: impl Fn(usize, &mut MatrixMut<'_, f32>) + Sync) -> Buffer {
        let columns = self.shape.heads * width;
        let mut out = self.pool.uninit(&[self.sentences(), columns]);
        out.fill(|out| {
            let heads: Vec<_> = MatrixMut::new(out, self.sentences(), columns).split_columns(width).collect();
            heads.into_par_iter().enumerate().for_each(|(head, mut columns)| run(head, &mut columns));
        });
        out
    }

    /// Transpose a matrix with one value for each token and head, `(L, N)`, to rows of whole
    /// vectors, `(N, stride)`.
    fn by_token_to_by_head(&self, by_token: Matrix<'_, f32>, by_head: &mut [f32]) {
        transpose(self.simd, by_token, stride(by_token.rows()), by_head);
    }

    /// Dot products of each row of `by_head`, `(N, H)`, with each token, `(N, stride)`. `scratch`
    /// of [`Self::scratch`].
    fn dot_tokens(&self, by_head: &[f32], tokens: Matrix<'_, f32>, scratch: &mut [f32], out: &mut [f32]) {
        let (heads, wide, length) = (self.shape.heads, stride(self.shape.heads), tokens.rows());
        let (transposed, products) = scratch.split_at_mut(self.hidden * wide);
        let products = &mut products[..length * wide];
        transpose(self.simd, Matrix::new(by_head, heads, self.hidden), wide, transposed);
        let transposed = Matrix::new(transposed, self.hidden, wide);
        small_matmul(self.simd, &mut MatrixMut::new(products, length, wide), tokens, transposed, 1.0);
        self.by_token_to_by_head(Matrix::strided(products, length, heads, wide), out);
    }

    /// Elements of the scratch memory of [`Self::dot_tokens`].
    fn scratch(&self, length: usize) -> usize {
        (self.hidden + length) * stride(self.shape.heads)
    }

    /// `out = a b`, where the bits of a row do not depend on the other rows. Where the `gemm` crate
    /// computes the product, this requires pieces of equal size, and never a single row.
    fn matmul(&self, out: &mut MatrixMut<'_, f32>, a: Matrix<'_, f32>, b: Matrix<'_, f32>) {
        for first in (0..a.rows()).step_by(PIECE) {
            let rows = first..a.rows().min(first + PIECE);
            let (mut out, a) = (out.some_rows(rows.clone()), a.some_rows(rows));
            if a.rows() > 1 {
                small_matmul(self.simd, &mut out, a, b, 1.0);
                continue;
            }
            let mut both = self.pool.uninit(&[2, a.columns() + b.columns()]);
            both.fill(|both| {
                let (twice, results) = both.split_at_mut(2 * a.columns());
                twice.chunks_exact_mut(a.columns()).for_each(|row| row.copy_from_slice(a.row(0)));
                let twice = Matrix::new(twice, 2, a.columns());
                small_matmul(self.simd, &mut MatrixMut::new(results, 2, b.columns()), twice, b, 1.0);
                out.row_mut(0).copy_from_slice(&results[..b.columns()]);
            });
        }
    }

    /// `out = a bᵀ`, as [`Self::matmul`].
    fn matmul_transposed(&self, out: &mut MatrixMut<'_, f32>, a: Matrix<'_, f32>, b: Matrix<'_, f32>) {
        let stride = stride(b.rows());
        let mut transposed = self.pool.uninit(&[b.columns(), stride]);
        transposed.fill(|transposed| {
            transpose(self.simd, b, stride, transposed);
            self.matmul(out, a, Matrix::strided(transposed, b.columns(), b.rows(), stride));
        });
    }

    /// `(sentences, H)`.
    pub fn forward(&self) -> (Buffer, Saved) {
        let (heads, size, hidden) = (self.shape.heads, self.size(), self.hidden);
        let firsts = self.first_inputs();
        let firsts = Matrix::new(firsts.values(), self.sentences(), hidden);
        let queries = self.by_head(size, |head, out| {
            self.matmul_transposed(out, firsts, self.weights(Part::Queries, head));
            let biases = self.biases(Part::Queries, head);
            for row in 0..out.rows() {
                out.row_mut(row).iter_mut().zip(biases).for_each(|(q, bias)| *q = (*q + bias) * self.scale());
            }
        });
        let key_queries = self.by_head(hidden, |head, out| {
            self.matmul(out, self.columns(queries.values(), head, size), self.weights(Part::Keys, head));
        });
        let mut probabilities = self.pool.uninit(&[self.x.len() / hidden, heads]);
        let mut mean = self.pool.uninit(&[self.sentences(), heads * hidden]);
        let mut sums = self.pool.uninit(&[self.sentences(), heads]);
        probabilities.fill(|probabilities| {
            mean.fill(|mean| {
                sums.fill(|sums| {
                    let rows = key_queries.values().par_chunks(heads * hidden).zip(mean.par_chunks_mut(heads * hidden));
                    let rows = rows.zip(sums.par_chunks_mut(heads)).zip(self.split(probabilities, heads));
                    rows.enumerate().for_each(|(index, (((key_queries, mean), sums), probabilities))| {
                        self.attend(self.sentence(index), key_queries, probabilities, mean, sums);
                    });
                });
            });
        });
        let out = self.by_head(size, |head, out| {
            let mean = self.columns(mean.values(), head, hidden);
            self.matmul_transposed(out, mean, self.weights(Part::Values, head));
            let biases = self.biases(Part::Values, head);
            for (row, sums) in sums.values().chunks_exact(heads).enumerate() {
                out.row_mut(row).iter_mut().zip(biases).for_each(|(out, bias)| *out += sums[head] * bias);
            }
        });
        (out, Saved { queries, key_queries, probabilities, mean })
    }

    /// Each sentence's rows of a matrix of `width` columns with a row for each token.
    fn split<'b>(&self, x: &'b mut [f32], width: usize) -> Vec<&'b mut [f32]> {
        let mut rest = x;
        let rows = self.shape.cu_seqlens.windows(2).map(|bounds| {
            let (rows, others) = std::mem::take(&mut rest).split_at_mut((bounds[1] - bounds[0]) * width);
            rest = others;
            rows
        });
        rows.collect()
    }

    /// One sentence: from its key queries, `(N, H)`, its probabilities, negative where dropout
    /// zeroed one, `(L, N)`, its inputs weighted by the probabilities after dropout, `(N, H)`, and
    /// the sums of these, `(N)`.
    fn attend(&self, of: Sentence, key_queries: &[f32], marked: &mut [f32], mean: &mut [f32], sums: &mut [f32]) {
        let (heads, stride) = (self.shape.heads, stride(of.length));
        let mut scratch = self.pool.uninit(&[2 * heads * stride + self.scratch(of.length)]);
        scratch.fill(|scratch| {
            let (p, scratch) = scratch.split_at_mut(heads * stride);
            let (dropped, scratch) = scratch.split_at_mut(heads * stride);
            self.dot_tokens(key_queries, self.inputs(of), scratch, p);
            match self.dropout.map(Mask::from) {
                None => {
                    softmax_rows(self.simd, p, of.keys, stride);
                    dropped.copy_from_slice(p);
                }
                Some(mask) => {
                    let row = of.start * heads * self.shape.stride;
                    let (row, step) = (row as u64, self.shape.stride as u64);
                    softmax_dropout(self.simd, p, dropped, of.keys, stride, &mask, row, step);
                }
            }
            for (token, marked) in marked.chunks_exact_mut(heads).enumerate() {
                marked.iter_mut().zip(p.chunks_exact(stride)).for_each(|(marked, p)| *marked = p[token]);
            }
            sum_rows(dropped, stride, sums);
            let weights = Matrix::strided(dropped, heads, of.length, stride);
            small_matmul(self.simd, &mut MatrixMut::new(mean, heads, self.hidden), weights, self.inputs(of), 1.0);
        });
    }

    /// Gradients of the input, `(T, H)`, the weight, `(3H, H)`, and the bias, `(3H)`.
    pub fn backward(&self, saved: &Saved, dy: &[f32]) -> [Buffer; 3] {
        let (heads, size, hidden) = (self.shape.heads, self.size(), self.hidden);
        let sentences = self.sentences();
        let d_mean = self.by_head(hidden, |head, out| {
            let dy = self.columns(dy, head, size);
            matmul_into(out, dy, self.weights(Part::Values, head), 1.0, 0.0, Parallelism::None);
        });
        let mut dx = self.pool.uninit(&[self.x.len() / hidden, hidden]);
        let mut d_key_queries = self.pool.uninit(&[sentences, heads * hidden]);
        let mut sums = self.pool.uninit(&[sentences, heads]);
        dx.fill(|dx| {
            d_key_queries.fill(|d_key_queries| {
                sums.fill(|sums| {
                    let rows = d_key_queries.par_chunks_mut(heads * hidden).zip(sums.par_chunks_mut(heads));
                    rows.zip(self.split(dx, hidden)).enumerate().for_each(|(index, ((d_key_queries, sums), dx))| {
                        let wide = index * heads * hidden..(index + 1) * heads * hidden;
                        let given = Given {
                            key_queries: &saved.key_queries.values()[wide.clone()],
                            d_mean: &d_mean.values()[wide],
                            dy: &dy[index * hidden..][..hidden],
                        };
                        self.attend_backward(
                            self.sentence(index),
                            given,
                            saved.probabilities.values(),
                            dx,
                            d_key_queries,
                            sums,
                        );
                    });
                });
            });
        });
        let dq = self.by_head(size, |head, out| {
            let d_key_queries = self.columns(d_key_queries.values(), head, hidden);
            matmul_into(out, d_key_queries, self.weights(Part::Keys, head).t(), self.scale(), 0.0, Parallelism::None);
        });
        let firsts = self.first_inputs();
        self.add_query_gradient(dq.values(), &mut dx);
        let mut d_weight = self.pool.uninit(&[3 * hidden, hidden]);
        d_weight.fill(|d_weight| {
            d_weight.par_chunks_mut(size * hidden).enumerate().for_each(|(block, out)| {
                let (head, firsts) = (block % heads, Matrix::new(firsts.values(), sentences, hidden));
                let (left, right) = match block / heads {
                    0 => (dq.values(), firsts),
                    1 => (saved.queries.values(), self.columns(d_key_queries.values(), head, hidden)),
                    _ => (dy, self.columns(saved.mean.values(), head, hidden)),
                };
                let left = self.columns(left, head, size).t();
                matmul(out, hidden, left, right, 1.0, 0.0, Parallelism::None);
            });
        });
        let mut d_bias = self.pool.zeros(&[3 * hidden]);
        d_bias.fill(|d_bias| {
            let (d_queries, rest) = d_bias.split_at_mut(hidden);
            let d_values = &mut rest[hidden..];
            let rows = dq.values().chunks_exact(hidden).zip(dy.chunks_exact(hidden));
            for ((dq, dy), sums) in rows.zip(sums.values().chunks_exact(heads)) {
                for i in 0..hidden {
                    d_queries[i] += dq[i];
                    d_values[i] += sums[i / size] * dy[i];
                }
            }
        });
        [dx, d_weight, d_bias]
    }

    /// Add `dq W_q` onto the rows of the first tokens.
    fn add_query_gradient(&self, dq: &[f32], dx: &mut Buffer) {
        let (sentences, hidden) = (self.sentences(), self.hidden);
        let mut d_firsts = self.pool.uninit(&[sentences, hidden]);
        d_firsts.fill(|d_firsts| {
            let weights = Matrix::new(self.weight, hidden, hidden);
            matmul(d_firsts, hidden, Matrix::new(dq, sentences, hidden), weights, 1.0, 0.0, all_threads());
        });
        dx.fill(|dx| {
            for (d_first, start) in d_firsts.values().chunks_exact(hidden).zip(self.shape.first_tokens()) {
                dx[start * hidden..][..hidden].iter_mut().zip(d_first).for_each(|(dx, d)| *dx += d);
            }
        });
    }

    /// One sentence: gradients of its input, `(L, H)`, and of its key queries, `(N, H)`; and the
    /// sums of its probabilities after dropout, `(N)`.
    fn attend_backward(
        &self,
        of: Sentence,
        given: Given<'_>,
        marked: &[f32],
        dx: &mut [f32],
        d_key_queries: &mut [f32],
        sums: &mut [f32],
    ) {
        let (heads, size, hidden, stride) = (self.shape.heads, self.size(), self.hidden, stride(of.length));
        let size_of_scratch = 3 * heads * stride + 2 * heads * hidden + self.scratch(of.length);
        let mut scratch = self.pool.uninit(&[size_of_scratch]);
        scratch.fill(|scratch| {
            let (p, scratch) = scratch.split_at_mut(heads * stride);
            let (both, scratch) = scratch.split_at_mut(2 * heads * stride);
            let (vectors, scratch) = scratch.split_at_mut(2 * heads * hidden);
            let (dropped, ds) = both.split_at_mut(heads * stride);
            let marked = &marked[of.start * heads..][..of.length * heads];
            self.by_token_to_by_head(Matrix::new(marked, of.length, heads), p);
            // The gradient of the probability of token i after dropout: `d_mean x_i + dy b_v`.
            self.dot_tokens(given.d_mean, self.inputs(of), scratch, ds);
            for (head, ds) in ds.chunks_exact_mut(stride).enumerate() {
                let biases = self.biases(Part::Values, head);
                let of_bias: f32 = given.dy[head * size..].iter().zip(biases).map(|(dy, bias)| dy * bias).sum();
                ds.iter_mut().for_each(|ds| *ds += of_bias);
            }
            scores_gradient(self.simd, p, self.dropout.map_or(1.0, Dropout::scale), dropped, ds, stride);
            sum_rows(dropped, stride, sums);
            let scores = Matrix::strided(ds, heads, of.length, stride);
            small_matmul(self.simd, &mut MatrixMut::new(d_key_queries, heads, hidden), scores, self.inputs(of), 1.0);
            // `dx_i = sum_h p_i d_mean + ds_i key_queries`.
            vectors[..heads * hidden].copy_from_slice(given.d_mean);
            vectors[heads * hidden..].copy_from_slice(given.key_queries);
            let vectors = Matrix::new(vectors, 2 * heads, hidden);
            let both = Matrix::strided(both, 2 * heads, of.length, stride).t();
            small_matmul(self.simd, &mut MatrixMut::new(dx, of.length, hidden), both, vectors, 1.0);
        });
    }
}

/// The rows of a sentence that its backward reads.
struct Given<'a> {
    /// `(N, H)`.
    key_queries: &'a [f32],
    /// `(N, H)`.
    d_mean: &'a [f32],
    /// `(H)`.
    dy: &'a [f32],
}

/// The sum of each row; beyond the sentence there are zeros.
fn sum_rows(x: &[f32], stride: usize, sums: &mut [f32]) {
    x.chunks_exact(stride).zip(sums).for_each(|(row, sum)| *sum = row.iter().sum());
}

pub(super) fn cls_attention(cpu: &Cpu, of: &ClsAttention<'_, Buffer>) -> Result<(Buffer, SavedAttentionOf<Cpu>)> {
    let (out, Saved { queries, key_queries, probabilities, mean }) = checked(cpu, of)?.forward();
    Ok((out, SavedAttention::Cls { queries, key_queries, probabilities, mean }))
}

pub(super) fn cls_attention_backward(
    cpu: &Cpu,
    of: &ClsAttention<'_, Buffer>,
    tape: SavedAttentionOf<Cpu>,
    dy: &Buffer,
) -> Result<[Buffer; 3]> {
    let SavedAttention::Cls { queries, key_queries, probabilities, mean } = tape else {
        return Err(internal_error("the tape of another engine's attention".into()));
    };
    let (sentences, heads) = (of.shape.first_tokens().len(), of.shape.heads);
    expect("the gradient", dy, &[sentences, of.hidden])?;
    expect("the mean input", &mean, &[sentences, heads * of.hidden])?;
    let first = checked(cpu, of)?;
    Ok(first.backward(&Saved { queries, key_queries, probabilities, mean }, dy.values()))
}

fn checked<'a>(cpu: &'a Cpu, of: &ClsAttention<'a, Buffer>) -> Result<Pass<'a>> {
    let ClsAttention { input, weight, bias, hidden, shape, dropout } = *of;
    let (tokens, _) = matrix(input)?;
    expect("the input", input, &[tokens, hidden])?;
    expect("the weight", weight, &[3 * hidden, hidden])?;
    expect("the bias", bias, &[3 * hidden])?;
    expect_attention(shape, tokens, hidden)?;
    if let Some(sentence) = shape.cu_seqlens.windows(2).position(|bounds| bounds[0] == bounds[1]) {
        return Err(internal_error(format!("sentence {sentence} has no first token")));
    }
    let [x, weight, bias] = [input, weight, bias].map(Buffer::values);
    Ok(Pass { simd: cpu.simd, pool: &cpu.pool, x, weight, bias, hidden, shape, dropout })
}
