//! Additive attention (paper, equations 4-6): `a = softmax(h K)`, `s = sum_i a_i h_i`, with one
//! vector K of size H, over the words of a sentence or over the layers' `[CLS]` vectors.

use candle_core::{D, Tensor};
use candle_nn::ops::softmax;
use candle_nn::{Linear, Module};

use super::definition::{Definition, HeadInput, HeadOps, Pooled, Pooling, Weighs, linear_by_rows};
use super::parameters::VarBuilder;
use crate::Result;
use crate::model::Init;
use crate::model::encoder::OutputSpec;

/// `[h_CLS ; attention(h_1..h_N)]`.
pub(super) const ATTENTION: Definition = Definition {
    reads: OutputSpec { cls: true, ..OutputSpec::TOKENS },
    weighs: Weighs::Words,
    width: |hidden| 2 * hidden,
    build: |vb, hidden| Ok(Box::new(OverWords(scores(&vb, hidden)?))),
};

/// `[attention(h_1..h_N)]`.
pub(super) const ATTENTION_NO_CLS: Definition =
    Definition { reads: OutputSpec::TOKENS, width: |hidden| hidden, ..ATTENTION };

/// `[attention over the layers' h_CLS]`.
pub(super) const ATTENTION_ALL_CLS: Definition = Definition {
    reads: OutputSpec { cls_of_layers: true, ..OutputSpec::NOTHING },
    weighs: Weighs::Layers,
    width: |hidden| hidden,
    build: |vb, hidden| Ok(Box::new(OverLayers(scores(&vb, hidden)?))),
};

/// The scores `h K`, K in the layout of a weight, `(1, H)`.
fn scores(vb: &VarBuilder<'_>, hidden: usize) -> candle_core::Result<Linear> {
    Ok(Linear::new(vb.pp("attention").get_with_hints((1, hidden), "weight", Init::WEIGHT)?, None))
}

struct OverWords(Linear);

impl Pooling for OverWords {
    fn forward(&self, ops: &dyn HeadOps, input: &HeadInput, alone: bool) -> Result<Pooled> {
        let last = HeadInput::part(&input.tokens)?; // (T, H)
        let (summaries, weights) = match alone {
            true => self.each_alone(last, input)?,
            false => ops.attention_pooling(last, self.0.weight(), &input.words)?,
        };
        Ok(Pooled { vectors: input.behind_cls(summaries)?, weights: Some(weights) })
    }
}

impl OverWords {
    /// Summaries, `(n, H)`, and weights, `(n, T)`, one sentence at a time.
    fn each_alone(&self, last: &Tensor, input: &HeadInput) -> Result<(Tensor, Tensor)> {
        let tokens = last.dim(0)?;
        let (mut summaries, mut rows) = (Vec::new(), Vec::new());
        for words in &input.words {
            let h = last.narrow(0, words.start, words.len())?; // (N, H)
            let a = softmax(&self.0.forward(&h)?.reshape((1, words.len()))?, D::Minus1)?; // (1, N)
            summaries.push(a.matmul(&h)?);
            rows.push(a.pad_with_zeros(1, words.start, tokens - words.end)?);
        }
        Ok((Tensor::cat(&summaries, 0)?, Tensor::cat(&rows, 0)?))
    }
}

struct OverLayers(Linear);

impl Pooling for OverLayers {
    fn forward(&self, _: &dyn HeadOps, input: &HeadInput, alone: bool) -> Result<Pooled> {
        let h = Tensor::stack(&input.cls_of_layers, 1)?; // (n, L, H)
        let (n, layers, hidden) = h.dims3()?;
        let rows = if alone { layers } else { n * layers };
        let scores = linear_by_rows(&self.0, &h.reshape((n * layers, hidden))?, rows)?.reshape((n, layers))?;
        let a = softmax(&scores, D::Minus1)?;
        Ok(Pooled { vectors: a.unsqueeze(1)?.matmul(&h)?.squeeze(1)?, weights: Some(a) })
    }
}
