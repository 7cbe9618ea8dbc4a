//! Fine-tuning: from an encoder and labelled instances to a relation model.
//!
//! ```text
//! instances --fewer_negatives--> instances --tokenizer--> Features --TrainingRun--> Weights --> RelationModel
//!                                                            |  schedule, trainer (one step), evaluation, checkpoint
//! ```
//!
//! [`fine_tune`] does all of it:
//!
//! ```no_run
//! use std::path::{Path, PathBuf};
//!
//! use biorel::config::{Backend, HeadKind, Precision, TrainingSettings};
//! use biorel::corpus::{Corpus, CorpusKind, ReadOptions};
//! use biorel::encode::{Marking, instances};
//! use biorel::model::Pretrained;
//! use biorel::ops::compute::Compute;
//! use biorel::train::{Event, FineTune, TrainingData, fine_tune};
//!
//! # fn main() -> biorel::Result<()> {
//! let corpus = Corpus::read(CorpusKind::Ddi, &[PathBuf::from("DDICorpus-2013.zip")], &ReadOptions::default())?;
//! let split = corpus.split("train")?;
//! let instances = instances(&split.sentences, &corpus.task, Marking::default())?;
//! let encoder = Pretrained::open(Path::new("biobert-base-cased"), None)?;
//! let settings = TrainingSettings { head: HeadKind::Attention, ..TrainingSettings::default() };
//! let run = FineTune {
//!     encoder: &encoder,
//!     encoder_name: "biobert-base-cased",
//!     data: TrainingData { instances: &instances, task: &corpus.task, marking: Marking::default(), hash: None },
//!     held_out: None,
//!     settings: &settings,
//!     compute: Compute::new(Backend::Auto, Precision::Auto, None)?,
//!     checkpoint: None,
//! };
//! let tuned = fine_tune(run, &mut |event| {
//!     if let Event::Step(record) = event {
//!         println!("step {}: loss {:.3}", record.step, record.loss);
//!     }
//!     Ok(())
//! })?;
//! tuned.model.save(Path::new("ddi-model"))?;
//! # Ok(())
//! # }
//! ```

mod adapt;
mod checkpoint;
mod evaluation;
mod fine_tune;
mod instances;
mod joint;
mod objective;
mod progress;
mod sampling;
mod schedule;
mod spool;
mod trainer;
mod training_loop;

pub use adapt::{Adapt, Adapted, adapt, masked_lm};
pub use checkpoint::CheckpointPlan;
pub use evaluation::{Dev, Evaluation};
pub use fine_tune::{FineTune, FineTuned, HeldOut, InstanceCounts, TrainingData, fine_tune};
pub use instances::Instances;
pub use joint::{FineTuneJointly, FineTunedJointly, fine_tune_jointly};
pub use objective::Objective;
pub use progress::StepRecord;
pub use sampling::fewer_negatives;
pub use schedule::Schedule;
pub use spool::Spool;
pub use trainer::Trainer;
pub use training_loop::{Event, OnEvent, Trained, TrainingRun};
