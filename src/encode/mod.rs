//! From sentences to the encoder's input: marked entities, WordPiece, windows, packed batches,
//! folds.
//!
//! ```text
//! Sentence + Pair --mark--> Instance --Tokenizer::features--> Features --pack--> Batch
//! ```

mod division;
pub mod features;
mod instance;
mod random_split;
pub mod split;
pub mod tokenizer;
mod vocabulary;

pub use division::{FoldUnit, divide, fold_numbers, hold_out};
pub use features::{Dropped, Encoded};
pub use instance::{Marking, instances, mark, mark_arguments};
pub use random_split::split_at_random;
pub use split::{Fold, Leakage, NearDuplicate, folds_by_document, folds_by_instance, folds_given};
pub use tokenizer::{Piece, Tokenizer};
pub use vocabulary::Casing;

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
    /// Index into the task's labels; `None` when it is to be predicted.
    pub label: Option<usize>,
    /// The row of a user's table that states the pair.
    pub row: Option<TableRow>,
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
    /// Number of pieces outside the window of `max_length`; 0 if the whole text is encoded.
    pub cut: usize,
    /// Index into the task's labels; `None` when it is to be predicted.
    pub label: Option<usize>,
}

/// Sentences one after the other in a single row of tokens, without padding unless requested
/// ([`Padding`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Vocabulary ids of all sentences, `(tokens)`.
    pub ids: Vec<u32>,
    /// Position of each token in its sentence, `(tokens)`.
    pub positions: Vec<u32>,
    /// Cumulative sequence lengths: the start of each sentence, and the number of tokens,
    /// `(sentences + 1)`.
    pub cu_seqlens: Vec<usize>,
    /// Index of the label of each sentence, `(sentences)`; empty when they are to be predicted.
    pub labels: Vec<u32>,
    /// For padded sentences, the number of pieces of each without its padding, `(sentences)`; only
    /// these are attended to.
    pub valid_lengths: Option<Vec<usize>>,
}

/// Padding of all sentences to one length, as in the paper's reference code, whose heads also read
/// the padding ([`crate::config::Compat`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Padding {
    /// Pieces of every sentence.
    pub length: usize,
    /// Id of `[PAD]`.
    pub id: u32,
}

impl Batch {
    /// Pack the given instances in the given order.
    pub fn pack<'a>(features: impl IntoIterator<Item = &'a Features>) -> Self {
        let mut batch =
            Self { ids: vec![], positions: vec![], cu_seqlens: vec![0], labels: vec![], valid_lengths: None };
        for item in features {
            batch.ids.extend(&item.ids);
            batch.positions.extend(0..item.ids.len() as u32);
            batch.cu_seqlens.push(batch.ids.len());
            batch.labels.extend(item.label.map(|label| label as u32));
        }
        batch
    }

    /// As [`Batch::pack`], with every sentence padded; a longer one stays unchanged.
    pub fn pad<'a>(features: impl IntoIterator<Item = &'a Features>, padding: Padding) -> Self {
        let mut batch = Self { valid_lengths: Some(vec![]), ..Self::pack([]) };
        for item in features {
            let length = item.ids.len().max(padding.length);
            batch.ids.extend(&item.ids);
            batch.ids.resize(batch.cu_seqlens[batch.len()] + length, padding.id);
            batch.positions.extend(0..length as u32);
            batch.cu_seqlens.push(batch.ids.len());
            batch.labels.extend(item.label.map(|label| label as u32));
            batch.valid_lengths.get_or_insert_default().push(item.ids.len());
        }
        batch
    }

    /// Pieces of a sentence without its padding.
    pub fn pieces(&self, sentence: usize) -> usize {
        match &self.valid_lengths {
            Some(valid) => valid[sentence],
            None => self.cu_seqlens[sentence + 1] - self.cu_seqlens[sentence],
        }
    }

    /// Number of sentences.
    pub fn len(&self) -> usize {
        self.cu_seqlens.len() - 1
    }

    /// Whether there is no sentence.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of tokens, `[CLS]` and `[SEP]` included.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Number of tokens of the longest sentence.
    pub fn longest(&self) -> usize {
        self.cu_seqlens.windows(2).map(|w| w[1] - w[0]).max().unwrap_or(0)
    }
}
