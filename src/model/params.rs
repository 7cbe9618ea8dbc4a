//! Parameters: ordered, named, with their shapes, initial values and decay groups.

use crate::model::EncoderConfig;
use crate::rng::{Purpose, Stream};

/// How a parameter that no checkpoint gives starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// Normal with this standard deviation, redrawn outside of two (BERT's initializer).
    TruncatedNormal(f64),
    /// Uniform in `-bound..bound`.
    Uniform(f64),
    /// One value everywhere.
    Constant(f32),
    /// LSTM bias: 1 for the forget gate, 0 for the others (Jozefowicz et al. 2015), gate order i, f, g, o.
    ForgetGate,
}

/// One parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct ParamSpec {
    /// Name: transformers' for the encoder, `head.*` for the head.
    pub name: String,
    /// Shape; weights are `(out, in)`.
    pub shape: Vec<usize>,
    /// Initial value.
    pub init: Init,
    /// Whether weight decay applies: not to biases and LayerNorm parameters.
    pub decay: bool,
}

impl ParamSpec {
    /// A weight with BERT's initializer and weight decay.
    pub fn weight(name: impl Into<String>, shape: &[usize]) -> Self {
        Self { name: name.into(), shape: shape.to_vec(), init: Init::TruncatedNormal(0.02), decay: true }
    }

    /// A bias: zeros, no weight decay.
    pub fn bias(name: impl Into<String>, size: usize) -> Self {
        Self { name: name.into(), shape: vec![size], init: Init::Constant(0.0), decay: false }
    }

    /// A LayerNorm scale: ones, no weight decay.
    pub fn scale(name: impl Into<String>, size: usize) -> Self {
        Self { init: Init::Constant(1.0), ..Self::bias(name, size) }
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Initial values: a function of the seed and the parameter's name alone, not of what else is initialized.
    pub fn initial(&self, seed: u64) -> Vec<f32> {
        // FNV-1a of the name: separates the streams of the parameters.
        let index = self.name.bytes().fold(0x811c_9dc5u32, |hash, b| (hash ^ u32::from(b)).wrapping_mul(0x0100_0193));
        let mut stream = Stream::new(seed, Purpose::Init, index);
        let n = self.elements();
        match self.init {
            Init::TruncatedNormal(sd) => (0..n)
                .map(|_| {
                    loop {
                        let x = stream.normal();
                        if x.abs() <= 2.0 {
                            return (x * sd) as f32;
                        }
                    }
                })
                .collect(),
            Init::Uniform(bound) => (0..n).map(|_| ((2.0 * stream.uniform() - 1.0) * bound) as f32).collect(),
            Init::Constant(value) => vec![value; n],
            Init::ForgetGate => (0..n).map(|i| if i * 4 / n == 1 { 1.0 } else { 0.0 }).collect(),
        }
    }
}

/// Parameters of the encoder in order; [`Layout`] gives their indices.
///
/// Queries, keys and values are one parameter `attention.self.qkv.*` of 3H rows, so that they are one product; files
/// hold the three that transformers expects (see `checkpoint`).
pub fn encoder_specs(config: &EncoderConfig) -> Vec<ParamSpec> {
    let (h, f) = (config.hidden_size, config.intermediate_size);
    let embeddings = "embeddings";
    let mut specs = vec![
        ParamSpec::weight(format!("{embeddings}.word_embeddings.weight"), &[config.vocab_size, h]),
        ParamSpec::weight(format!("{embeddings}.position_embeddings.weight"), &[config.max_position_embeddings, h]),
        ParamSpec::weight(format!("{embeddings}.token_type_embeddings.weight"), &[config.type_vocab_size, h]),
        ParamSpec::scale(format!("{embeddings}.LayerNorm.weight"), h),
        ParamSpec::bias(format!("{embeddings}.LayerNorm.bias"), h),
    ];
    for layer in 0..config.num_hidden_layers {
        let name = |tail: &str| format!("encoder.layer.{layer}.{tail}");
        specs.extend([
            ParamSpec::weight(name("attention.self.qkv.weight"), &[3 * h, h]),
            ParamSpec::bias(name("attention.self.qkv.bias"), 3 * h),
            ParamSpec::weight(name("attention.output.dense.weight"), &[h, h]),
            ParamSpec::bias(name("attention.output.dense.bias"), h),
            ParamSpec::scale(name("attention.output.LayerNorm.weight"), h),
            ParamSpec::bias(name("attention.output.LayerNorm.bias"), h),
            ParamSpec::weight(name("intermediate.dense.weight"), &[f, h]),
            ParamSpec::bias(name("intermediate.dense.bias"), f),
            ParamSpec::weight(name("output.dense.weight"), &[h, f]),
            ParamSpec::bias(name("output.dense.bias"), h),
            ParamSpec::scale(name("output.LayerNorm.weight"), h),
            ParamSpec::bias(name("output.LayerNorm.bias"), h),
        ]);
    }
    specs
}

/// Where each parameter of the encoder stands in [`encoder_specs`].
#[derive(Debug, Clone, Copy)]
pub struct Layout;

impl Layout {
    /// Word, position and type embeddings.
    pub const TABLES: [usize; 3] = [0, 1, 2];
    /// Scale of the embeddings' LayerNorm.
    pub const GAMMA: usize = 3;
    /// Shift of the embeddings' LayerNorm.
    pub const BETA: usize = 4;

    /// The parameters of a layer.
    pub fn layer(layer: usize) -> LayerLayout {
        let at = 5 + 12 * layer;
        LayerLayout {
            qkv: (at, at + 1),
            attention_out: (at + 2, at + 3),
            attention_norm: (at + 4, at + 5),
            up: (at + 6, at + 7),
            down: (at + 8, at + 9),
            output_norm: (at + 10, at + 11),
        }
    }

    /// How deep parameter `index` of a network with `layers` layers lies: 0 for the head, 1 for the last layer, ...,
    /// `layers + 1` for the embeddings.
    pub fn depth(index: usize, layers: usize) -> usize {
        match index.checked_sub(5) {
            None => layers + 1,
            Some(index) => layers.saturating_sub(index / 12),
        }
    }

    /// Number of encoder parameters with `layers` layers; the head's follow.
    pub fn len(layers: usize) -> usize {
        5 + 12 * layers
    }
}

/// Indices of (weight, bias) of one layer's parts.
#[derive(Debug, Clone, Copy)]
pub struct LayerLayout {
    /// Queries, keys, values: `(3H, H)`, `(3H)`.
    pub qkv: (usize, usize),
    /// Attention output: `(H, H)`, `(H)`.
    pub attention_out: (usize, usize),
    /// LayerNorm after the attention.
    pub attention_norm: (usize, usize),
    /// Feed-forward, first: `(F, H)`, `(F)`.
    pub up: (usize, usize),
    /// Feed-forward, second: `(H, F)`, `(H)`.
    pub down: (usize, usize),
    /// LayerNorm after the feed-forward layer.
    pub output_norm: (usize, usize),
}

/// Parameter values on the host, in the order of their specs.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// Names, shapes, groups.
    pub specs: Vec<ParamSpec>,
    /// Values in row-major order.
    pub values: Vec<Vec<f32>>,
}

impl Weights {
    /// Freshly initialized values.
    pub fn initial(specs: Vec<ParamSpec>, seed: u64) -> Self {
        let values = specs.iter().map(|spec| spec.initial(seed)).collect();
        Self { specs, values }
    }

    /// The values of a parameter by name.
    pub fn get(&self, name: &str) -> Option<&[f32]> {
        let index = self.specs.iter().position(|spec| spec.name == name)?;
        Some(&self.values[index])
    }

    /// Append the parameters of `other`.
    pub fn extend(&mut self, other: Self) {
        self.specs.extend(other.specs);
        self.values.extend(other.values);
    }

    /// Number of scalar parameters.
    pub fn elements(&self) -> usize {
        self.specs.iter().map(ParamSpec::elements).sum()
    }
}
