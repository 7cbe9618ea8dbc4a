//! Additive attention (paper, equations 4-6): `a = softmax(h K)`, `s = sum_i a_i h_i`, with one vector K of size H.

use candle_core::{D, Tensor};
use candle_nn::ops::softmax;

use super::{HeadInput, rows_product};
use crate::Result;
use crate::model::ParamSpec;
use crate::ops::Ops;

pub(super) fn specs(hidden: usize) -> Vec<ParamSpec> {
    vec![ParamSpec::weight("head.attention.weight", &[1, hidden])]
}

/// Summaries of the words of each sentence, `(n, H)`, and the weights, `(n, T)`: an operation of the engine.
pub(super) fn over_words<O: Ops>(ops: &O, weights: &[Tensor], input: &HeadInput) -> Result<(Tensor, Tensor)> {
    let last = HeadInput::part(&input.last, "the last layer")?;
    // Between [CLS] and [SEP].
    let words: Vec<_> = input.cu_seqlens.windows(2).map(|bounds| bounds[0] + 1..bounds[1] - 1).collect();
    ops.attention_pooling(last, &weights[0], &words)
}

/// The same, each sentence by itself (see [`super::product`]).
pub(super) fn over_words_alone(weights: &[Tensor], input: &HeadInput) -> Result<(Tensor, Tensor)> {
    let last = HeadInput::part(&input.last, "the last layer")?;
    let tokens = last.dim(0)?;
    let k = weights[0].t()?;
    let (mut summaries, mut rows) = (Vec::new(), Vec::new());
    for bounds in input.cu_seqlens.windows(2) {
        let (first, end) = (bounds[0] + 1, bounds[1] - 1); // between [CLS] and [SEP]
        let h = last.narrow(0, first, end - first)?; // (N, H)
        let a = softmax(&h.matmul(&k)?.reshape((1, end - first))?, D::Minus1)?; // (1, N)
        summaries.push(a.matmul(&h)?);
        rows.push(a.pad_with_zeros(1, first, tokens - end)?);
    }
    Ok((Tensor::cat(&summaries, 0)?, Tensor::cat(&rows, 0)?))
}

/// Summaries of the layers' `[CLS]` vectors, `(n, H)`, and the weights, `(n, L)`; products of so many rows at a time.
pub(super) fn over_layers(weights: &[Tensor], input: &HeadInput, rows: usize) -> Result<(Tensor, Tensor)> {
    let h = Tensor::stack(&input.cls, 1)?; // (n, L, H)
    let (n, layers, hidden) = h.dims3()?;
    let scores = rows_product(&h.reshape((n * layers, hidden))?, &weights[0].t()?, rows)?.reshape((n, layers))?;
    let a = softmax(&scores, D::Minus1)?;
    Ok((a.unsqueeze(1)?.matmul(&h)?.squeeze(1)?, a))
}
