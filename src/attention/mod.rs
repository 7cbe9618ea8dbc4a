//! Which words a model looked at, and which stems over many instances.

pub mod stems;
pub mod words;

pub use stems::{Draws, Occurrences, StemContrast, StemWeight, stem_contrasts, stem_weights};
pub use words::{WordWeight, word_weights};
