//! From sentences to the encoder's input: marked entities, word pieces, windows, packed batches,
//! folds.
//!
//! ```text
//! Sentence + Pair --mark--> Instance --Tokenizer::features--> Features --pack--> Batch
//! ```
//!
//! With levitated markers the text of an instance is that of its sentence, and the instances of one
//! sentence share it in the batch.

mod batch;
mod blind;
mod byte_level;
mod casing;
mod division;
pub mod features;
mod instance;
mod masking;
mod random_split;
pub mod split;
pub mod tokenizer;
mod tokenizer_settings;
mod vocabulary;
mod word_piece;
mod writer;

pub use batch::{Batch, InstanceTokens, MARKERS, MarkerIds, Padding};
pub use casing::Casing;
pub use division::{FoldUnit, divide, fold_numbers, hold_out};
pub use features::{Dropped, Encoded};
pub use instance::{Marking, instances, mark, mark_arguments, mark_concepts};
pub use masking::{Masked, Masking};
pub use random_split::split_at_random;
pub use split::{Fold, Leakage, NearDuplicate, folds_by_document, folds_by_instance, folds_given};
pub use tokenizer::{Piece, Tokenizer};

use crate::corpus::{Span, TableRow};

/// One candidate pair, with its two entities marked in the text.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// The pair's identifier.
    pub id: String,
    /// The document's identifier.
    pub document: String,
    /// The sentence's identifier.
    pub sentence: String,
    /// The marked text, e.g. `@DRUG$ increases the effect of @DRUG$ .`
    pub text: String,
    /// The spans of the first and second argument in `text`, in characters; the same span twice for
    /// overlapping mentions under one tag.
    pub entities: [Span; 2],
    /// The two mentions as in the sentence.
    pub mentions: [String; 2],
    /// The ranges of `text` that were copied unchanged from the sentence, sorted. Characters
    /// outside of them belong to a tag or a marker.
    pub copied: Vec<Copied>,
    /// The numbers of the entities' types among the task's, which select their levitated markers;
    /// `None` for another marking.
    pub marker_types: Option<[u32; 2]>,
    /// Index into the task's labels; `None` when it is to be predicted.
    pub label: Option<usize>,
    /// The row of a user's table that states the pair.
    pub row: Option<TableRow>,
    /// At document scope, the identifiers of the two concepts.
    pub concepts: Option<[String; 2]>,
    /// With levitated markers at document scope, the spans of further pairs of mentions of the two
    /// concepts in `text`, nearest first. `entities` is the nearest pair.
    pub further: Vec<[Span; 2]>,
}

/// A range of a marked text that was copied from the sentence, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// First character in the marked text.
    pub marked: usize,
    /// First character in the sentence's text.
    pub original: usize,
    /// Number of characters.
    pub length: usize,
}

/// The word pieces of one instance, `[CLS]` first and `[SEP]` last.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// Vocabulary ids, `[CLS] ... [SEP]`; at most `max_length`.
    pub ids: Vec<u32>,
    /// For each piece, its characters in the marked text; empty spans for `[CLS]` and `[SEP]`.
    pub spans: Vec<Span>,
    /// For each piece, the word it belongs to (counted from 0 in this instance); `None` for `[CLS]`
    /// and `[SEP]`.
    pub words: Vec<Option<u32>>,
    /// Pieces of the first and second argument, as ranges of piece indices.
    pub entities: [Span; 2],
    /// Those of the further pairs of mentions that are within the window.
    pub further: Vec<[Span; 2]>,
    /// As in [`Instance`].
    pub marker_types: Option<[u32; 2]>,
    /// Number of pieces outside the window of `max_length`; 0 if the whole text is encoded.
    pub cut: usize,
    /// Index into the task's labels; `None` when it is to be predicted.
    pub label: Option<usize>,
}
