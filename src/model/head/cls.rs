//! The last layer's `[CLS]` vector alone: the usual way to fine-tune BERT (paper, section III-A).
//! The paper's code passes it through BERT's pooler, `tanh(W h_CLS + b)`, which is initialised from
//! the checkpoint.

use candle_nn::Linear;

use super::definition::{Definition, HeadInput, HeadOps, Pooled, Pooling, Weighs, linear};
use crate::Result;
use crate::model::Init;
use crate::model::encoder::OutputSpec;

pub(super) const CLS: Definition = Definition {
    reads: OutputSpec { cls: true, ..OutputSpec::NOTHING },
    weighs: Weighs::Nothing,
    by_engine: true,
    width: |hidden| hidden,
    build: |_, _| Ok(Box::new(Cls)),
};

/// The same with the pooler of the paper's code.
pub(super) const POOLED_CLS: Definition = Definition {
    by_engine: false,
    build: |vb, hidden| {
        let vb = vb.pp("pooler");
        let weight = vb.get_with_hints((hidden, hidden), "weight", Init::WEIGHT)?;
        let bias = vb.get_with_hints(hidden, "bias", Init::ZERO)?;
        Ok(Box::new(PooledCls(Linear::new(weight, Some(bias)))))
    },
    ..CLS
};

struct PooledCls(Linear);

impl Pooling for PooledCls {
    fn forward(&self, ops: &dyn HeadOps, input: &HeadInput, alone: bool) -> Result<Pooled> {
        let cls = HeadInput::part(&input.cls)?; // (n, H)
        Ok(Pooled { vectors: linear(ops, &self.0, cls, alone)?.tanh()?, weights: None })
    }
}

struct Cls;

impl Pooling for Cls {
    fn forward(&self, _: &dyn HeadOps, input: &HeadInput, _: bool) -> Result<Pooled> {
        Ok(Pooled { vectors: HeadInput::part(&input.cls)?.clone(), weights: None })
    }
}
