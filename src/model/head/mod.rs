//! The heads (paper, section III-B): candle-nn modules. In training those of most use run on the
//! engine's own operations (`training.rs`); candle's autograd differentiates the others.
//!
//! ```text
//! cls                [h_CLS]
//! lstm               [h_CLS ; LSTM(h_1..h_N)]
//! attention          [h_CLS ; attention(h_1..h_N)]
//! lstm-no-cls        [LSTM(h_1..h_N)]
//! attention-no-cls   [attention(h_1..h_N)]
//! lstm-all-cls       [LSTM over the layers' h_CLS]
//! attention-all-cls  [attention over the layers' h_CLS]
//! entity             [h_E1 ; h_E2]
//! entity-attention   [h_E1 ; h_E2 ; attention(h_1..h_N) given h_E1 and h_E2]
//! ```
//!
//! The first seven are the paper's. `h_E1` and `h_E2` belong to the tokens that stand for the two
//! entities: their first pieces, or their start markers.
//!
//! Dropout and one linear layer, the classifier, follow. `h_1..h_N` excludes `[CLS]` and `[SEP]`;
//! packed batches have no padding.
//!
//! A head is one [`Definition`]: a constant in the file of its family, joined by the `match` of
//! [`HeadKind::definition`].

mod attention;
mod cls;
mod definition;
mod entity;
mod last_rows;
mod lstm;
mod parameters;
pub mod training;

use std::ops::Range;

use candle_core::Tensor;
use candle_nn::Linear;

use crate::config::{Compat, HeadKind};
use crate::model::{Init, ParamSpec};
use crate::ops::Ops;
use crate::rng::Dropout;
use crate::{Error, Result};

pub use definition::{Definition, HeadInput, Weighs};
pub use last_rows::LastRows;
pub use parameters::{Parameters, VarBuilder};

use definition::{Pooled, Pooling, linear};

impl Weighs {
    /// The names of the heads that weigh it, for messages.
    pub fn heads(self) -> String {
        let heads = HeadKind::ALL.into_iter().filter(|head| head.weighs() == self);
        heads.map(HeadKind::name).collect::<Vec<_>>().join(", ")
    }
}

impl HeadKind {
    /// The definition of the head, by the paper's text or by its code.
    pub fn definition(self, compat: Option<Compat>) -> &'static Definition {
        match (self, compat) {
            (Self::Cls, None) => &cls::CLS,
            (Self::Cls, Some(Compat::Su2020)) => &cls::POOLED_CLS,
            (Self::Lstm, None) => &lstm::LSTM,
            (Self::Lstm, Some(Compat::Su2020)) => &lstm::KERAS_LSTM,
            (Self::LstmNoCls, None) => &lstm::LSTM_NO_CLS,
            (Self::LstmNoCls, Some(Compat::Su2020)) => &lstm::KERAS_LSTM_NO_CLS,
            (Self::LstmAllCls, None) => &lstm::LSTM_ALL_CLS,
            (Self::LstmAllCls, Some(Compat::Su2020)) => &lstm::KERAS_LSTM_ALL_CLS,
            (Self::Attention, _) => &attention::ATTENTION,
            (Self::AttentionNoCls, _) => &attention::ATTENTION_NO_CLS,
            (Self::AttentionAllCls, _) => &attention::ATTENTION_ALL_CLS,
            (Self::Entity, _) => &entity::ENTITY,
            (Self::EntityAttention, _) => &entity::ENTITY_ATTENTION,
        }
    }

    /// Whether it reads the tokens that stand for the two entities, and so can tell the pairs of a
    /// text apart.
    pub fn reads_entities(self) -> bool {
        self.definition(None).reads.entities
    }

    /// What the head's attention weights are distributed over.
    pub fn weighs(self) -> Weighs {
        self.definition(None).weighs
    }
}

/// The output of a head.
#[derive(Debug, Clone)]
pub struct HeadOutput {
    /// `(n, labels)`.
    pub logits: Tensor,
    /// Attention weights, if the head has any: `(n, T)` over the batch's tokens, each row zero
    /// outside of its sentence and at `[CLS]` and `[SEP]`; `(n, L)` for a head that weighs layers.
    pub weights: Option<Tensor>,
}

/// A head with its parameters: pooling, dropout and a linear classifier.
pub struct Head {
    pooling: Box<dyn Pooling>,
    classifier: Linear,
    /// Where the weight and the bias of [`OutputSpec::projection`] are among the parameters.
    pub projection: Option<[usize; 2]>,
}

impl Head {
    /// The head for hidden size `hidden`. Building it copies no values.
    ///
    /// # Errors
    /// [`Error::Tensor`] when the parameters have values of other shapes.
    pub fn new(definition: &Definition, hidden: usize, labels: usize, parameters: &Parameters) -> Result<Self> {
        let vb = parameters.builder().pp("head");
        let pooling = (definition.build)(vb.clone(), hidden)?;
        let vb = vb.pp("classifier");
        let weight = vb.get_with_hints((labels, (definition.width)(hidden)), "weight", Init::WEIGHT)?;
        let bias = vb.get_with_hints(labels, "bias", Init::ZERO)?;
        let declared = parameters.declared();
        let position = |name| declared.iter().position(|spec| spec.name == name);
        let projection = match definition.reads.projection {
            None => None,
            Some([weight, bias]) => match (position(weight), position(bias)) {
                (Some(weight), Some(bias)) => Some([weight, bias]),
                _ => return Err(Error::Tensor(candle_core::Error::CannotFindTensor { path: weight.into() })),
            },
        };
        Ok(Self { pooling, classifier: Linear::new(weight, Some(bias)), projection })
    }

    /// Logits of a batch.
    ///
    /// # Errors
    /// [`Error::Config`] when a sentence has nothing between `[CLS]` and `[SEP]`.
    pub fn forward<O: Ops>(&self, ops: &O, input: &HeadInput, dropout: Option<&Dropout>) -> Result<HeadOutput> {
        expect_words(&input.words)?;
        // On a GPU, n products are n kernel launches, and its libraries' sums depend on the batch anyway.
        let alone = dropout.is_none() && self.classifier.weight().device().is_cpu();
        let Pooled { mut vectors, weights } = self.pooling.forward(ops, input, alone)?;
        let (n, width) = vectors.dims2()?;
        if let Some(dropout) = dropout {
            vectors = (vectors * ops.mask(dropout, n, width)?)?;
        }
        let logits = linear(ops, &self.classifier, &vectors, alone)?;
        Ok(HeadOutput { logits, weights })
    }
}

/// Refuse instances without words.
fn expect_words(words: &[Range<usize>]) -> Result<()> {
    match words.iter().position(Range::is_empty) {
        None => Ok(()),
        Some(empty) => {
            let message = format!("instance {empty} of the batch has no word piece between [CLS] and [SEP]");
            Err(Error::config("text", message))
        }
    }
}

/// The head's parameters in order; the classifier's two are last.
pub fn specs(definition: &Definition, hidden: usize, labels: usize) -> Vec<ParamSpec> {
    let parameters = Parameters::default();
    if let Err(error) = Head::new(definition, hidden, labels, &parameters) {
        unreachable!("declaring the parameters of a head computes nothing that could fail: {error}");
    }
    parameters.declared().drain(..).collect()
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn parameters_are_declared_once_and_in_order() {
        let names = |kind: HeadKind| {
            specs(kind.definition(None), 6, 3).into_iter().map(|spec| (spec.name, spec.shape)).collect::<Vec<_>>()
        };
        let own = |names: &[(&str, &[usize])]| {
            names.iter().map(|(name, shape)| (format!("head.{name}"), shape.to_vec())).collect::<Vec<_>>()
        };
        let lstm = [("lstm.weight_ih", &[24, 6][..]), ("lstm.weight_hh", &[24, 6]), ("lstm.bias", &[24])];
        let classifier = [("classifier.weight", &[3, 12][..]), ("classifier.bias", &[3])];
        assert_eq!(names(HeadKind::Lstm), own(&[&lstm[..], &classifier].concat()));
        let attention = [("attention.weight", &[1, 6][..]), ("classifier.weight", &[3, 6]), ("classifier.bias", &[3])];
        assert_eq!(names(HeadKind::AttentionAllCls), own(&attention));
        let decay = specs(HeadKind::Lstm.definition(None), 6, 3).iter().map(|spec| spec.decay).collect::<Vec<_>>();
        assert_eq!(decay, [true, true, false, true, false]);
    }

    #[test]
    fn values_of_another_shape_are_refused() {
        let values = |shapes: &[&[usize]]| {
            let zeros = |shape: &&[usize]| Tensor::zeros(*shape, DType::F32, &Device::Cpu).unwrap();
            Head::new(
                HeadKind::Cls.definition(None),
                6,
                3,
                &Parameters::with_values(shapes.iter().map(zeros).collect()),
            )
        };
        assert!(values(&[&[3, 6], &[3]]).is_ok());
        for (shapes, named) in [(&[&[3, 5][..], &[3]][..], "head.classifier.weight"), (&[&[3, 6]], "classifier.bias")] {
            let Err(error) = values(shapes) else { panic!("{shapes:?}") };
            assert!(error.to_string().contains(named), "{error}");
        }
    }
}
