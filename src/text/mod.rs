//! Plain text: entity tags, words, stems. Knows nothing of vocabularies or models.

pub mod porter;
pub mod tags;

pub use porter::{Porter, stem};
pub use tags::{find_tags, is_marker, is_tag};
