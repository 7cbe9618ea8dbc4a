//! The last state of a one-directional LSTM with H units (paper, equations 1-3).

use candle_core::Tensor;

use super::{HeadInput, rows_product};
use crate::Result;
use crate::model::{Init, ParamSpec};
use crate::ops::Ops;

pub(super) fn specs(hidden: usize) -> Vec<ParamSpec> {
    // Uniform within 1/sqrt(H), the customary start of recurrent weights.
    let init = Init::Uniform(1.0 / (hidden as f64).sqrt());
    vec![
        ParamSpec { init, ..ParamSpec::weight("head.lstm.weight_ih", &[4 * hidden, hidden]) },
        ParamSpec { init, ..ParamSpec::weight("head.lstm.weight_hh", &[4 * hidden, hidden]) },
        ParamSpec { init: Init::ForgetGate, ..ParamSpec::bias("head.lstm.bias", 4 * hidden) },
    ]
}

/// Where the weight and the bias of the input product stand in [`specs`].
pub(super) const INPUT_PRODUCT: [usize; 2] = [0, 2];

/// Last states over the words between `[CLS]` and `[SEP]`, `(n, H)`. The engine has computed the input product.
pub(super) fn over_words<O: Ops>(ops: &O, weights: &[Tensor], input: &HeadInput) -> Result<Tensor> {
    let words: Vec<_> = input.cu_seqlens.windows(2).map(|bounds| bounds[0] + 1..bounds[1] - 1).collect();
    let z = HeadInput::part(&input.product, "its input product")?; // (T, 4H)
    ops.lstm(z, &weights[1], &words)
}

/// Last states over the layers' `[CLS]` vectors, first layer to last, `(n, H)`; products of so many rows at a time.
pub(super) fn over_layers<O: Ops>(ops: &O, weights: &[Tensor], input: &HeadInput, rows: usize) -> Result<Tensor> {
    let h = Tensor::stack(&input.cls, 1)?; // (n, L, H)
    let (n, layers, hidden) = h.dims3()?;
    let x = h.reshape((n * layers, hidden))?;
    let z = rows_product(&x, &weights[0].t()?, rows)?.broadcast_add(&weights[2])?; // (n L, 4H)
    let sequences: Vec<_> = (0..n).map(|i| i * layers..(i + 1) * layers).collect();
    ops.lstm(&z, &weights[1], &sequences)
}
