//! The specification: every operation in plain candle tensor operations, in f32 or f64, on any of
//! candle's devices.
//!
//! It is written to be read. Each backward is the textbook derivative of the forward above it; none
//! uses candle's autograd, so that the two can be compared.

use std::ops::Range;

use candle_core::{D, DType, Device, Tensor, Var};
use candle_nn::ops::log_softmax;

use super::{
    AdamWStep, AttentionShape, Classified, Classifier, ClsAttention, Loss, Moments, Norm, NormGradients, Normed, Ops,
    Rotation, RowGroups, SavedAttentionOf, Targets, WordScoreGradients, WordScores, additive_attention, classifier,
    cls_attention, cpu, row_groups, shapes::expect_attention, word_pooling,
};
use crate::Result;
use crate::rng::Dropout;

/// Plain candle tensors of one element type on one device.
#[derive(Debug, Clone)]
pub struct Reference {
    device: Device,
    dtype: DType,
}

impl Reference {
    /// An engine on `device` that computes in `dtype` (f32, or f64 for gradient checks).
    pub fn new(device: Device, dtype: DType) -> Self {
        Self { device, dtype }
    }

    /// f32 on the CPU.
    pub fn cpu() -> Self {
        Self::new(Device::Cpu, DType::F32)
    }

    /// The dropout factors of elements `0..rows * columns`, `(rows, columns)`.
    fn mask(&self, dropout: &Dropout, rows: usize, columns: usize) -> Result<Tensor> {
        let mut factors = vec![0.0; rows * columns];
        dropout.fill(0, &mut factors);
        self.upload(&factors, &[rows, columns])
    }

    /// What is added to one sentence's scores, `(1, L, L)`: 0 where the row's token attends to the
    /// column's, else so little that its probability becomes 0.
    fn attended(&self, shape: AttentionShape<'_>, sentence: usize, length: usize) -> Result<Tensor> {
        let (start, valid) = (shape.cu_seqlens[sentence], shape.valid_length(sentence, length));
        let pairs = (0..length).flat_map(|query| (0..length).map(move |key| (query, key)));
        let mask: Vec<f32> =
            pairs.map(|(query, key)| if shape.attends(start, valid, query, key) { 0.0 } else { -1e30 }).collect();
        self.upload(&mask, &[1, length, length])
    }

    /// The dropout factors of one sentence's attention probabilities, `(N, L, L)`.
    fn attention_mask(&self, dropout: &Dropout, shape: AttentionShape<'_>, sentence: usize) -> Result<Tensor> {
        let (start, end) = (shape.cu_seqlens[sentence], shape.cu_seqlens[sentence + 1]);
        let length = end - start;
        let valid = shape.valid_length(sentence, length);
        let columns: Vec<usize> = (0..length).map(|key| shape.column(valid, key)).collect();
        let mut row = vec![0.0; columns.iter().max().map_or(0, |last| last + 1)];
        let mut factors = Vec::with_capacity(shape.heads * length * length);
        for (head, token) in (0..shape.heads).flat_map(|head| (start..end).map(move |token| (head, token))) {
            dropout.fill(((token * shape.heads + head) * shape.stride) as u64, &mut row);
            factors.extend(columns.iter().map(|column| row[*column]));
        }
        self.upload(&factors, &[shape.heads, length, length])
    }

    /// One sentence's queries, keys and values, each `(N, L, D)`.
    fn split_heads(&self, qkv: &Tensor, start: usize, length: usize, heads: usize) -> Result<[Tensor; 3]> {
        let hidden = qkv.dim(1)? / 3;
        let part = |i: usize| -> Result<Tensor> {
            let rows = qkv.narrow(0, start, length)?.narrow(1, i * hidden, hidden)?; // (L, H)
            Ok(rows.reshape((length, heads, hidden / heads))?.transpose(0, 1)?.contiguous()?)
        };
        Ok([part(0)?, part(1)?, part(2)?])
    }
}

/// `(N, L, D)` back to `(L, H)`.
fn join_heads(x: &Tensor) -> Result<Tensor> {
    let (heads, length, size) = x.dims3()?;
    Ok(x.transpose(0, 1)?.reshape((length, heads * size))?)
}

/// `gelu(z) = z Phi(z)`, so `gelu'(z) = Phi(z) + z phi(z)`.
fn gelu_slope(z: &Tensor) -> Result<Tensor> {
    let cdf = ((z / std::f64::consts::SQRT_2)?.erf()? + 1.0)?.affine(0.5, 0.0)?;
    let pdf = ((z.sqr()? * -0.5)?.exp()? / (2.0 * std::f64::consts::PI).sqrt())?;
    Ok((cdf + (z * pdf)?)?)
}

/// The first and the second half of the columns.
fn halves(x: &Tensor) -> Result<[Tensor; 2]> {
    let half = x.dim(1)? / 2;
    Ok([x.narrow(1, 0, half)?.contiguous()?, x.narrow(1, half, half)?.contiguous()?])
}

impl Ops for Reference {
    type Buffer = Tensor;
    /// Per sentence: the probabilities before dropout, `(N, L, L)`.
    type Probabilities = Vec<Tensor>;
    type Pooled = word_pooling::PooledByCandle;

    fn name(&self) -> &'static str {
        "reference"
    }

    fn upload(&self, values: &[f32], shape: &[usize]) -> Result<Tensor> {
        Ok(Tensor::from_slice(values, shape, &self.device)?.to_dtype(self.dtype)?)
    }

    fn download(&self, buffer: &Tensor) -> Result<Vec<f32>> {
        Ok(buffer.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }

    fn zeros(&self, shape: &[usize]) -> Result<Tensor> {
        Ok(Tensor::zeros(shape, self.dtype, &self.device)?)
    }

    fn to_candle(&self, buffer: &Tensor) -> Result<Tensor> {
        Ok(buffer.clone())
    }

    fn upload_candle(&self, tensor: &Tensor) -> Result<Tensor> {
        // A gradient remembers how it was computed; without `detach` every step would keep all earlier ones alive.
        Ok(tensor.to_device(&self.device)?.to_dtype(self.dtype)?.contiguous()?.detach())
    }

    fn embed(
        &self,
        ids: &[u32],
        positions: &[u32],
        [word_table, position_table, type_table]: [&Tensor; 3],
    ) -> Result<Tensor> {
        let ids = Tensor::new(ids, &self.device)?;
        let positions = Tensor::new(positions, &self.device)?;
        let sum = (word_table.index_select(&ids, 0)? + position_table.index_select(&positions, 0)?)?; // (T, H)
        Ok(sum.broadcast_add(&type_table.narrow(0, 0, 1)?)?)
    }

    fn embed_backward(
        &self,
        ids: &[u32],
        positions: &[u32],
        gradient: &Tensor,
        [word_table, position_table, type_table]: [&Tensor; 3],
    ) -> Result<[Tensor; 3]> {
        let ids = Tensor::new(ids, &self.device)?;
        let positions = Tensor::new(positions, &self.device)?;
        let kind = Tensor::zeros(ids.elem_count(), DType::U32, &self.device)?;
        Ok([
            word_table.zeros_like()?.index_add(&ids, gradient, 0)?,
            position_table.zeros_like()?.index_add(&positions, gradient, 0)?,
            type_table.zeros_like()?.index_add(&kind, gradient, 0)?,
        ])
    }

    fn linear(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let y = x.matmul(&weight.t()?)?;
        Ok(match bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        })
    }

    fn linear_backward(
        &self,
        x: &Tensor,
        weight: &Tensor,
        dy: &Tensor,
        onto: Option<Tensor>,
    ) -> Result<(Tensor, Tensor)> {
        let dx = dy.matmul(weight)?;
        let dx = match onto {
            Some(onto) => (onto + dx)?,
            None => dx,
        };
        Ok((dx, dy.t()?.matmul(x)?))
    }

    fn column_sum(&self, dy: &Tensor) -> Result<Tensor> {
        Ok(dy.sum(0)?)
    }

    fn bias_gelu(&self, x: &Tensor, bias: &Tensor) -> Result<Tensor> {
        Ok(x.broadcast_add(bias)?.gelu_erf()?)
    }

    fn bias_gelu_backward(&self, x: &Tensor, bias: &Tensor, dy: Tensor) -> Result<(Tensor, Tensor)> {
        let dx = (dy * gelu_slope(&x.broadcast_add(bias)?)?)?;
        let dbias = dx.sum(0)?;
        Ok((dx, dbias))
    }

    fn geglu(&self, x: &Tensor) -> Result<Tensor> {
        let [a, gate] = halves(x)?;
        Ok((a.gelu_erf()? * gate)?)
    }

    /// `da = dy g gelu'(a)`, `dg = dy gelu(a)`.
    fn geglu_backward(&self, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
        let [a, gate] = halves(x)?;
        let da = ((dy * gate)? * gelu_slope(&a)?)?;
        Ok(Tensor::cat(&[da, (dy * a.gelu_erf()?)?], 1)?)
    }

    fn rotary(&self, qkv: Tensor, rotation: &Rotation<'_>) -> Result<Tensor> {
        let size = rotation.head_size(qkv.dims())?;
        let (tokens, half) = (rotation.positions.len(), size / 2);
        let positions = Tensor::new(rotation.positions, &self.device)?;
        let of_tokens = |table: Vec<f32>| -> Result<Tensor> {
            let table = self.upload(&table, &[table.len() / half.max(1), half])?;
            Ok(table.index_select(&positions, 0)?.unsqueeze(1)?) // (T, 1, D/2)
        };
        let [cos, sin] = rotation.table(size);
        let (cos, sin) = (of_tokens(cos)?, of_tokens(sin)?);
        let heads = qkv.reshape((tokens, 3 * rotation.heads, size))?;
        let turned = heads.narrow(1, 0, 2 * rotation.heads)?; // queries and keys
        let (low, high) = (turned.narrow(2, 0, half)?, turned.narrow(2, half, half)?); // (T, 2N, D/2)
        let new_low = (low.broadcast_mul(&cos)? - high.broadcast_mul(&sin)?)?;
        let new_high = (high.broadcast_mul(&cos)? + low.broadcast_mul(&sin)?)?;
        let values = heads.narrow(1, 2 * rotation.heads, rotation.heads)?;
        let turned = Tensor::cat(&[new_low, new_high], 2)?;
        Ok(Tensor::cat(&[turned, values], 1)?.reshape(qkv.shape())?)
    }

    fn add_norm(
        &self,
        branch: Tensor,
        bias: Option<&Tensor>,
        residual: Option<&Tensor>,
        norm: Norm<'_, Tensor>,
        dropout: Option<&Dropout>,
    ) -> Result<Normed<Tensor>> {
        let (rows, hidden) = branch.dims2()?;
        let mut x = branch;
        if let Some(bias) = bias {
            x = x.broadcast_add(bias)?;
        }
        if let Some(dropout) = dropout {
            x = (x * self.mask(dropout, rows, hidden)?)?;
        }
        if let Some(residual) = residual {
            x = (x + residual)?;
        }
        let centred = x.broadcast_sub(&x.mean_keepdim(1)?)?;
        let variance = centred.sqr()?.mean_keepdim(1)?; // (T, 1)
        let rstd = (variance + norm.eps)?.sqrt()?.recip()?;
        let normalized = centred.broadcast_mul(&rstd)?;
        let out = normalized.broadcast_mul(norm.gamma)?.broadcast_add(norm.beta)?;
        Ok(Normed { out, normalized, rstd: rstd.squeeze(1)? })
    }

    /// With n the normalized row and g = dy * gamma: `dx = rstd (g - mean(g) - n mean(g n))`.
    fn add_norm_backward(
        &self,
        dy: Tensor,
        normed: &Normed<Tensor>,
        gamma: &Tensor,
        dropout: Option<&Dropout>,
    ) -> Result<NormGradients<Tensor>> {
        let (rows, hidden) = dy.dims2()?;
        let n = &normed.normalized;
        let g = dy.broadcast_mul(gamma)?;
        let mean_g = g.mean_keepdim(1)?;
        let mean_gn = (&g * n)?.mean_keepdim(1)?;
        let dx = (g.broadcast_sub(&mean_g)? - n.broadcast_mul(&mean_gn)?)?.broadcast_mul(&normed.rstd.unsqueeze(1)?)?;
        let branch = match dropout {
            Some(dropout) => (&dx * self.mask(dropout, rows, hidden)?)?,
            None => dx.clone(),
        };
        Ok(NormGradients { bias: branch.sum(0)?, branch, residual: dx, gamma: (&dy * n)?.sum(0)?, beta: dy.sum(0)? })
    }

    fn dropout(&self, x: Tensor, dropout: &Dropout) -> Result<Tensor> {
        let (rows, columns) = x.dims2()?;
        Ok((x * self.mask(dropout, rows, columns)?)?)
    }

    fn attention(
        &self,
        qkv: &Tensor,
        shape: AttentionShape<'_>,
        dropout: Option<&Dropout>,
    ) -> Result<(Tensor, Vec<Tensor>)> {
        expect_attention(shape, qkv.dim(0)?, qkv.dim(1)? / 3)?;
        let (mut outputs, mut probabilities) = (Vec::new(), Vec::new());
        for (sentence, bounds) in shape.cu_seqlens.windows(2).enumerate() {
            let (start, length) = (bounds[0], bounds[1] - bounds[0]);
            let [q, k, v] = self.split_heads(qkv, start, length, shape.heads)?; // (N, L, D)
            let scores = (q.matmul(&k.t()?)? / (q.dim(2)? as f64).sqrt())?; // (N, L, L)
            let scores = scores.broadcast_add(&self.attended(shape, sentence, length)?)?;
            let p = candle_nn::ops::softmax(&scores, D::Minus1)?;
            let dropped = match dropout {
                Some(dropout) => (&p * self.attention_mask(dropout, shape, sentence)?)?,
                None => p.clone(),
            };
            outputs.push(join_heads(&dropped.matmul(&v)?)?);
            probabilities.push(p);
        }
        Ok((Tensor::cat(&outputs, 0)?, probabilities))
    }

    /// With S the scores, P = softmax(S), M the mask, O = (P M) V: `dV = (P M)ᵀ dO`,
    /// `dP = (dO Vᵀ) M`, `dS = P (dP - rowsum(P dP))`, `dQ = dS K / sqrt(D)`,
    /// `dK = dSᵀ Q / sqrt(D)`.
    fn attention_backward(
        &self,
        qkv: &Tensor,
        probabilities: Vec<Tensor>,
        dy: &Tensor,
        shape: AttentionShape<'_>,
        dropout: Option<&Dropout>,
    ) -> Result<Tensor> {
        let mut gradients = Vec::new();
        for (sentence, (bounds, p)) in shape.cu_seqlens.windows(2).zip(probabilities).enumerate() {
            let (start, length) = (bounds[0], bounds[1] - bounds[0]);
            let [q, k, v] = self.split_heads(qkv, start, length, shape.heads)?;
            let scale = 1.0 / (q.dim(2)? as f64).sqrt();
            let dout = dy.narrow(0, start, length)?.reshape((length, shape.heads, q.dim(2)?))?;
            let dout = dout.transpose(0, 1)?.contiguous()?; // (N, L, D)
            let (mut dropped, mut dp) = (p.clone(), dout.matmul(&v.t()?)?);
            if let Some(dropout) = dropout {
                let mask = self.attention_mask(dropout, shape, sentence)?;
                dropped = (dropped * &mask)?;
                dp = (dp * &mask)?;
            }
            let dv = dropped.transpose(1, 2)?.matmul(&dout)?;
            let ds = (&p * dp.broadcast_sub(&(&p * &dp)?.sum_keepdim(D::Minus1)?)?)?;
            let dq = (ds.matmul(&k)? * scale)?;
            let dk = (ds.transpose(1, 2)?.matmul(&q)? * scale)?;
            gradients.push(Tensor::cat(&[join_heads(&dq)?, join_heads(&dk)?, join_heads(&dv)?], 1)?);
        }
        Ok(Tensor::cat(&gradients, 0)?)
    }

    fn cls_attention(&self, of: &ClsAttention<'_, Tensor>) -> Result<(Tensor, SavedAttentionOf<Self>)> {
        cls_attention::cls_attention(self, of)
    }

    fn cls_attention_backward(
        &self,
        of: &ClsAttention<'_, Tensor>,
        tape: SavedAttentionOf<Self>,
        dy: &Tensor,
    ) -> Result<[Tensor; 3]> {
        cls_attention::cls_attention_backward(self, of, tape, dy)
    }

    fn lstm(&self, inputs: &Tensor, recurrent: &Tensor, sequences: &[Range<usize>]) -> Result<Tensor> {
        cpu::lstm::lstm(inputs, recurrent, sequences)
    }

    fn attention_pooling(&self, last: &Tensor, key: &Tensor, words: &[Range<usize>]) -> Result<(Tensor, Tensor)> {
        additive_attention::attention_pooling(self, last, key, words)
    }

    fn mean_rows(&self, x: &Tensor, groups: &RowGroups) -> Result<Tensor> {
        row_groups::mean_rows(self, x, groups)
    }

    fn mean_rows_backward(&self, dy: &Tensor, groups: &RowGroups, rows: usize, onto: Option<Tensor>) -> Result<Tensor> {
        row_groups::mean_rows_backward(self, dy, groups, rows, onto)
    }

    fn classify(&self, of: &Classifier<'_, Tensor>, targets: &Targets<'_>) -> Result<Classified<Tensor>> {
        classifier::classify(self, of, targets)
    }

    fn pool_words(
        &self,
        last: &Tensor,
        scores: &WordScores<'_, Tensor>,
        words: &[Range<usize>],
    ) -> Result<(Tensor, word_pooling::PooledByCandle)> {
        word_pooling::pool_words(self, last, scores, words)
    }

    fn pool_words_backward(
        &self,
        pooled: word_pooling::PooledByCandle,
        dy: &Tensor,
        onto: Option<Tensor>,
    ) -> Result<(Tensor, WordScoreGradients<Tensor>)> {
        word_pooling::pool_words_backward(self, &pooled, dy, onto)
    }

    fn rows(&self, x: &Tensor, rows: &[usize]) -> Result<Tensor> {
        let rows: Vec<u32> = rows.iter().map(|row| *row as u32).collect();
        Ok(x.index_select(&Tensor::new(rows, &self.device)?, 0)?)
    }

    fn add_rows(&self, x: Tensor, rows: &[usize], values: &Tensor) -> Result<Tensor> {
        let rows: Vec<u32> = rows.iter().map(|row| *row as u32).collect();
        Ok(x.index_add(&Tensor::new(rows, &self.device)?, values, 0)?)
    }

    fn add(&self, a: Tensor, b: &Tensor) -> Result<Tensor> {
        Ok((a + b)?)
    }

    /// The gradient by candle's autograd.
    fn cross_entropy(&self, logits: &Tensor, labels: &[u32], loss: &Loss<'_>) -> Result<(Tensor, Tensor)> {
        loss.expect(logits.dims(), labels)?;
        let logits = Var::from_tensor(logits)?;
        let chosen = Tensor::new(labels, &self.device)?.unsqueeze(1)?; // (n, 1)
        let chosen = log_softmax(&logits, D::Minus1)?.gather(&chosen, 1)?;
        let mut losses = chosen.neg()?;
        if loss.focal_gamma > 0.0 {
            losses = (losses * chosen.exp()?.affine(-1.0, 1.0)?.powf(loss.focal_gamma)?)?;
        }
        let weights: Vec<f64> = labels.iter().map(|label| loss.weight(*label)).collect();
        let weights = Tensor::from_vec(weights, (labels.len(), 1), &self.device)?.to_dtype(self.dtype)?;
        let sum = ((losses * weights)?.sum_all()? / loss.total)?;
        let gradient = match sum.backward()?.get(&logits) {
            Some(gradient) => gradient.clone(),
            None => logits.zeros_like()?,
        };
        Ok((sum.reshape(1)?.detach(), gradient.detach()))
    }

    fn sum_squares(&self, x: &Tensor) -> Result<f64> {
        Ok(x.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar()?)
    }

    fn adamw(
        &self,
        value: &mut Tensor,
        moments: &mut Moments<Tensor>,
        gradient: &Tensor,
        step: &AdamWStep,
    ) -> Result<()> {
        let [b1, b2] = step.betas;
        let [c1, c2] = step.corrections;
        let g = (gradient * step.clip)?;
        moments.m = ((&moments.m * b1)? + (&g * (1.0 - b1))?)?;
        moments.v = ((&moments.v * b2)? + (g.sqr()? * (1.0 - b2))?)?;
        let direction = ((&moments.m * c1)? / ((&moments.v * c2)?.sqrt()? + step.epsilon)?)?;
        let update = (direction + (&*value * step.decay)?)?;
        *value = (&*value - (update * step.learning_rate)?)?;
        Ok(())
    }
}
