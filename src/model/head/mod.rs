//! What the classifier reads (paper, section III-B): candle modules, differentiated by candle's autograd.
//!
//! ```text
//! cls                [h_CLS]                         lstm-all-cls       [LSTM over the layers' h_CLS]
//! lstm               [h_CLS ; LSTM(h_1..h_N)]        attention-all-cls  [attention over the layers' h_CLS]
//! attention          [h_CLS ; attention(h_1..h_N)]
//! lstm-no-cls        [LSTM(h_1..h_N)]
//! attention-no-cls   [attention(h_1..h_N)]
//! ```
//! followed by dropout and one linear layer. `h_1..h_N` excludes `[CLS]`, `[SEP]` and padding (which never exists here).

mod attention;
mod lstm;

use candle_core::Tensor;

use crate::config::HeadKind;
use crate::model::ParamSpec;
use crate::model::encoder::Wanted;
use crate::ops::Ops;
use crate::rng::Dropout;
use crate::{Error, Result};

/// What a head reads.
#[derive(Debug, Clone)]
pub struct HeadInput {
    /// The last layer's `[CLS]` vectors, `(n, H)`; `None` for heads that do not read them ([`reads_cls`]).
    pub first: Option<Tensor>,
    /// The whole last layer, `(T, H)`; `None` for heads that do not read it ([`reads_words`]).
    pub last: Option<Tensor>,
    /// The `[CLS]` vector of every layer, each `(n, H)`; empty for heads that do not read them.
    pub cls: Vec<Tensor>,
    /// The product of the last layer with the weights that [`product`] names, `(T, width)`; `None` for heads without.
    pub product: Option<Tensor>,
    /// Where each sentence starts, and T at the end: `(n + 1)`.
    pub cu_seqlens: Vec<usize>,
}

/// What a head returns.
#[derive(Debug, Clone)]
pub struct HeadOutput {
    /// `(n, labels)`.
    pub logits: Tensor,
    /// Attention weights, if the head has any: `(n, T)` over the batch's tokens, each row zero outside of its sentence
    /// and at `[CLS]` and `[SEP]`; for `attention-all-cls` `(n, L)` over the layers.
    pub weights: Option<Tensor>,
}

impl HeadInput {
    /// A part of the input that the head cannot do without.
    fn part<'a>(part: &'a Option<Tensor>, what: &str) -> Result<&'a Tensor> {
        part.as_ref().ok_or_else(|| Error::Tensor(candle_core::Error::Msg(format!("the head lacks {what}"))))
    }
}

/// Whether the head reads the last layer's `[CLS]` vectors.
pub fn reads_cls(kind: HeadKind) -> bool {
    matches!(kind, HeadKind::Cls | HeadKind::Lstm | HeadKind::Attention)
}

/// Whether the head reads the whole last layer as it is; an LSTM reads a product of it instead ([`product`]).
pub fn reads_words(kind: HeadKind) -> bool {
    matches!(kind, HeadKind::Attention | HeadKind::AttentionNoCls)
}

/// What the head needs of the encoder.
pub fn wanted(kind: HeadKind) -> Wanted {
    Wanted {
        words: reads_words(kind) || product(kind).is_some(),
        every_cls: matches!(kind, HeadKind::LstmAllCls | HeadKind::AttentionAllCls),
    }
}

/// The weight and the bias, counted in the head's parameters, of a product with the last layer that comes before all
/// else a head does. The engine computes it and its backward: such a product is as large as one of the encoder's.
pub fn product(kind: HeadKind) -> Option<[usize; 2]> {
    match kind {
        HeadKind::Lstm | HeadKind::LstmNoCls => Some(lstm::INPUT_PRODUCT),
        HeadKind::Cls
        | HeadKind::Attention
        | HeadKind::AttentionNoCls
        | HeadKind::LstmAllCls
        | HeadKind::AttentionAllCls => None,
    }
}

/// The head's parameters in order, for hidden size `hidden`; the classifier's two are last.
pub fn head_specs(kind: HeadKind, hidden: usize, labels: usize) -> Vec<ParamSpec> {
    let (mut specs, width) = match kind {
        HeadKind::Cls => (vec![], hidden),
        HeadKind::Lstm => (lstm::specs(hidden), 2 * hidden),
        HeadKind::LstmNoCls | HeadKind::LstmAllCls => (lstm::specs(hidden), hidden),
        HeadKind::Attention => (attention::specs(hidden), 2 * hidden),
        HeadKind::AttentionNoCls | HeadKind::AttentionAllCls => (attention::specs(hidden), hidden),
    };
    specs.push(ParamSpec::weight("head.classifier.weight", &[labels, width]));
    specs.push(ParamSpec::bias("head.classifier.bias", labels));
    specs
}

/// Logits of a batch, the recurrence of an LSTM computed by `ops`. `weights` are the parameters in the order of [`head_specs`].
///
/// # Errors
/// [`Error::Config`] when a sentence has nothing between `[CLS]` and `[SEP]`.
pub fn forward<O: Ops>(
    ops: &O,
    kind: HeadKind,
    weights: &[Tensor],
    input: &HeadInput,
    dropout: Option<&Dropout>,
) -> Result<HeadOutput> {
    if let Some(empty) = input.cu_seqlens.windows(2).position(|w| w[1] - w[0] < 3) {
        let message = format!("instance {empty} of the batch has no word piece between [CLS] and [SEP]");
        return Err(Error::config("text", message));
    }
    let (own, classifier) = weights.split_at(weights.len() - 2);
    // On a GPU one product is a launch and n are n; its libraries' own sums depend on the batch anyway.
    let alone = dropout.is_none() && classifier[0].device().is_cpu();
    let over_words = |own, input| match alone {
        true => attention::over_words_alone(own, input),
        false => attention::over_words(ops, own, input),
    };
    let by_itself = |rows: usize| if alone { rows } else { usize::MAX };
    let (read, weights) = match kind {
        HeadKind::Cls => (h_cls(input)?, None),
        HeadKind::Lstm => (Tensor::cat(&[h_cls(input)?, lstm::over_words(ops, own, input)?], 1)?, None),
        HeadKind::LstmNoCls => (lstm::over_words(ops, own, input)?, None),
        HeadKind::LstmAllCls => (lstm::over_layers(ops, own, input, by_itself(input.cls.len()))?, None),
        HeadKind::Attention => {
            let (summary, weights) = over_words(own, input)?;
            (Tensor::cat(&[h_cls(input)?, summary], 1)?, Some(weights))
        }
        HeadKind::AttentionNoCls => over_words(own, input).map(|(s, w)| (s, Some(w)))?,
        HeadKind::AttentionAllCls => {
            attention::over_layers(own, input, by_itself(input.cls.len())).map(|(s, w)| (s, Some(w)))?
        }
    };
    let read = match dropout {
        Some(dropout) => {
            let (rows, columns) = read.dims2()?;
            (read * ops.mask(dropout, rows, columns)?)?
        }
        None => read,
    }; // (n, H) or (n, 2H)
    let logits = rows_product(&read, &classifier[0].t()?, by_itself(1))?.broadcast_add(&classifier[1])?;
    Ok(HeadOutput { logits, weights })
}

/// `x w`, so many rows of x at a time. How a product of several rows adds up depends on how many there are; what a
/// sentence gets must not depend, in its last bits, on what else is in its batch.
fn rows_product(x: &Tensor, w: &Tensor, rows: usize) -> Result<Tensor> {
    let all = x.dim(0)?;
    if all <= rows {
        return Ok(x.matmul(w)?);
    }
    let parts = (0..all).step_by(rows).map(|start| x.narrow(0, start, rows.min(all - start))?.matmul(w));
    Ok(Tensor::cat(&parts.collect::<candle_core::Result<Vec<_>>>()?, 0)?)
}

/// The last layer's `[CLS]` vectors, `(n, H)`.
fn h_cls(input: &HeadInput) -> Result<Tensor> {
    Ok(HeadInput::part(&input.first, "the [CLS] vectors")?.clone())
}
