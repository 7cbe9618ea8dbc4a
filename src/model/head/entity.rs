//! Heads that read the tokens of the two entities, `h_E1` and `h_E2`, so that they can tell apart
//! the pairs of one text. At document scope an entity is a concept, and `h_E` is the mean over the
//! pairs of mentions that stand for the pair.

use candle_core::Tensor;
use candle_nn::Linear;

use super::definition::{Definition, HeadInput, HeadOps, Pooled, Pooling, Weighs, linear};
use crate::Result;
use crate::model::Init;
use crate::model::encoder::OutputSpec;

/// `[h_E1 ; h_E2]`: the start markers of Baldini Soares et al. (2019) and of PURE.
pub(super) const ENTITY: Definition = Definition {
    reads: OutputSpec { entities: true, ..OutputSpec::NOTHING },
    weighs: Weighs::Nothing,
    by_engine: true,
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
    by_engine: true,
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
    fn forward(&self, _: &dyn HeadOps, input: &HeadInput, alone: bool) -> Result<Pooled> {
        Ok(Pooled { vectors: input.entity_vectors(alone)?, weights: None })
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
        let entities = &input.entity_vectors(alone)?; // (n, 2H)
        let last = HeadInput::part(&input.tokens)?; // (T, H)
        let keys = HeadInput::part(&input.projection)?; // (T, H)
        let queries = linear(ops, &self.query, entities, alone)?; // (n, H)
        let scores = ops.pair_scores(keys, &queries, &self.score, &input.words)?; // (sum of N)
        let (summaries, weights) = ops.softmax_pooling(last, &scores, &input.words)?; // (n, H), (n, T)
        let vectors = Tensor::cat(&[entities, &summaries], 1)?; // (n, 3H)
        Ok(Pooled { vectors, weights: Some(weights) })
    }
}
