//! Additive attention (paper, equations 4-6): `a = softmax(h K)`, `s = sum_i a_i h_i`, with one
//! vector K of size H, over the words of a sentence or over the layers' `[CLS]` vectors.

use candle_core::{D, Tensor};
use candle_nn::Linear;
use candle_nn::ops::softmax;

use super::definition::{Definition, HeadInput, HeadOps, Pooled, Pooling, Weighs, linear};
use super::parameters::VarBuilder;
use crate::Result;
use crate::model::Init;
use crate::model::encoder::OutputSpec;

/// `[h_CLS ; attention(h_1..h_N)]`.
pub(super) const ATTENTION: Definition = Definition {
    reads: OutputSpec { cls: true, ..OutputSpec::TOKENS },
    weighs: Weighs::Words,
    by_engine: true,
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
    by_engine: false,
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
            true => {
                let scores = linear(ops, &self.0, last, true)?.flatten_all()?; // (T)
                let own = input.words.iter().map(|words| scores.narrow(0, words.start, words.len()));
                let own = Tensor::cat(&own.collect::<candle_core::Result<Vec<_>>>()?, 0)?;
                ops.softmax_pooling(last, &own, &input.words)?
            }
            false => ops.attention_pooling(last, self.0.weight(), &input.words)?,
        };
        Ok(Pooled { vectors: input.behind_cls(summaries)?, weights: Some(weights) })
    }
}

struct OverLayers(Linear);

impl Pooling for OverLayers {
    fn forward(&self, ops: &dyn HeadOps, input: &HeadInput, alone: bool) -> Result<Pooled> {
        let h = Tensor::stack(&input.cls_of_layers, 1)?; // (n, L, H)
        let (n, layers, hidden) = h.dims3()?;
        let scores = linear(ops, &self.0, &h.reshape((n * layers, hidden))?, alone)?.reshape((n, layers))?;
        let a = softmax(&scores, D::Minus1)?;
        Ok(Pooled { vectors: a.unsqueeze(1)?.matmul(&h)?.squeeze(1)?, weights: Some(a) })
    }
}
