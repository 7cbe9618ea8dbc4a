//! The last state of a one-directional LSTM with H units (paper, equations 1-3).

use candle_core::Tensor;

use super::HeadInput;
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

/// Last states over the words between `[CLS]` and `[SEP]`, `(n, H)`.
pub(super) fn over_words<O: Ops>(ops: &O, weights: &[Tensor], input: &HeadInput) -> Result<Tensor> {
    let mut rows = Vec::new();
    let mut starts = vec![0];
    for bounds in input.starts.windows(2) {
        rows.extend(bounds[0] as u32 + 1..bounds[1] as u32 - 1);
        starts.push(rows.len());
    }
    let words = input.last.index_select(&Tensor::new(rows, input.last.device())?, 0)?;
    last_states(ops, weights, &words, &starts)
}

/// Last states over the layers' `[CLS]` vectors, first layer to last, `(n, H)`.
pub(super) fn over_layers<O: Ops>(ops: &O, weights: &[Tensor], input: &HeadInput) -> Result<Tensor> {
    let h = Tensor::stack(&input.cls, 1)?; // (n, L, H)
    let (n, layers, hidden) = h.dims3()?;
    let starts: Vec<usize> = (0..=n).map(|i| i * layers).collect();
    last_states(ops, weights, &h.reshape((n * layers, hidden))?, &starts)
}

/// `(rows, H)` packed sequences to `(n, H)`.
fn last_states<O: Ops>(ops: &O, weights: &[Tensor], x: &Tensor, starts: &[usize]) -> Result<Tensor> {
    let [input, recurrent, bias] = [&weights[0], &weights[1], &weights[2]];
    let z = x.matmul(&input.t()?)?.broadcast_add(bias)?; // (rows, 4H)
    let h = ops.recurrence(&z, recurrent, starts)?; // (rows, H)
    let last: Vec<u32> = starts[1..].iter().map(|end| *end as u32 - 1).collect();
    Ok(h.index_select(&Tensor::new(last, h.device())?, 0)?)
}
