//! Transformer encoders over packed sentences (Devlin et al. 2019 and its successors; see
//! `architecture.rs`), forward and backward written out over [`Ops`].
//!
//! With LN a LayerNorm, A the attention and F the feed-forward layer, each followed by dropout, a layer
//! maps x to y:
//!
//! ```text
//! LayerNorm after each sublayer     m = LN(x + A(x))   y = LN(m + F(m))
//! LayerNorm before each sublayer    m = x + A(LN(x))   y = m + F(LN(m))   LN(y) behind the last
//! ```
//!
//! It does not use autograd: every saved activation and every gradient is visible here, once, for
//! all engines. The file is long because forward and backward mirror each other and are read side by
//! side.

use std::borrow::Cow;

use crate::encode::{Batch, MarkerIds};
use crate::model::EncoderConfig;
use crate::model::params::{Layout, WeightAndBias};
use crate::ops::{
    AttentionShape, ClsAttention, Norm, Normed, Ops, Rotation, SavedAttention, SavedAttentionOf, StepList, Window,
};
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
    /// `None`: the embeddings are frozen.
    embeddings: Option<EmbeddingTape<O::Buffer>>,
    layers: Vec<SavedActivations<O>>,
    last: Option<Normed<O::Buffer>>,
}

/// What the embeddings save for the backward.
struct EmbeddingTape<B> {
    normed: Option<Normed<B>>, // (T, E)
    /// The input of the projection to H.
    projected: Option<B>, // (T, E)
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
    /// The input after LayerNorm, where that comes first.
    before: Option<Normed<O::Buffer>>, // (T, H)
    attention: SavedAttentionOf<O>,
    attended: O::Buffer,       // (T, H)
    middle: Normed<O::Buffer>, // (T, H), what the feed-forward layer reads
    up: O::Buffer,             // (T, F) or with a gate (T, 2F), before the GELU and its bias
    activated: O::Buffer,      // (T, F)
    /// The output after LayerNorm, where that comes last.
    after: Option<Normed<O::Buffer>>, // (T, H)
    output: O::Buffer,         // (T, H)
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
            let window = config.window(config.num_hidden_layers - 1).unwrap_or(usize::MAX - 1);
            let tokens = bounds[0]..bounds[0] + batch.pieces(sentence).min(window + 1);
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
    let stack = Stack::new(ops, config, params, batch, context, spec)?;
    let (mut hidden, embeddings) = stack.embed()?; // (T, H)
    let mut cls = Vec::new();
    let mut tapes = Vec::new();
    let mut last = None;
    for layer in 0..config.num_hidden_layers {
        let kept = stack.layer(layer, hidden)?;
        hidden = kept.output.clone();
        if let (true, Some(norm)) = (stack.is_last(layer), stack.layout.final_norm) {
            let normed = ops.add_norm(hidden, None, None, stack.norm(norm), None)?;
            hidden = normed.out.clone();
            last = Some(normed);
        }
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
        Tape { spec, embeddings, layers: tapes, last }
    });
    Ok((EncoderOutput { last: hidden, cls }, tape))
}

/// The common arguments of the layers.
struct Stack<'a, O: Ops> {
    ops: &'a O,
    config: &'a EncoderConfig,
    layout: Layout,
    params: &'a [O::Buffer],
    batch: &'a Batch,
    context: Option<&'a ForwardContext>,
    /// In an encoder without biases or type embeddings, what stands for the shift of a LayerNorm, `(H)`, and
    /// for the position and type embeddings, `(1, H)`: zeros.
    zeros: Option<[O::Buffer; 2]>,
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
    ) -> Result<Self> {
        let cls_alone = !spec.every_token() && !spec.entities;
        let layout = Layout::new(config);
        let zeros = || Ok::<_, Error>([ops.zeros(&[config.hidden_size])?, ops.zeros(&[1, config.hidden_size])?]);
        let zeros = (!config.has_biases() || layout.types.is_none()).then(zeros).transpose()?;
        Ok(Self { ops, config, layout, params, batch, context, zeros, cls_alone, rows: spec.rows(batch) })
    }

    fn is_last(&self, layer: usize) -> bool {
        layer + 1 == self.config.num_hidden_layers
    }

    /// Whether a layer continues with the `[CLS]` tokens alone after its attention.
    fn cls_alone(&self, layer: usize) -> bool {
        self.cls_alone && self.is_last(layer)
    }

    /// Whether its attention then needs no keys and values of its own ([`Ops::cls_attention`]).
    fn cls_attention(&self, layer: usize) -> bool {
        self.cls_alone(layer) && self.config.theta(layer).is_none()
    }

    /// The tokens with which a layer continues after its attention; `None` for all.
    fn rows(&self, layer: usize) -> Option<&[usize]> {
        self.rows.as_deref().filter(|_| self.is_last(layer))
    }

    fn dropout(&self, site: Site) -> Option<Dropout> {
        self.context.and_then(|context| context.dropout(site))
    }

    /// The dropout inside of a feed-forward layer with a gate, or that of another's output.
    fn output_dropout(&self, layer: usize, context: Option<&ForwardContext>) -> (Option<Dropout>, Option<Dropout>) {
        let mask = context.and_then(|context| context.dropout(Site::Output(layer)));
        if self.config.has_biases() { (None, mask) } else { (mask, None) }
    }

    fn norm(&self, (gamma, beta): WeightAndBias) -> Norm<'_, O::Buffer> {
        let beta = beta.map_or_else(|| self.zeros(0), |beta| &self.params[beta]);
        Norm { gamma: &self.params[gamma], beta, eps: self.config.layer_norm_eps }
    }

    fn zeros(&self, which: usize) -> &O::Buffer {
        let Some(zeros) = &self.zeros else { unreachable!("only these encoders have no shifts or tables") };
        &zeros[which]
    }

    fn bias(&self, (_, bias): WeightAndBias) -> Option<&'a O::Buffer> {
        bias.map(|bias| &self.params[bias])
    }

    /// The embeddings of the tokens, `(T, H)`.
    fn embed(&self) -> Result<(O::Buffer, EmbeddingTape<O::Buffer>)> {
        let ops = self.ops;
        let mut hidden = ops.embed(&self.batch.ids, &self.positions(), self.tables())?; // (T, E)
        let mut normed = None;
        if let Some(norm) = self.layout.embeddings_norm {
            let kept = ops.add_norm(hidden, None, None, self.norm(norm), None)?;
            hidden = kept.out.clone();
            normed = Some(kept);
        }
        if let Some(dropout) = self.dropout(Site::Embeddings) {
            hidden = ops.dropout(hidden, &dropout)?;
        }
        let Some(projection) = self.layout.projection else {
            return Ok((hidden, EmbeddingTape { normed, projected: None }));
        };
        let projected = self.linear(&hidden, projection)?;
        Ok((projected, EmbeddingTape { normed, projected: Some(hidden) }))
    }

    fn positions(&self) -> Cow<'a, [u32]> {
        positions(self.config, &self.layout, self.batch)
    }

    fn tables(&self) -> [&O::Buffer; 3] {
        let table = |index: Option<usize>| index.map_or_else(|| self.zeros(1), |index| &self.params[index]);
        [&self.params[Layout::WORDS], table(self.layout.positions), table(self.layout.types)]
    }

    /// `x Wᵀ + b`.
    fn linear(&self, x: &O::Buffer, of: WeightAndBias) -> Result<O::Buffer> {
        self.ops.linear(x, &self.params[of.0], self.bias(of))
    }

    /// `dropout(x Wᵀ + b) + residual`.
    fn add_linear(
        &self,
        x: &O::Buffer,
        of: WeightAndBias,
        residual: &O::Buffer,
        mask: Option<Dropout>,
    ) -> Result<O::Buffer> {
        let mut branch = self.linear(x, of)?;
        if let Some(mask) = mask {
            branch = self.ops.dropout(branch, &mask)?;
        }
        self.ops.add(branch, residual)
    }

    /// The attention of the `[CLS]` tokens alone.
    fn first_attention<'b>(
        &'b self,
        layer: usize,
        input: &'b O::Buffer,
        dropout: Option<&'b Dropout>,
    ) -> Result<ClsAttention<'b, O::Buffer>> {
        let of = self.layout.layers[layer].qkv;
        let (weight, bias) = (&self.params[of.0], self.bias(of).ok_or_else(|| no_bias(layer))?);
        Ok(ClsAttention { input, weight, bias, hidden: self.config.hidden_size, shape: self.shape(layer), dropout })
    }

    /// Queries and keys rotated by their positions, where they are.
    fn rotate(&self, layer: usize, qkv: O::Buffer, back: bool) -> Result<O::Buffer> {
        match rotation(self.config, self.batch, layer, back) {
            Some(rotation) => self.ops.rotary(qkv, &rotation),
            None => Ok(qkv),
        }
    }

    fn shape(&self, layer: usize) -> AttentionShape<'a> {
        shape(self.config, self.batch, layer)
    }

    /// One layer: attention, feed-forward, each with its residual and LayerNorm.
    fn layer(&self, layer: usize, input: O::Buffer) -> Result<LayerTape<O>> {
        let Self { ops, params, .. } = self;
        let at = &self.layout.layers[layer];
        let pre_norm = self.config.pre_norm();
        let norm = |norm| ops.add_norm(input.clone(), None, None, self.norm(norm), None);
        let before = at.attention_norm.filter(|_| pre_norm).map(norm).transpose()?;
        let read = before.as_ref().map_or(&input, |normed| &normed.out);
        let mask = self.dropout(Site::Probabilities(layer));
        let (attended, attention, residual) = if self.cls_attention(layer) {
            let (attended, tape) = ops.cls_attention(&self.first_attention(layer, read, mask.as_ref())?)?;
            (attended, tape, ops.rows(&input, self.batch.first_tokens())?)
        } else {
            let qkv = self.rotate(layer, self.linear(read, at.qkv)?, false)?;
            let (attended, probabilities) = ops.attention(&qkv, self.shape(layer), mask.as_ref())?;
            let tape = SavedAttention::Full { qkv, probabilities };
            match self.rows(layer) {
                Some(rows) => (ops.rows(&attended, rows)?, tape, ops.rows(&input, rows)?),
                None => (attended, tape, input.clone()),
            }
        };
        let mask = self.dropout(Site::AttentionOut(layer));
        let (middle, residual) = if pre_norm {
            let sum = self.add_linear(&attended, at.attention_out, &residual, mask)?;
            (ops.add_norm(sum.clone(), None, None, self.norm(at.feed_forward_norm), None)?, sum)
        } else {
            let branch = ops.linear(&attended, &params[at.attention_out.0], None)?;
            let (bias, norm) =
                (self.bias(at.attention_out), self.norm(at.attention_norm.ok_or_else(|| no_bias(layer))?));
            let middle = ops.add_norm(branch, bias, Some(&residual), norm, mask.as_ref())?;
            let residual = middle.out.clone();
            (middle, residual)
        };
        let up = ops.linear(&middle.out, &params[at.up.0], None)?;
        let mut activated = match self.bias(at.up) {
            Some(bias) => ops.bias_gelu(&up, bias)?,
            None => ops.geglu(&up)?,
        };
        let (inside, mask) = self.output_dropout(layer, self.context);
        if let Some(mask) = inside {
            activated = ops.dropout(activated, &mask)?;
        }
        let (after, output) = if pre_norm {
            (None, self.add_linear(&activated, at.down, &residual, mask)?)
        } else {
            let branch = ops.linear(&activated, &params[at.down.0], None)?;
            let (bias, norm) = (self.bias(at.down), self.norm(at.feed_forward_norm));
            let normed = ops.add_norm(branch, bias, Some(&residual), norm, mask.as_ref())?;
            let output = normed.out.clone();
            (Some(normed), output)
        };
        Ok(LayerTape { input, before, attention, attended, middle, up, activated, after, output })
    }
}

/// The rows of the position embedding, `(T)`.
fn positions<'a>(config: &EncoderConfig, layout: &Layout, batch: &'a Batch) -> Cow<'a, [u32]> {
    if layout.positions.is_none() {
        return Cow::Owned(vec![0; batch.tokens()]);
    }
    match config.first_position() as u32 {
        0 => Cow::Borrowed(&batch.positions),
        first => batch.positions.iter().map(|position| first + position).collect(),
    }
}

fn shape<'a>(config: &EncoderConfig, batch: &'a Batch, layer: usize) -> AttentionShape<'a> {
    let Batch { cu_seqlens, valid_lengths, positions, .. } = batch;
    AttentionShape {
        cu_seqlens,
        heads: config.num_attention_heads,
        valid_lengths: valid_lengths.as_deref(),
        group: batch.group(),
        window: config.window(layer).map(|distance| Window { distance, positions }),
        stride: config.attention_stride(),
    }
}

/// How a layer rotates queries and keys, if it does.
fn rotation<'a>(config: &EncoderConfig, batch: &'a Batch, layer: usize, back: bool) -> Option<Rotation<'a>> {
    let (positions, heads) = (&batch.positions, config.num_attention_heads);
    config.theta(layer).map(|theta| Rotation { positions, heads, theta, back })
}

/// The lists of [`forward`] and [`backward`], for [`Ops::prepare`].
pub fn step_lists<'a>(
    config: &EncoderConfig,
    batch: &'a Batch,
    context: &ForwardContext,
    spec: OutputSpec,
) -> Vec<StepList<'a>> {
    let positions = positions(config, &Layout::new(config), batch);
    let mut lists = vec![StepList::Tokens { ids: &batch.ids, positions, backward: !context.frozen.embeddings }];
    let hidden = config.hidden_size;
    // Of layers that are alike, one. They are global or local.
    let (mut windows, mut thetas) = (Vec::new(), Vec::new());
    for layer in 0..config.num_hidden_layers {
        let (window, theta) = (config.window(layer), config.theta(layer));
        if !windows.contains(&window) {
            windows.push(window);
            lists.push(StepList::Attention(shape(config, batch, layer), hidden));
        }
        if !thetas.contains(&theta) {
            thetas.push(theta);
            let both = [false, true].into_iter().filter_map(|back| rotation(config, batch, layer, back));
            lists.extend(both.map(|rotation| StepList::Rotary(rotation, hidden)));
        }
    }
    lists.extend(spec.rows(batch).map(|rows| StepList::Rows(rows.into())));
    if spec.cls_of_layers {
        lists.push(StepList::Rows(batch.first_tokens().into()));
    }
    lists
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
    let stack = Stack::new(ops, config, params, batch, Some(context), tape.spec)?;
    let (mut gradients, embedded) = stack.descend(context, tape, gradient)?;
    if let Some(embedded) = embedded {
        let tables = ops.embed_backward(&batch.ids, &stack.positions(), &embedded, stack.tables())?;
        let indices = [Some(Layout::WORDS), stack.layout.positions, stack.layout.types];
        for (index, table) in indices.into_iter().zip(tables) {
            if let Some(index) = index {
                gradients[index] = Some(table);
            }
        }
    }
    Ok(gradients)
}

/// Gradient with respect to every token's embedding (the sum of its three), `(T, E)`.
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
    let context = ForwardContext::without_dropout();
    let stack = Stack::new(ops, config, params, batch, Some(&context), tape.spec)?;
    let (_, embedded) = stack.descend(&context, tape, gradient)?;
    let Some(embedded) = embedded else { unreachable!("nothing is frozen in such a context") };
    Ok(embedded)
}

/// Gradients of all parameters above the embeddings, and of the embedded tokens, `(T, E)`, unless
/// those are frozen.
type Descent<B> = (Gradients<B>, Option<B>);
/// Gradients in the order of [`Layout`].
type Gradients<B> = Vec<Option<B>>;

fn store<B>(gradients: &mut [Option<B>], (weight, bias): WeightAndBias, values: (B, B)) {
    gradients[weight] = Some(values.0);
    if let Some(bias) = bias {
        gradients[bias] = Some(values.1);
    }
}

impl<O: Ops> Stack<'_, O> {
    /// From the head down to the embeddings.
    fn descend(
        &self,
        context: &ForwardContext,
        tape: Tape<O>,
        gradient: EncoderGradient<O::Buffer>,
    ) -> Result<Descent<O::Buffer>> {
        let Self { ops, layout, batch, .. } = self;
        let mut gradients: Gradients<O::Buffer> = vec![None; layout.len];
        let mut dh = gradient.last; // (T, H), or (rows, H) above the last layer
        for (layer, kept) in tape.layers.into_iter().enumerate().rev() {
            let kept = match kept {
                SavedActivations::Nothing => return Ok((gradients, None)),
                SavedActivations::Input(input) => self.layer(layer, input)?,
                SavedActivations::All(tape) => *tape,
            };
            if let Some(dcls) = gradient.cls.get(layer) {
                dh = match self.cls_alone(layer) {
                    true => ops.add(dh, dcls)?,
                    false => ops.add_rows(dh, batch.first_tokens(), dcls)?,
                };
            }
            if let (true, Some(norm), Some(last)) = (self.is_last(layer), layout.final_norm, &tape.last) {
                dh = self.norm_backward(&mut gradients, norm, last, dh)?;
            }
            dh = self.layer_backward(&mut gradients, context, layer, kept, dh)?;
        }
        let Some(EmbeddingTape { normed, projected }) = tape.embeddings else { return Ok((gradients, None)) };
        if let (Some(projection), Some(x)) = (layout.projection, &projected) {
            let d_bias = ops.column_sum(&dh)?;
            let (dx, d_weight) = ops.linear_backward(x, &self.params[projection.0], &dh, None)?;
            store(&mut gradients, projection, (d_weight, d_bias));
            dh = dx; // (T, E)
        }
        if let Some(dropout) = context.dropout(Site::Embeddings) {
            dh = ops.dropout(dh, &dropout)?;
        }
        if let (Some(norm), Some(normed)) = (layout.embeddings_norm, &normed) {
            dh = self.norm_backward(&mut gradients, norm, normed, dh)?;
        }
        Ok((gradients, Some(dh)))
    }

    /// Through one layer, from the gradient of its output to that of its input.
    fn layer_backward(
        &self,
        gradients: &mut Gradients<O::Buffer>,
        context: &ForwardContext,
        layer: usize,
        tape: LayerTape<O>,
        dh: O::Buffer,
    ) -> Result<O::Buffer> {
        let Self { ops, params, batch, config, .. } = self;
        let LayerTape { input, before, attention, attended, middle, up, activated, after, .. } = tape;
        let at = &self.layout.layers[layer];
        let pre_norm = config.pre_norm();
        let (inside, mask) = self.output_dropout(layer, Some(context));
        let norm = after.as_ref().map(|normed| (at.feed_forward_norm, normed));
        let (d_branch, residual) = self.branch_backward(gradients, at.down, norm, dh, mask.as_ref())?;
        let (mut d_activated, d_down) = ops.linear_backward(&activated, &params[at.down.0], &d_branch, None)?;
        gradients[at.down.0] = Some(d_down);
        if let Some(mask) = inside {
            d_activated = ops.dropout(d_activated, &mask)?;
        }
        let d_up = match self.bias(at.up).zip(at.up.1) {
            Some((bias, index)) => {
                let (d_up, d_bias) = ops.bias_gelu_backward(&up, bias, d_activated)?;
                gradients[index] = Some(d_bias);
                d_up
            }
            None => ops.geglu_backward(&up, &d_activated)?,
        };
        let (onto, residual) = if pre_norm { (None, Some(residual)) } else { (Some(residual), None) };
        let (mut d_middle, d_up_weight) = ops.linear_backward(&middle.out, &params[at.up.0], &d_up, onto)?;
        gradients[at.up.0] = Some(d_up_weight);
        if let Some(residual) = residual {
            d_middle = self.norm_backward(gradients, at.feed_forward_norm, &middle, d_middle)?;
            d_middle = ops.add(d_middle, &residual)?;
        }

        let mask = context.dropout(Site::AttentionOut(layer));
        let norm = at.attention_norm.filter(|_| !pre_norm).map(|norm| (norm, &middle));
        let (d_branch, residual) = self.branch_backward(gradients, at.attention_out, norm, d_middle, mask.as_ref())?;
        let (d_attended, d_out) = ops.linear_backward(&attended, &params[at.attention_out.0], &d_branch, None)?;
        gradients[at.attention_out.0] = Some(d_out);
        let mask = context.dropout(Site::Probabilities(layer));
        let read = before.as_ref().map_or(&input, |normed| &normed.out);
        let before = before.as_ref().zip(at.attention_norm);
        match (attention, self.cls_attention(layer)) {
            (SavedAttention::Full { qkv, probabilities }, false) => {
                let (d_attended, residual) = match self.rows(layer) {
                    Some(rows) => {
                        let scatter = |d| ops.add_rows(ops.zeros(&[batch.tokens(), config.hidden_size])?, rows, d);
                        (scatter(&d_attended)?, scatter(&residual)?)
                    }
                    None => (d_attended, residual),
                };
                let d_qkv =
                    ops.attention_backward(&qkv, probabilities, &d_attended, self.shape(layer), mask.as_ref())?;
                let d_qkv = self.rotate(layer, d_qkv, true)?;
                if let Some(bias) = at.qkv.1 {
                    gradients[bias] = Some(ops.column_sum(&d_qkv)?);
                }
                let (onto, residual) = if before.is_some() { (None, Some(residual)) } else { (Some(residual), None) };
                let (d_read, d_weight) = ops.linear_backward(read, &params[at.qkv.0], &d_qkv, onto)?;
                gradients[at.qkv.0] = Some(d_weight);
                match before.zip(residual) {
                    Some(((normed, norm), residual)) => {
                        ops.add(self.norm_backward(gradients, norm, normed, d_read)?, &residual)
                    }
                    None => Ok(d_read),
                }
            }
            (attention, _) => {
                let of = self.first_attention(layer, read, mask.as_ref())?;
                let [mut d_input, d_weight, d_bias] = ops.cls_attention_backward(&of, attention, &d_attended)?;
                store(gradients, at.qkv, (d_weight, d_bias));
                if let Some((normed, norm)) = before {
                    d_input = self.norm_backward(gradients, norm, normed, d_input)?;
                }
                ops.add_rows(d_input, batch.first_tokens(), &residual)
            }
        }
    }

    /// From `LayerNorm(dropout(x Wᵀ + b) + residual)`, or the same without LayerNorm, to the gradients of
    /// `x Wᵀ + b` and of the residual. Stores those of b and of the LayerNorm.
    fn branch_backward(
        &self,
        gradients: &mut Gradients<O::Buffer>,
        (_, bias): WeightAndBias,
        norm: Option<(WeightAndBias, &Normed<O::Buffer>)>,
        dy: O::Buffer,
        mask: Option<&Dropout>,
    ) -> Result<(O::Buffer, O::Buffer)> {
        let Self { ops, params, .. } = self;
        if let Some((norm, normed)) = norm {
            let d = ops.add_norm_backward(dy, normed, &params[norm.0], mask)?;
            store(gradients, norm, (d.gamma, d.beta));
            if let Some(bias) = bias {
                gradients[bias] = Some(d.bias);
            }
            return Ok((d.branch, d.residual));
        }
        let branch = match mask {
            Some(mask) => ops.dropout(dy.clone(), mask)?,
            None => dy.clone(),
        };
        if let Some(bias) = bias {
            gradients[bias] = Some(ops.column_sum(&branch)?);
        }
        Ok((branch, dy))
    }

    /// Through a LayerNorm alone.
    fn norm_backward(
        &self,
        gradients: &mut Gradients<O::Buffer>,
        norm: WeightAndBias,
        normed: &Normed<O::Buffer>,
        dy: O::Buffer,
    ) -> Result<O::Buffer> {
        let d = self.ops.add_norm_backward(dy, normed, &self.params[norm.0], None)?;
        store(gradients, norm, (d.gamma, d.beta));
        Ok(d.branch)
    }
}

/// An error that only a mistake inside this crate can cause.
fn no_bias(layer: usize) -> Error {
    Error::config("config", format!("layer {layer} has neither the biases of BERT nor the rotation of ModernBERT"))
}

/// Refuse a batch that would index outside the embedding tables.
pub(super) fn check(config: &EncoderConfig, batch: &Batch) -> Result<()> {
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
