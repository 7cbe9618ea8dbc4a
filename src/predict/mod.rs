//! Prediction: probabilities of instances, batch by batch, and streams of any number of documents.

pub(crate) mod batches;
pub mod classify;
mod hidden_states;
pub mod stream;

pub use batches::OnBatch;
pub use classify::{Predict, Prediction, classify_instances, most_probable, predict};
pub(crate) use hidden_states::fill_cache;
pub use hidden_states::hidden_states;
