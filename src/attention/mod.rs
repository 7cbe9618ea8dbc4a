//! Which words a model looked at.

pub mod words;

pub use words::{WordWeight, word_weights};
