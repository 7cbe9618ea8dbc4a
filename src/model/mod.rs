//! Encoder, heads, the network that combines them, and relation models that can be saved and
//! loaded.

pub mod architecture;
pub mod candle_encoder;
pub mod checkpoint;
pub mod config;
mod context;
pub mod encoder;
pub mod head;
mod identity;
pub mod markers;
pub mod masked_lm;
pub mod network;
pub mod params;
pub mod relation;
pub mod source;

pub use crate::ops::Loss;
pub use architecture::ModelType;
pub use config::EncoderConfig;
pub use masked_lm::MaskedLm;
pub use network::{Explanation, Network};
pub use params::{Init, ParamSpec, Weights};
pub use relation::{Card, Pretrained, RelationModel};
pub use source::Source;
