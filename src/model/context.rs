//! The context of a training step: dropout, frozen layers, recomputation.

use crate::config::Freeze;
use crate::rng::Dropout;

/// How a training step runs the encoder: the counters and rates of its dropout masks, frozen
/// layers, recomputation.
#[derive(Debug, Clone, Copy)]
pub struct ForwardContext {
    /// The run's seed.
    pub seed: u64,
    /// Optimizer step.
    pub step: u32,
    /// Micro-batch within the step.
    pub micro: u32,
    /// Rate for hidden states.
    pub hidden: f32,
    /// Rate for attention probabilities.
    pub attention: f32,
    /// Rate before the classifier.
    pub head: f32,
    /// The part that is not trained: its activations are not saved and its gradients not computed.
    pub frozen: Frozen,
    /// Keep only the inputs of the layers and recompute the rest in the backward: less memory, a
    /// third more time, the same bits (Chen et al. 2016).
    pub recompute: bool,
}

/// The lower part of the encoder that is not trained, or all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Frozen {
    /// Whether the embeddings are frozen.
    pub embeddings: bool,
    /// How many layers are frozen, from the first; more than 0 only with the embeddings.
    pub layers: usize,
    /// Whether the encoder is as in prediction: without dropout and without a backward.
    pub whole: bool,
}

impl Frozen {
    /// What a setting freezes.
    pub fn new(freeze: Option<Freeze>) -> Self {
        match freeze {
            None => Self::default(),
            Some(Freeze::Layers(layers)) => Self { embeddings: true, layers, whole: false },
            Some(Freeze::All) => Self { embeddings: true, layers: usize::MAX, whole: true },
        }
    }
}

/// The dropouts of the network. Each has its own number in the counter of the random numbers.
#[derive(Debug, Clone, Copy)]
pub enum Site {
    /// After the embeddings' LayerNorm.
    Embeddings,
    /// Attention probabilities of a layer.
    Probabilities(usize),
    /// Attention output of a layer.
    AttentionOut(usize),
    /// Feed-forward output of a layer.
    Output(usize),
    /// Before the classifier, above a number of layers.
    Head(usize),
}

impl Site {
    fn number(self) -> u32 {
        let number = match self {
            Self::Probabilities(layer) => 4 * layer,
            Self::AttentionOut(layer) => 4 * layer + 1,
            Self::Output(layer) => 4 * layer + 2,
            Self::Embeddings => 3,
            Self::Head(layers) => 4 * layers,
        };
        number as u32
    }
}

impl ForwardContext {
    /// A context that saves activations for the backward, but drops nothing.
    pub fn without_dropout() -> Self {
        Self {
            seed: 0,
            step: 0,
            micro: 0,
            hidden: 0.0,
            attention: 0.0,
            head: 0.0,
            frozen: Frozen::default(),
            recompute: false,
        }
    }

    /// The mask at `site`; `None` without dropout.
    pub fn dropout(&self, site: Site) -> Option<Dropout> {
        let rate = match site {
            Site::Embeddings | Site::AttentionOut(_) | Site::Output(_) => self.hidden,
            Site::Probabilities(_) => self.attention,
            Site::Head(_) => self.head,
        };
        (rate > 0.0).then(|| Dropout { rate, seed: self.seed, site: site.number(), step: self.step, micro: self.micro })
    }
}
