//! Scores: one confusion matrix per evaluation, everything else derived from it, and the protocol
//! said beside it.

mod distributions;
pub mod folds;
pub mod metrics;
pub mod paired;
mod quantile;

pub use folds::{FoldScores, Spread};
pub(crate) use quantile::quantile;

pub use metrics::{ClassScore, Confusion, Prf, Scores};
