//! The formats of checkpoints, and the tensors stored in addition to the encoder's.

/// The weight file that biorel writes.
pub const WEIGHTS_FILE: &str = "model.safetensors";

/// The format of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// safetensors.
    Safetensors,
    /// `torch.save` of torch 1.6 and newer: a zip archive.
    PyTorch,
    /// `torch.save` before 1.6: pickles in a row.
    PyTorchLegacy,
    /// TensorFlow 1: index and data files.
    TensorFlow,
    /// Flax: msgpack.
    Flax,
}

impl Format {
    /// A name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::PyTorch => "PyTorch",
            Self::PyTorchLegacy => "PyTorch (legacy form)",
            Self::TensorFlow => "TensorFlow",
            Self::Flax => "Flax",
        }
    }
}

/// A tensor that the encoder does not compute with but that is saved with it: transformers' pooler,
/// and what an adapted encoder has above it.
#[derive(Debug, Clone, PartialEq)]
pub struct Extra {
    /// Name without `bert.`.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Values.
    pub values: Vec<f32>,
}

impl Extra {
    /// Whether it belongs to the pooler.
    pub fn is_pooler(&self) -> bool {
        self.name.starts_with("pooler.")
    }
}
