//! The last layer's `[CLS]` vector by itself: the customary way of fine-tuning BERT (paper, section III-A).

use super::{Definition, HeadInput, HeadOps, Pooled, Pooling, Weighs};
use crate::Result;
use crate::model::encoder::OutputSpec;

pub(super) const CLS: Definition = Definition {
    reads: OutputSpec { cls: true, ..OutputSpec::NOTHING },
    weighs: Weighs::Nothing,
    width: |hidden| hidden,
    build: |_, _| Ok(Box::new(Cls)),
};

struct Cls;

impl Pooling for Cls {
    fn forward(&self, _: &dyn HeadOps, input: &HeadInput, _: bool) -> Result<Pooled> {
        Ok(Pooled { vectors: HeadInput::part(&input.cls)?.clone(), weights: None })
    }
}
