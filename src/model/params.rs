//! Parameters: ordered, named, with their shapes, initial values and decay groups.

use std::ops::Range;

use candle_core::Shape;
use candle_nn::init::NormalOrUniform;

use crate::Result;
use crate::model::EncoderConfig;
use crate::ops::Ops;
use crate::rng::{Purpose, Stream};

/// The initial values of a parameter that is not in the checkpoint: the hints of the heads'
/// `VarBuilder`.
#[derive(Debug, Clone, Copy)]
pub enum Init {
    /// One of candle-nn's initialisers.
    Candle(candle_nn::Init),
    /// Normal with this standard deviation, redrawn outside of two (BERT's initializer).
    TruncatedNormal(f64),
    /// A matrix with orthonormal columns, `(rows, columns)` with at least as many rows: an
    /// orthogonalised Gaussian matrix, which is uniformly distributed over them (Saxe et al. 2014).
    /// Keras's initial recurrent weights, transposed to our layout.
    Orthogonal,
    /// LSTM bias: 1 for the forget gate, 0 for the others (Jozefowicz et al. 2015), gate order i,
    /// f, g, o.
    ForgetGate,
}

impl Init {
    /// BERT's initializer of weights.
    pub const WEIGHT: Self = Self::TruncatedNormal(0.02);
    /// Zeros.
    pub const ZERO: Self = Self::Candle(candle_nn::init::ZERO);
    /// Ones.
    pub const ONE: Self = Self::Candle(candle_nn::init::ONE);

    /// Uniform from `-bound` to `bound`.
    pub const fn within(bound: f64) -> Self {
        Self::Candle(candle_nn::Init::Uniform { lo: -bound, up: bound })
    }

    /// The values of a parameter of this shape, in row-major order. candle's initialisers use a
    /// global generator that cannot be seeded on a CPU; these are a function of `stream`.
    fn draw(self, shape: &[usize], stream: &mut Stream) -> Vec<f32> {
        let n = shape.iter().product();
        let mut repeat = |draw: &mut dyn FnMut(&mut Stream) -> f64| (0..n).map(|_| draw(stream) as f32).collect();
        match self {
            Self::TruncatedNormal(sd) => repeat(&mut |stream| {
                loop {
                    let x = stream.normal();
                    if x.abs() <= 2.0 {
                        return x * sd;
                    }
                }
            }),
            Self::Orthogonal => orthogonal(shape, stream),
            Self::ForgetGate => (0..n).map(|i| if i * 4 / n == 1 { 1.0 } else { 0.0 }).collect(),
            Self::Candle(candle_nn::Init::Const(value)) => vec![value as f32; n],
            Self::Candle(candle_nn::Init::Uniform { lo, up }) => {
                repeat(&mut |stream| (2.0 * stream.uniform() - 1.0) * ((up - lo) / 2.0) + (up + lo) / 2.0)
            }
            Self::Candle(candle_nn::Init::Randn { mean, stdev }) => {
                repeat(&mut |stream| mean + stdev * stream.normal())
            }
            // He et al. 2015.
            Self::Candle(candle_nn::Init::Kaiming { dist, fan, non_linearity }) => {
                let sd = non_linearity.gain() / (fan.for_shape(&Shape::from(shape)) as f64).sqrt();
                match dist {
                    NormalOrUniform::Normal => repeat(&mut |stream| sd * stream.normal()),
                    NormalOrUniform::Uniform => repeat(&mut |stream| (2.0 * stream.uniform() - 1.0) * 3f64.sqrt() * sd),
                }
            }
        }
    }
}

/// Gram-Schmidt orthogonalisation of a Gaussian matrix in f64, each column twice to remove rounding
/// errors.
fn orthogonal(shape: &[usize], stream: &mut Stream) -> Vec<f32> {
    let [rows, columns] = shape else { return vec![0.0; shape.iter().product()] };
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(*columns);
    for _ in 0..*columns {
        let mut column: Vec<f64> = (0..*rows).map(|_| stream.normal()).collect();
        for _ in 0..2 {
            for other in &basis {
                let share: f64 = column.iter().zip(other).map(|(x, y)| x * y).sum();
                column.iter_mut().zip(other).for_each(|(x, y)| *x -= share * y);
            }
        }
        let length = column.iter().map(|x| x * x).sum::<f64>().sqrt();
        column.iter_mut().for_each(|x| *x /= length);
        basis.push(column);
    }
    (0..*rows).flat_map(|row| basis.iter().map(move |column| column[row] as f32)).collect()
}

impl Default for Init {
    fn default() -> Self {
        Self::Candle(candle_nn::Init::default())
    }
}

impl From<candle_nn::Init> for Init {
    fn from(init: candle_nn::Init) -> Self {
        Self::Candle(init)
    }
}

/// One parameter.
#[derive(Debug, Clone)]
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

/// The initial values do not affect equality.
impl PartialEq for ParamSpec {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.shape, self.decay) == (&other.name, &other.shape, other.decay)
    }
}

impl ParamSpec {
    /// A parameter; weight decay applies to matrices, not to biases and scales.
    pub fn new(name: impl Into<String>, shape: &[usize], init: Init) -> Self {
        Self { name: name.into(), shape: shape.to_vec(), init, decay: shape.len() > 1 }
    }

    /// A weight with BERT's initializer and weight decay.
    pub fn weight(name: impl Into<String>, shape: &[usize]) -> Self {
        Self::new(name, shape, Init::WEIGHT)
    }

    /// A bias: zeros, no weight decay.
    pub fn bias(name: impl Into<String>, size: usize) -> Self {
        Self::new(name, &[size], Init::ZERO)
    }

    /// A LayerNorm scale: ones, no weight decay.
    pub fn scale(name: impl Into<String>, size: usize) -> Self {
        Self::new(name, &[size], Init::ONE)
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Initial values: a function of the seed and the parameter's name alone.
    pub fn initial(&self, seed: u64) -> Vec<f32> {
        // FNV-1a of the name: separates the streams of the parameters.
        let index = self.name.bytes().fold(0x811c_9dc5u32, |hash, b| (hash ^ u32::from(b)).wrapping_mul(0x0100_0193));
        self.init.draw(&self.shape, &mut Stream::new(seed, Purpose::Init, index))
    }
}

/// Parameters of the encoder in order; [`Layout`] gives their indices.
pub fn encoder_specs(config: &EncoderConfig) -> Vec<ParamSpec> {
    describe(config).1
}

/// The index of a weight, `(out, in)`, or of a LayerNorm's scale, and that of its bias if it has one.
pub type WeightAndBias = (usize, Option<usize>);

/// The index of each parameter of the encoder in [`encoder_specs`].
#[derive(Debug, Clone, Default)]
pub struct Layout {
    /// Position embeddings.
    pub positions: Option<usize>,
    /// Type embeddings.
    pub types: Option<usize>,
    /// LayerNorm of the embeddings.
    pub embeddings_norm: Option<WeightAndBias>,
    /// From the width of the embeddings to H.
    pub projection: Option<WeightAndBias>,
    /// The parameters of each layer.
    pub layers: Vec<LayerLayout>,
    /// LayerNorm of the last layer's output, where LayerNorm comes before the sublayers.
    pub final_norm: Option<WeightAndBias>,
    /// Number of encoder parameters; the head's follow.
    pub len: usize,
}

impl Layout {
    /// The word embedding.
    pub const WORDS: usize = 0;

    /// The indices of the parameters of an encoder.
    pub fn new(config: &EncoderConfig) -> Self {
        describe(config).0
    }

    /// The depth of a parameter in the network: 0 for the head, 1 for the last layer, ...,
    /// `layers + 1` for the embeddings.
    pub fn depth(&self, index: usize) -> usize {
        match self.layers.iter().position(|layer| layer.parameters.contains(&index)) {
            Some(layer) => self.layers.len() - layer,
            None if index >= self.len => 0,
            None if self.final_norm.is_some_and(|(scale, bias)| index == scale || Some(index) == bias) => 1,
            None => self.layers.len() + 1,
        }
    }
}

/// Indices of one layer's parts.
#[derive(Debug, Clone)]
pub struct LayerLayout {
    /// Queries, keys, values: `(3H, H)`, `(3H)`.
    pub qkv: WeightAndBias,
    /// Attention output: `(H, H)`, `(H)`.
    pub attention_out: WeightAndBias,
    /// LayerNorm before or after the attention; none where its input has just been normalized.
    pub attention_norm: Option<WeightAndBias>,
    /// Feed-forward, first: `(F, H)`, `(F)`; without a bias it has a gate, `(2F, H)`.
    pub up: WeightAndBias,
    /// Feed-forward, second: `(H, F)`, `(H)`.
    pub down: WeightAndBias,
    /// LayerNorm before or after the feed-forward layer.
    pub feed_forward_norm: WeightAndBias,
    /// All of them.
    parameters: Range<usize>,
}

/// The parameters so far.
struct Described {
    specs: Vec<ParamSpec>,
    biases: bool,
}

impl Described {
    fn table(&mut self, name: &str, shape: [usize; 2]) -> usize {
        self.specs.push(ParamSpec::weight(name, &shape));
        self.specs.len() - 1
    }

    fn linear(&mut self, name: &str, [outputs, inputs]: [usize; 2]) -> WeightAndBias {
        let weight = self.table(&format!("{name}.weight"), [outputs, inputs]);
        (weight, self.bias(name, outputs))
    }

    fn norm(&mut self, name: &str, size: usize) -> WeightAndBias {
        self.specs.push(ParamSpec::scale(format!("{name}.weight"), size));
        (self.specs.len() - 1, self.bias(name, size))
    }

    fn bias(&mut self, name: &str, size: usize) -> Option<usize> {
        let bias = self.biases.then(|| ParamSpec::bias(format!("{name}.bias"), size));
        self.specs.extend(bias);
        self.biases.then(|| self.specs.len() - 1)
    }
}

/// Indices and parameters of the encoder, under transformers' names.
///
/// BERT's queries, keys and values are one parameter `attention.self.qkv.*` of 3H rows, for a single
/// product; files contain the three that transformers expects (see `checkpoint`).
/// An encoder that the engine does not compute has no parameters here.
fn describe(config: &EncoderConfig) -> (Layout, Vec<ParamSpec>) {
    if !config.model_type.is_trainable() {
        return (Layout::default(), vec![]);
    }
    let (h, f, e) = (config.hidden_size, config.intermediate_size, config.embedding_size());
    let names = config.model_type.names();
    let mut all = Described { specs: vec![], biases: config.has_biases() };
    all.table(names.words, [config.vocab_size, e]);
    let positions = names.positions.map(|name| all.table(name, [config.max_position_embeddings, e]));
    let types = names.types.map(|name| all.table(name, [config.type_vocab_size, e]));
    let embeddings_norm = names.embeddings_norm.map(|name| all.norm(name, e));
    let projection = (e != h).then(|| all.linear("embeddings_project", [h, e]));
    let layers = (0..config.num_hidden_layers).map(|layer| {
        let name = |tail: &str| format!("{}.{layer}.{tail}", names.layer);
        let start = all.specs.len();
        let qkv = all.linear(&name(names.qkv), [3 * h, h]);
        let attention_out = all.linear(&name(names.attention_out), [h, h]);
        // ModernBERT's first layer reads what the embeddings' LayerNorm has normalized.
        let normalized = layer == 0 && config.pre_norm() && embeddings_norm.is_some();
        let attention_norm = (!normalized).then(|| all.norm(&name(names.attention_norm), h));
        let up = all.linear(&name(names.up), [if config.has_biases() { f } else { 2 * f }, h]);
        let down = all.linear(&name(names.down), [h, f]);
        let feed_forward_norm = all.norm(&name(names.feed_forward_norm), h);
        let parameters = start..all.specs.len();
        LayerLayout { qkv, attention_out, attention_norm, up, down, feed_forward_norm, parameters }
    });
    let layers = layers.collect();
    let final_norm = names.final_norm.map(|name| all.norm(name, h));
    (Layout { positions, types, embeddings_norm, projection, layers, final_norm, len: all.specs.len() }, all.specs)
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

    /// The values on an engine, in order.
    ///
    /// # Errors
    /// When the engine refuses, for instance for lack of memory.
    pub fn upload<O: Ops>(&self, ops: &O) -> Result<Vec<O::Buffer>> {
        self.specs.iter().zip(&self.values).map(|(spec, values)| ops.upload(values, &spec.shape)).collect()
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

    /// Bytes of the values.
    pub fn bytes(&self) -> usize {
        4 * self.elements()
    }
}

#[cfg(test)]
mod tests {
    use candle_nn::init::{FanInOut, NonLinearity};

    use super::*;

    /// Mean, standard deviation and largest magnitude, expected and found.
    #[test]
    fn initialisers_have_their_distributions() {
        let kaiming =
            |dist| candle_nn::Init::Kaiming { dist, fan: FanInOut::FanIn, non_linearity: NonLinearity::ReLU }.into();
        let he = (2.0f64 / 40.0).sqrt(); // gain of a ReLU over the root of the fan-in
        // A normal that is cut off at two standard deviations has 0.8796 of its deviation.
        for (init, mean, sd, bound) in [
            (Init::TruncatedNormal(0.5), 0.0, 0.5 * 0.8796, 1.0),
            (candle_nn::Init::Uniform { lo: -1.0, up: 3.0 }.into(), 1.0, 4.0 / 12f64.sqrt(), 3.0),
            (candle_nn::Init::Randn { mean: 2.0, stdev: 0.5 }.into(), 2.0, 0.5, f64::INFINITY),
            (kaiming(NormalOrUniform::Normal), 0.0, he, f64::INFINITY),
            (kaiming(NormalOrUniform::Uniform), 0.0, he, 3f64.sqrt() * he),
            (candle_nn::Init::Const(0.25).into(), 0.25, 0.0, 0.25),
        ] {
            let values = ParamSpec::new("weight", &[1000, 40], init).initial(1);
            let n = values.len() as f64;
            let found = values.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
            let spread = (values.iter().map(|x| (f64::from(*x) - found).powi(2)).sum::<f64>() / n).sqrt();
            assert!((found - mean).abs() <= 5.0 * sd / n.sqrt(), "{init:?}: mean {found}");
            assert!((spread - sd).abs() <= 0.02 * sd, "{init:?}: standard deviation {spread}");
            assert!(values.iter().all(|x| f64::from(x.abs()) <= bound + 1e-6), "{init:?}");
        }
    }

    #[test]
    fn orthogonal_columns_have_length_one() {
        let values = ParamSpec::new("weight_hh", &[64, 16], Init::Orthogonal).initial(1);
        let column = |at: usize| values.iter().skip(at).step_by(16);
        for (i, j) in (0..16).flat_map(|i| (0..=i).map(move |j| (i, j))) {
            let product: f64 = column(i).zip(column(j)).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
            assert!((product - f64::from(u8::from(i == j))).abs() < 1e-6, "columns {i} and {j}: {product}");
        }
        assert!(column(0).any(|x| *x < 0.0) && column(0).any(|x| *x > 0.0));
    }

    #[test]
    fn the_forget_gate_is_open() {
        let bias = ParamSpec::new("bias", &[12], Init::ForgetGate).initial(1);
        assert_eq!(bias, [[0.0; 3], [1.0; 3], [0.0; 3], [0.0; 3]].concat());
    }
}
