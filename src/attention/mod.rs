//! Which words a model attends to, which stems over many instances, and whether that explains its
//! decisions.
//!
//! ```text
//! Instance --explain--> weights of its pieces --word_weights--> of its words --stem_weights--> of stems
//!                                        `--masking--> does the decision depend on them?
//! ```

pub mod agreement;
pub mod explain;
mod layer_weights;
pub mod masking;
pub mod resampling;
pub mod stems;
mod word_table;
pub mod words;

pub use agreement::spearman;
pub use explain::{Explain, Explained};
pub use layer_weights::{LayerWeights, layer_weights};
pub use masking::{MaskWords, Masked, Masking, Matched, Ranking, mask_words};
pub use resampling::{LEAST_DOCUMENTS, Resampling};
pub use stems::{Occurrences, StemContrast, StemWeight, bootstrap_mean, stem_contrasts, stem_weights};
pub use word_table::{WeightSource, WordRow, word_table};
pub use words::{WordWeight, word_weights};
