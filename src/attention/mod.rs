//! Which words a model looked at, which stems over many instances, and whether that explains its
//! decisions.
//!
//! ```text
//! Instance --explain--> weights of its pieces --word_weights--> of its words --stem_weights--> of stems
//!                                        `--masking--> does the decision depend on them?
//! ```

pub mod agreement;
pub mod explain;
pub mod masking;
pub mod stems;
mod word_table;
pub mod words;

pub use agreement::spearman;
pub use explain::{Explain, Explained};
pub use masking::{MaskWords, Masked, Matched, Ranking};
pub use stems::{
    Draws, LEAST_DOCUMENTS, Occurrences, StemContrast, StemWeight, bootstrap_mean, stem_contrasts, stem_weights,
};
pub use word_table::{WeightSource, WordRow, word_table};
pub use words::{WordWeight, word_weights};
