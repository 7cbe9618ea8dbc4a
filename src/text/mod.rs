//! Operations on plain text, without vocabularies and models: stems.

pub mod porter;

pub use porter::stem;
