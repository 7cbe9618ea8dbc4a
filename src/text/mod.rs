//! Plain text: stems. Knows nothing of vocabularies or models.

pub mod porter;

pub use porter::stem;
