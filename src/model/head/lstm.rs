//! The last state of a one-directional LSTM with H units (paper, equations 1-3), over the words of
//! a sentence or over the layers' `[CLS]` vectors, first layer to last.

use candle_core::Tensor;
use candle_nn::Linear;

use super::definition::{Definition, HeadInput, HeadOps, Pooled, Pooling, Weighs, linear};
use super::parameters::VarBuilder;
use crate::Result;
use crate::model::Init;
use crate::model::encoder::OutputSpec;

/// The LSTM over words reads a projection of the last layer, its input product, instead of the last
/// layer itself.
const INPUT_PRODUCT: OutputSpec =
    OutputSpec { projection: Some(["head.lstm.weight_ih", "head.lstm.bias"]), ..OutputSpec::NOTHING };

/// `[h_CLS ; LSTM(h_1..h_N)]`.
pub(super) const LSTM: Definition = Definition {
    reads: OutputSpec { cls: true, ..INPUT_PRODUCT },
    weighs: Weighs::Nothing,
    by_engine: false,
    width: |hidden| 2 * hidden,
    build: |vb, hidden| Ok(Box::new(OverWords(Lstm::new(&vb, hidden, customary(hidden))?))),
};

/// `[LSTM(h_1..h_N)]`.
pub(super) const LSTM_NO_CLS: Definition = Definition { reads: INPUT_PRODUCT, width: |hidden| hidden, ..LSTM };

/// `[LSTM over the layers' h_CLS]`.
pub(super) const LSTM_ALL_CLS: Definition = Definition {
    reads: OutputSpec { cls_of_layers: true, ..OutputSpec::NOTHING },
    weighs: Weighs::Nothing,
    by_engine: false,
    width: |hidden| hidden,
    build: |vb, hidden| Ok(Box::new(OverLayers(Lstm::new(&vb, hidden, customary(hidden))?))),
};

/// The three with the initial values of the paper's code: Keras's defaults.
pub(super) const KERAS_LSTM: Definition =
    Definition { build: |vb, hidden| Ok(Box::new(OverWords(Lstm::new(&vb, hidden, keras(hidden))?))), ..LSTM };
pub(super) const KERAS_LSTM_NO_CLS: Definition = Definition { build: KERAS_LSTM.build, ..LSTM_NO_CLS };
pub(super) const KERAS_LSTM_ALL_CLS: Definition =
    Definition { build: |vb, hidden| Ok(Box::new(OverLayers(Lstm::new(&vb, hidden, keras(hidden))?))), ..LSTM_ALL_CLS };

/// Initial values of the input's and the recurrent weights: uniform within 1/sqrt(H), customary for
/// recurrent weights.
fn customary(hidden: usize) -> [Init; 2] {
    [Init::within(1.0 / (hidden as f64).sqrt()); 2]
}

/// Keras: Glorot's uniform over the matrix of all gates, `(H, 4H)`, and orthogonal; its bias opens
/// the forget gate too.
fn keras(hidden: usize) -> [Init; 2] {
    [Init::within((6.0 / (5 * hidden) as f64).sqrt()), Init::Orthogonal]
}

struct Lstm {
    /// To the gates i, f, g, o: `(4H, H)`, `(4H)`.
    input: Linear,
    /// `(4H, H)`.
    recurrent: Tensor,
}

impl Lstm {
    fn new(vb: &VarBuilder<'_>, hidden: usize, init: [Init; 2]) -> candle_core::Result<Self> {
        let vb = vb.pp("lstm");
        let input = vb.get_with_hints((4 * hidden, hidden), "weight_ih", init[0])?;
        let recurrent = vb.get_with_hints((4 * hidden, hidden), "weight_hh", init[1])?;
        let bias = vb.get_with_hints(4 * hidden, "bias", Init::ForgetGate)?;
        Ok(Self { input: Linear::new(input, Some(bias)), recurrent })
    }
}

struct OverWords(Lstm);

impl Pooling for OverWords {
    fn forward(&self, ops: &dyn HeadOps, input: &HeadInput, _: bool) -> Result<Pooled> {
        let gates = HeadInput::part(&input.projection)?; // (T, 4H)
        let states = ops.lstm(gates, &self.0.recurrent, &input.words)?; // (n, H)
        Ok(Pooled { vectors: input.behind_cls(states)?, weights: None })
    }
}

struct OverLayers(Lstm);

impl Pooling for OverLayers {
    fn forward(&self, ops: &dyn HeadOps, input: &HeadInput, alone: bool) -> Result<Pooled> {
        let h = Tensor::stack(&input.cls_of_layers, 1)?; // (n, L, H)
        let (n, layers, hidden) = h.dims3()?;
        let gates = linear(ops, &self.0.input, &h.reshape((n * layers, hidden))?, alone)?; // (n L, 4H)
        let sequences: Vec<_> = (0..n).map(|i| i * layers..(i + 1) * layers).collect();
        Ok(Pooled { vectors: ops.lstm(&gates, &self.0.recurrent, &sequences)?, weights: None })
    }
}
