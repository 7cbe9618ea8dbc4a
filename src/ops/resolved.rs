//! Which engine computes: the choice of [`super::compute::Compute`] for this machine.

use super::cpu::bf16::Bf16Isa;

/// An engine, with what its products are computed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resolved {
    /// Matrix products in bf16 with the given instructions, or in f32.
    Cpu(Option<Bf16Isa>),
    Cuda {
        index: usize,
        bf16: bool,
    },
    Reference,
}
