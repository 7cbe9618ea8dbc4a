//! Scores: one confusion matrix per evaluation, everything else derived from it, with its protocol.

mod distributions;
mod mean_sd;
pub mod metrics;
pub mod paired;
mod quantile;

pub use mean_sd::MeanSd;
pub use metrics::{ClassScore, Confusion, Prf, Scores};
pub(crate) use quantile::quantile;
