//! Scores: one confusion matrix per evaluation, everything else derived from it, and the protocol said beside it.

mod distributions;
pub mod folds;
pub mod metrics;
pub mod paired;

pub use folds::{FoldScores, Spread};
pub use metrics::{ClassScore, Confusion, Prf, Scores};
