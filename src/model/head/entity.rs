//! Heads that read the tokens of the two entities, `h_E1` and `h_E2`, so that they can tell apart
//! the pairs of one text.

use std::ops::Range;

use candle_core::{D, Tensor};
use candle_nn::Linear;
use candle_nn::ops::softmax;

use super::definition::{Definition, HeadInput, HeadOps, Pooled, Pooling, Weighs, linear_by_rows};
use crate::Result;
use crate::model::Init;
use crate::model::encoder::OutputSpec;
use crate::ops::pair_scores;

/// `[h_E1 ; h_E2]`: the start markers of Baldini Soares et al. (2019) and of PURE.
pub(super) const ENTITY: Definition = Definition {
    reads: OutputSpec { entities: true, ..OutputSpec::NOTHING },
    weighs: Weighs::Nothing,
    width: |hidden| 2 * hidden,
    build: |_, _| Ok(Box::new(Entity)),
};

/// `[h_E1 ; h_E2 ; attention(h_1..h_N)]` with an attention given the pair:
/// `a = softmax(v . tanh(K h_i + Q [h_E1 ; h_E2]))`.
pub(super) const ENTITY_ATTENTION: Definition = Definition {
    reads: OutputSpec {
        entities: true,
        projection: Some(["head.attention.key.weight", "head.attention.key.bias"]),
        ..OutputSpec::TOKENS
    },
    weighs: Weighs::Words,
    width: |hidden| 3 * hidden,
    build: |vb, hidden| {
        let vb = vb.pp("attention");
        // The keys are the projection that the encoder's engine computes; see `OutputSpec`.
        vb.get_with_hints((hidden, hidden), "key.weight", Init::WEIGHT)?;
        vb.get_with_hints(hidden, "key.bias", Init::ZERO)?;
        let query = Linear::new(vb.get_with_hints((hidden, 2 * hidden), "query.weight", Init::WEIGHT)?, None);
        let score = vb.get_with_hints((1, hidden), "score.weight", Init::WEIGHT)?;
        Ok(Box::new(EntityAttention { query, score }))
    },
};

struct Entity;

impl Pooling for Entity {
    fn forward(&self, _: &dyn HeadOps, input: &HeadInput, _: bool) -> Result<Pooled> {
        Ok(Pooled { vectors: HeadInput::part(&input.entities)?.clone(), weights: None })
    }
}

struct EntityAttention {
    /// Q, `(H, 2H)`; the bias is that of the keys.
    query: Linear,
    /// v, `(1, H)`.
    score: Tensor,
}

impl Pooling for EntityAttention {
    fn forward(&self, ops: &dyn HeadOps, input: &HeadInput, alone: bool) -> Result<Pooled> {
        let entities = HeadInput::part(&input.entities)?; // (n, 2H)
        let last = HeadInput::part(&input.tokens)?; // (T, H)
        let keys = HeadInput::part(&input.projection)?; // (T, H)
        let (n, tokens) = (entities.dim(0)?, last.dim(0)?);
        let queries = linear_by_rows(&self.query, entities, if alone { 1 } else { n })?; // (n, H)
        let scores = ops.pair_scores(keys, &queries, &self.score, &input.words)?; // (sum of N)
        let (mut summaries, mut rows, mut start) = (Vec::new(), Vec::new(), 0);
        for pairs in runs(&input.words, alone) {
            let words = input.words[pairs.start].clone();
            let size = pairs.len() * words.len();
            let a = softmax(&scores.narrow(0, start, size)?.reshape((pairs.len(), words.len()))?, D::Minus1)?; // (p, N)
            start += size;
            let h = last.narrow(0, words.start, words.len())?; // (N, H)
            summaries.push(a.matmul(&h)?);
            rows.push(a.pad_with_zeros(1, words.start, tokens - words.end)?);
        }
        let vectors = Tensor::cat(&[entities, &Tensor::cat(&summaries, 0)?], 1)?; // (n, 3H)
        Ok(Pooled { vectors, weights: Some(Tensor::cat(&rows, 0)?) })
    }
}

/// Neighbouring instances that read the same words, or each instance `alone`.
fn runs(words: &[Range<usize>], alone: bool) -> Vec<Range<usize>> {
    match alone {
        true => (0..words.len()).map(|index| index..index + 1).collect(),
        false => pair_scores::runs(words),
    }
}
