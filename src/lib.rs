//! biorel: biomedical relation extraction with BERT, after Su & Vijay-Shanker, *Investigation of
//! BERT Model on Biomedical Relation Extraction Based on Revised Fine-tuning Mechanism* (2020).
//!
//! The pipeline on one page; every arrow is one function and every stage a value that can be
//! printed:
//!
//! ```text
//! corpus files -> Sentence -> Instance -> Features -> Batch -> EncoderOutput -> HeadOutput -> Prediction -> Scores
//!    corpus::     corpus::    encode::    encode::   encode::      model::        model::     predict::     eval::
//!                                                       (packed)                     |
//!                                                                        word weights (attention::)
//! ```
//!
//! Imports go down only: `py` on top of `attention` and `train`, those on `eval` and `predict`, those
//! on `model`, then `ops` and `encode`, then `corpus` and `text`; `config`, `rng` and `error` are used
//! everywhere.

#![warn(clippy::iter_over_hash_type)] // see clippy.toml

#[macro_use]
mod named;

mod atomic;
pub mod attention;
pub mod config;
pub mod corpus;
mod digest;
pub mod encode;
pub mod error;
pub mod eval;
pub mod model;
pub mod ops;
pub mod predict;
pub mod rng;
pub mod text;
pub mod train;

#[cfg(feature = "python")]
mod py;

#[cfg(feature = "python")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub use error::{Error, Result};
