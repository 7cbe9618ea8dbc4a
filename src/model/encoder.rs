//! BERT over packed sentences (Devlin et al. 2019), forward and backward written out over [`Ops`].
//!
//! It does not use autograd: every saved activation and every gradient is visible here, once, for
//! all engines.

use crate::encode::{Batch, MarkerIds};
use crate::model::EncoderConfig;
use crate::model::params::Layout;
use crate::ops::{AttentionShape, ClsAttention, Norm, Normed, Ops, SavedAttention, SavedAttentionOf};
use crate::rng::Dropout;
use crate::{Error, Result};

pub use super::context::{ForwardContext, Frozen, Site};

/// The outputs that a head or another caller requests of the encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputSpec {
    /// The last layer's `[CLS]` vectors, `(n, H)`.
    pub cls: bool,
    /// The last layer of every token, `(T, H)`.
    pub tokens: bool,
    /// The `[CLS]` vector of every layer's output, each `(n, H)`.
    pub cls_of_layers: bool,
    /// The last layer's vectors of the tokens that stand for the two entities of each instance,
    /// `(n, 2H)`.
    pub entities: bool,
    /// A linear map of the last layer, `(T, width)`, by the names of its weight and bias among the
    /// head's parameters. The engine computes it and its backward, because it is as large as the
    /// encoder's own products.
    pub projection: Option<[&'static str; 2]>,
}

impl OutputSpec {
    /// Nothing: the base of other specifications.
    pub const NOTHING: Self =
        Self { cls: false, tokens: false, cls_of_layers: false, entities: false, projection: None };
    /// The last layer of every token.
    pub const TOKENS: Self = Self { tokens: true, ..Self::NOTHING };

    /// Whether the last layer is computed for every token.
    pub fn every_token(&self) -> bool {
        self.tokens || self.projection.is_some()
    }

    /// The tokens for which the last layer is computed, in order; `None` for every token.
    ///
    /// After a layer's attention tokens no longer read each other, so the last layer can omit those
    /// that were not requested, which saves three quarters of its products for them.
    pub fn rows(&self, batch: &Batch) -> Option<Vec<usize>> {
        if self.every_token() {
            return None;
        }
        let mut rows = match self.cls || self.cls_of_layers || !self.entities {
            true => batch.first_tokens().to_vec(),
            false => Vec::new(),
        };
        if self.entities {
            rows.extend(batch.instances.iter().flat_map(|instance| instance.entities.iter().flatten()));
        }
        rows.sort_unstable();
        rows.dedup(); // overlapping mentions may have the same first piece
        Some(rows)
    }
}

/// The encoder's output, which a head reads.
pub struct EncoderOutput<B> {
    /// Last layer, `(T, H)`, or `(rows, H)` of [`OutputSpec::rows`].
    pub last: B,
    /// The `[CLS]` vector of every layer's output, first to last, each `(sentences, H)`; empty if
    /// not requested.
    pub cls: Vec<B>,
}

/// What [`forward`] returns: the states, and with a context the tape.
pub type Forward<O> = (EncoderOutput<<O as Ops>::Buffer>, Option<Tape<O>>);

/// Activations that the backward needs.
pub struct Tape<O: Ops> {
    spec: OutputSpec,
    embeddings: Option<Normed<O::Buffer>>,
    layers: Vec<SavedActivations<O>>,
}

/// What a layer saves for the backward.
enum SavedActivations<O: Ops> {
    /// Nothing: the layer is frozen.
    Nothing,
    /// Its input, from which the backward computes the others again, with the same masks.
    Input(O::Buffer),
    All(Box<LayerTape<O>>),
}

/// In the last layer, `attended` and what follows have only the rows of [`OutputSpec::rows`].
struct LayerTape<O: Ops> {
    input: O::Buffer, // (T, H)
    attention: SavedAttentionOf<O>,
    attended: O::Buffer,       // (T, H)
    middle: Normed<O::Buffer>, // (T, H)
    up: O::Buffer,             // (T, F), before the GELU and its bias
    activated: O::Buffer,      // (T, F)
    output: Normed<O::Buffer>, // (T, H)
}

impl<O: Ops> Tape<O> {
    /// The attention of each sentence's `[CLS]` in the last layer, mean of the attention heads,
    /// `(T)`: a distribution over the tokens of each sentence, 0 at padding.
    ///
    /// # Errors
    /// When the engine fails; [`Error::Config`] for a tape without the last layer's queries and
    /// keys.
    pub fn attention_of_cls(&self, ops: &O, config: &EncoderConfig, batch: &Batch) -> Result<Vec<f32>> {
        let Some(SavedActivations::All(last)) = self.layers.last() else {
            return Err(Error::config("gradient_checkpointing", "the last layer is not on the tape"));
        };
        let heads = config.num_attention_heads;
        let qkv = match &last.attention {
            SavedAttention::Full { qkv, .. } => ops.download(qkv)?, // (T, 3H)
            SavedAttention::Cls { probabilities, .. } => {
                let probabilities = ops.download(probabilities)?; // (T, N)
                let mean = |token: &[f32]| token.iter().map(|p| p.abs()).sum::<f32>() / heads as f32;
                return Ok(probabilities.chunks_exact(heads).map(mean).collect());
            }
        };
        let hidden = config.hidden_size;
        let depth = hidden / heads;
        let part = |token: usize, offset: usize| &qkv[token * 3 * hidden + offset..][..depth];
        let scale = 1.0 / (depth as f32).sqrt();
        let mut attention = vec![0.0; batch.tokens()];
        for (sentence, bounds) in batch.cu_seqlens.windows(2).enumerate() {
            let tokens = bounds[0]..bounds[0] + batch.pieces(sentence);
            for head in 0..heads {
                let query = part(bounds[0], head * depth);
                let score = |token: usize| {
                    let key = part(token, hidden + head * depth);
                    query.iter().zip(key).map(|(q, k)| q * k).sum::<f32>() * scale
                };
                let scores: Vec<f32> = tokens.clone().map(score).collect();
                let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let total: f32 = scores.iter().map(|score| (score - top).exp()).sum();
                for (weight, score) in attention[tokens.clone()].iter_mut().zip(&scores) {
                    *weight += (score - top).exp() / total / heads as f32;
                }
            }
        }
        Ok(attention)
    }
}

/// The gradient of a head with respect to the encoder's output.
pub struct EncoderGradient<B> {
    /// For the last layer, of the shape of [`EncoderOutput::last`].
    pub last: B,
    /// For the `[CLS]` vector of every layer, or empty.
    pub cls: Vec<B>,
}

/// Encode a batch. With a `context`, activations are saved for [`backward`]; without, they are
/// freed layer by layer.
///
/// `params` are in the order of [`Layout`].
///
/// # Errors
/// [`Error::Config`] when a sentence is longer than the encoder's positions or an id outside of its
/// vocabulary.
pub fn forward<O: Ops>(
    ops: &O,
    config: &EncoderConfig,
    params: &[O::Buffer],
    batch: &Batch,
    context: Option<&ForwardContext>,
    spec: OutputSpec,
) -> Result<Forward<O>> {
    check(config, batch)?;
    let stack = Stack::new(ops, config, params, batch, context, spec);
    let embedded = ops.embed(&batch.ids, &batch.positions, Layout::TABLES.map(|i| &params[i]))?;
    let embeddings = ops.add_norm(embedded, None, None, stack.norm((Layout::GAMMA, Layout::BETA)), None)?;
    let mut hidden = embeddings.out.clone(); // (T, H)
    if let Some(dropout) = stack.dropout(Site::Embeddings) {
        hidden = ops.dropout(hidden, &dropout)?;
    }
    let mut cls = Vec::new();
    let mut tapes = Vec::new();
    for layer in 0..config.num_hidden_layers {
        let kept = stack.layer(layer, hidden)?;
        hidden = kept.output.out.clone();
        if spec.cls_of_layers {
            cls.push(match stack.cls_alone(layer) {
                true => hidden.clone(),
                false => ops.rows(&hidden, batch.first_tokens())?,
            });
        }
        if let Some(context) = context {
            tapes.push(match layer {
                layer if layer < context.frozen.layers => SavedActivations::Nothing,
                _ if context.recompute => SavedActivations::Input(kept.input),
                _ => SavedActivations::All(Box::new(kept)),
            });
        }
    }
    let tape = context.map(|context| {
        let embeddings = (!context.frozen.embeddings).then_some(embeddings);
        Tape { spec, embeddings, layers: tapes }
    });
    Ok((EncoderOutput { last: hidden, cls }, tape))
}

/// The common arguments of the layers.
struct Stack<'a, O: Ops> {
    ops: &'a O,
    config: &'a EncoderConfig,
    params: &'a [O::Buffer],
    batch: &'a Batch,
    context: Option<&'a ForwardContext>,
    /// Whether the last layer continues with the `[CLS]` tokens alone.
    cls_alone: bool,
    /// The tokens with which the last layer continues after its attention; `None` for all.
    rows: Option<Vec<usize>>,
}

impl<'a, O: Ops> Stack<'a, O> {
    fn new(
        ops: &'a O,
        config: &'a EncoderConfig,
        params: &'a [O::Buffer],
        batch: &'a Batch,
        context: Option<&'a ForwardContext>,
        spec: OutputSpec,
    ) -> Self {
        let cls_alone = !spec.every_token() && !spec.entities;
        Self { ops, config, params, batch, context, cls_alone, rows: spec.rows(batch) }
    }

    fn is_last(&self, layer: usize) -> bool {
        layer + 1 == self.config.num_hidden_layers
    }

    /// Whether a layer continues with the `[CLS]` tokens alone after its attention, which then
    /// needs no keys and values of its own ([`Ops::cls_attention`]).
    fn cls_alone(&self, layer: usize) -> bool {
        self.cls_alone && self.is_last(layer)
    }

    /// The tokens with which a layer continues after its attention; `None` for all.
    fn rows(&self, layer: usize) -> Option<&[usize]> {
        self.rows.as_deref().filter(|_| self.is_last(layer))
    }

    fn dropout(&self, site: Site) -> Option<Dropout> {
        self.context.and_then(|context| context.dropout(site))
    }

    fn norm(&self, (gamma, beta): (usize, usize)) -> Norm<'a, O::Buffer> {
        Norm { gamma: &self.params[gamma], beta: &self.params[beta], eps: self.config.layer_norm_eps }
    }

    /// The attention of the `[CLS]` tokens alone.
    fn first_attention<'b>(
        &'b self,
        (weight, bias): (usize, usize),
        input: &'b O::Buffer,
        dropout: Option<&'b Dropout>,
    ) -> ClsAttention<'b, O::Buffer> {
        let (weight, bias) = (&self.params[weight], &self.params[bias]);
        ClsAttention { input, weight, bias, hidden: self.config.hidden_size, shape: self.shape(), dropout }
    }

    fn shape(&self) -> AttentionShape<'a> {
        let Batch { cu_seqlens, valid_lengths, .. } = self.batch;
        AttentionShape {
            cu_seqlens,
            heads: self.config.num_attention_heads,
            valid_lengths: valid_lengths.as_deref(),
            group: self.batch.group(),
        }
    }

    /// One layer: attention, feed-forward, each with its residual and LayerNorm.
    fn layer(&self, layer: usize, input: O::Buffer) -> Result<LayerTape<O>> {
        let Self { ops, params, .. } = self;
        let at = Layout::layer(layer);
        let mask = self.dropout(Site::Probabilities(layer));
        let (attended, attention, residual) = if self.cls_alone(layer) {
            let (attended, tape) = ops.cls_attention(&self.first_attention(at.qkv, &input, mask.as_ref()))?;
            (attended, tape, ops.rows(&input, self.batch.first_tokens())?)
        } else {
            let qkv = ops.linear(&input, &params[at.qkv.0], Some(&params[at.qkv.1]))?;
            let (attended, probabilities) = ops.attention(&qkv, self.shape(), mask.as_ref())?;
            let tape = SavedAttention::Full { qkv, probabilities };
            match self.rows(layer) {
                Some(rows) => (ops.rows(&attended, rows)?, tape, ops.rows(&input, rows)?),
                None => (attended, tape, input.clone()),
            }
        };
        let branch = ops.linear(&attended, &params[at.attention_out.0], None)?;
        let mask = self.dropout(Site::AttentionOut(layer));
        let bias = Some(&params[at.attention_out.1]);
        let middle = ops.add_norm(branch, bias, Some(&residual), self.norm(at.attention_norm), mask.as_ref())?;
        let up = ops.linear(&middle.out, &params[at.up.0], None)?;
        let activated = ops.bias_gelu(&up, &params[at.up.1])?;
        let branch = ops.linear(&activated, &params[at.down.0], None)?;
        let mask = self.dropout(Site::Output(layer));
        let bias = Some(&params[at.down.1]);
        let output = ops.add_norm(branch, bias, Some(&middle.out), self.norm(at.output_norm), mask.as_ref())?;
        Ok(LayerTape { input, attention, attended, middle, up, activated, output })
    }
}

/// Gradients of all encoder parameters, in the order of [`Layout`]; `None` for those that are
/// frozen.
///
/// # Errors
/// When an operation of the engine fails.
pub fn backward<O: Ops>(
    ops: &O,
    config: &EncoderConfig,
    params: &[O::Buffer],
    batch: &Batch,
    context: &ForwardContext,
    tape: Tape<O>,
    gradient: EncoderGradient<O::Buffer>,
) -> Result<Vec<Option<O::Buffer>>> {
    let (mut gradients, embedded) = descend(ops, config, params, batch, context, tape, gradient)?;
    if let Some(embedded) = embedded {
        let tables = Layout::TABLES.map(|i| &params[i]);
        let tables = ops.embed_backward(&batch.ids, &batch.positions, &embedded, tables)?;
        for (index, table) in Layout::TABLES.into_iter().zip(tables) {
            gradients[index] = Some(table);
        }
    }
    Ok(gradients)
}

/// Gradient with respect to every token's embedding (the sum of its three), `(T, H)`.
///
/// # Errors
/// As [`backward`].
pub fn input_gradient<O: Ops>(
    ops: &O,
    config: &EncoderConfig,
    params: &[O::Buffer],
    batch: &Batch,
    tape: Tape<O>,
    gradient: EncoderGradient<O::Buffer>,
) -> Result<O::Buffer> {
    let (_, embedded) = descend(ops, config, params, batch, &ForwardContext::without_dropout(), tape, gradient)?;
    let Some(embedded) = embedded else { unreachable!("nothing is frozen in such a context") };
    Ok(embedded)
}

/// Gradients of all parameters above the embeddings, and of the embedded tokens, `(T, H)`, unless
/// those are frozen.
type Descent<B> = (Vec<Option<B>>, Option<B>);

/// From the head down to the embeddings.
fn descend<O: Ops>(
    ops: &O,
    config: &EncoderConfig,
    params: &[O::Buffer],
    batch: &Batch,
    context: &ForwardContext,
    tape: Tape<O>,
    gradient: EncoderGradient<O::Buffer>,
) -> Result<Descent<O::Buffer>> {
    let stack = Stack::new(ops, config, params, batch, Some(context), tape.spec);
    let mut gradients: Vec<Option<O::Buffer>> = vec![None; Layout::len(config.num_hidden_layers)];
    let store =
        |gradients: &mut [Option<O::Buffer>], (weight, bias): (usize, usize), values: (O::Buffer, O::Buffer)| {
            gradients[weight] = Some(values.0);
            gradients[bias] = Some(values.1);
        };
    let mut dh = gradient.last; // (T, H), or (rows, H) above the last layer
    for (layer, kept) in tape.layers.into_iter().enumerate().rev() {
        let tape = match kept {
            SavedActivations::Nothing => return Ok((gradients, None)),
            SavedActivations::Input(input) => stack.layer(layer, input)?,
            SavedActivations::All(tape) => *tape,
        };
        let at = Layout::layer(layer);
        if let Some(dcls) = gradient.cls.get(layer) {
            dh = match stack.cls_alone(layer) {
                true => ops.add(dh, dcls)?,
                false => ops.add_rows(dh, batch.first_tokens(), dcls)?,
            };
        }
        let mask = context.dropout(Site::Output(layer));
        let d = ops.add_norm_backward(dh, &tape.output, &params[at.output_norm.0], mask.as_ref())?;
        store(&mut gradients, at.output_norm, (d.gamma, d.beta));
        let (d_activated, d_down) = ops.linear_backward(&tape.activated, &params[at.down.0], &d.branch, None)?;
        store(&mut gradients, at.down, (d_down, d.bias));
        let (d_up, d_up_bias) = ops.bias_gelu_backward(&tape.up, &params[at.up.1], d_activated)?;
        let (d_middle, d_up_weight) =
            ops.linear_backward(&tape.middle.out, &params[at.up.0], &d_up, Some(d.residual))?;
        store(&mut gradients, at.up, (d_up_weight, d_up_bias));

        let mask = context.dropout(Site::AttentionOut(layer));
        let d = ops.add_norm_backward(d_middle, &tape.middle, &params[at.attention_norm.0], mask.as_ref())?;
        store(&mut gradients, at.attention_norm, (d.gamma, d.beta));
        let (d_attended, d_out) = ops.linear_backward(&tape.attended, &params[at.attention_out.0], &d.branch, None)?;
        store(&mut gradients, at.attention_out, (d_out, d.bias));
        let mask = context.dropout(Site::Probabilities(layer));
        let d_qkv_weights;
        (dh, d_qkv_weights) = match (tape.attention, stack.cls_alone(layer)) {
            (SavedAttention::Full { qkv, probabilities }, false) => {
                let (d_attended, residual) = match stack.rows(layer) {
                    Some(rows) => {
                        let scatter = |d| ops.add_rows(ops.zeros(&[batch.tokens(), config.hidden_size])?, rows, d);
                        (scatter(&d_attended)?, scatter(&d.residual)?)
                    }
                    None => (d_attended, d.residual),
                };
                let d_qkv = ops.attention_backward(&qkv, probabilities, &d_attended, stack.shape(), mask.as_ref())?;
                let d_bias = ops.column_sum(&d_qkv)?;
                let (d_input, d_weight) =
                    ops.linear_backward(&tape.input, &params[at.qkv.0], &d_qkv, Some(residual))?;
                (d_input, (d_weight, d_bias))
            }
            (attention, _) => {
                let of = stack.first_attention(at.qkv, &tape.input, mask.as_ref());
                let [d_input, d_weight, d_bias] = ops.cls_attention_backward(&of, attention, &d_attended)?;
                (ops.add_rows(d_input, batch.first_tokens(), &d.residual)?, (d_weight, d_bias))
            }
        };
        store(&mut gradients, at.qkv, d_qkv_weights);
    }
    let Some(embeddings) = tape.embeddings else { return Ok((gradients, None)) };
    if let Some(dropout) = context.dropout(Site::Embeddings) {
        dh = ops.dropout(dh, &dropout)?;
    }
    let d = ops.add_norm_backward(dh, &embeddings, &params[Layout::GAMMA], None)?;
    store(&mut gradients, (Layout::GAMMA, Layout::BETA), (d.gamma, d.beta));
    Ok((gradients, Some(d.branch)))
}

/// Refuse a batch that would index outside the embedding tables.
fn check(config: &EncoderConfig, batch: &Batch) -> Result<()> {
    if batch.longest() > config.longest() {
        let message =
            format!("a sentence has {} word pieces; this encoder takes at most {}", batch.longest(), config.longest());
        return Err(Error::config("max_length", message));
    }
    let known = config.vocab_size + batch.markers.map_or(0, MarkerIds::len);
    if let Some(id) = batch.ids.iter().find(|id| **id as usize >= known) {
        let message = format!(
            "word piece id {id} is outside of the encoder's vocabulary of {}: the tokenizer belongs to another model",
            config.vocab_size
        );
        return Err(Error::config("tokenizer", message));
    }
    Ok(())
}
