//! Prediction: probabilities of instances batch by batch, and documents of any number in a stream.

pub mod batches;
pub mod stream;

pub use batches::{EncodeStates, OnBatch, Predict, Prediction, predict};
