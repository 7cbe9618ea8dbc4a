//! Evaluation on held-out data while training: it selects the best weights and decides when to stop
//! early.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::config::TrainingSettings;
use crate::corpus::Task;
use crate::encode::Features;
use crate::eval::Confusion;
use crate::model::{Network, Weights};
use crate::ops::Ops;
use crate::predict::{OnBatch, predict};
use crate::{Error, Result};

/// Held-out instances that are scored while training.
#[derive(Debug, Clone)]
pub struct Dev<'a> {
    /// Labelled instances.
    pub features: &'a [Features],
    /// Labels, and the averaging of the score.
    pub task: &'a Task,
    /// Gold positives that never became instances, `(labels)`. They count as misses.
    pub lost: Vec<u64>,
}

/// Scores on the held-out data after some step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Optimizer steps taken before the evaluation.
    pub step: usize,
    /// Epoch of that step, counted from 1.
    pub epoch: usize,
    /// Mean cross-entropy, unweighted.
    pub loss: f64,
    /// Precision in the task's averaging.
    pub precision: f64,
    /// Recall in the task's averaging.
    pub recall: f64,
    /// F1 in the task's averaging.
    pub f1: f64,
    /// Whether no earlier evaluation was as good.
    pub best: bool,
    /// Wall-clock time of the evaluation.
    pub seconds: f64,
}

impl Evaluation {
    /// A higher F1 is better. Ties go to the lower loss: in the first steps a model often finds
    /// nothing, and F1 is 0.
    fn better_than(&self, other: &Self) -> bool {
        self.f1 > other.f1 || (self.f1 == other.f1 && self.loss < other.loss)
    }
}

impl Dev<'_> {
    /// # Errors
    /// [`Error::Config`] when there is nothing to score, or a label is missing.
    pub(super) fn validate(&self) -> Result<()> {
        if self.features.is_empty() {
            return Err(Error::config("dev", "there are no instances to evaluate on"));
        }
        if self.features.iter().any(|item| item.label.is_none_or(|label| label >= self.task.labels.len())) {
            return Err(Error::config("dev", "every instance needs one of the task's labels"));
        }
        Ok(())
    }

    /// Score `params`; `best` is filled in by [`Evaluations::push`].
    pub(super) fn evaluate<O: Ops>(
        &self,
        ops: &O,
        network: &Network,
        params: &[O::Buffer],
        (step, epoch): (usize, usize),
        on_batch: OnBatch<'_>,
    ) -> Result<Evaluation> {
        let started = Instant::now();
        let predictions = predict(ops, network, params, self.features, on_batch)?;
        let mut confusion = Confusion::new(&self.task.labels, self.task.negative)?;
        let mut loss = 0.0;
        for (item, prediction) in self.features.iter().zip(&predictions) {
            let Some(gold) = item.label else { unreachable!("validated") };
            confusion.add(gold, prediction.label(), 1)?;
            // A probability that underflows to 0 in f32 is below 2^-149. Taking that keeps the loss
            // finite.
            loss -= f64::from(prediction.probabilities[gold].max(f32::from_bits(1))).ln();
        }
        let scores = confusion.with_lost(&self.lost)?.scores();
        let score = scores.by(self.task.averaging).unwrap_or(scores.micro);
        Ok(Evaluation {
            step,
            epoch,
            loss: loss / self.features.len() as f64,
            precision: score.precision,
            recall: score.recall,
            f1: score.f1,
            best: false,
            seconds: started.elapsed().as_secs_f64(),
        })
    }
}

/// All evaluations of a run so far, and the best weights.
#[derive(Debug, Clone, Default)]
pub(super) struct Evaluations {
    pub records: Vec<Evaluation>,
    /// Weights of the best evaluation, where they are to be kept.
    pub best: Option<Weights>,
}

impl Evaluations {
    /// Whether `step` has been evaluated.
    pub fn done(&self, step: usize) -> bool {
        self.records.last().is_some_and(|last| last.step >= step)
    }

    /// Add an evaluation. `weights` is called if they are the best so far and the best are to be
    /// kept.
    pub fn push(
        &mut self,
        mut evaluation: Evaluation,
        load_best_model: bool,
        weights: impl FnOnce() -> Result<Weights>,
    ) -> Result<Evaluation> {
        evaluation.best = self.records.iter().all(|earlier| evaluation.better_than(earlier));
        if evaluation.best && load_best_model {
            self.best = Some(weights()?);
        }
        self.records.push(evaluation);
        Ok(evaluation)
    }

    /// Whether the settings' patience is exhausted: as many evaluations in a row did not improve on
    /// the best.
    pub fn exhausted(&self, settings: &TrainingSettings) -> bool {
        let since_best = self.records.iter().rev().take_while(|evaluation| !evaluation.best).count();
        settings.patience.is_some_and(|patience| since_best >= patience)
    }

    /// The step of the best weights.
    pub fn best_step(&self) -> Option<usize> {
        self.records.iter().rev().find(|evaluation| evaluation.best).map(|evaluation| evaluation.step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluations(scores: &[(f64, f64)]) -> Evaluations {
        let mut all = Evaluations::default();
        for (step, (f1, loss)) in scores.iter().enumerate() {
            let (f1, loss) = (*f1, *loss);
            let record = Evaluation { step, epoch: 1, loss, precision: f1, recall: f1, f1, best: false, seconds: 0.0 };
            let weights = || Ok(Weights { specs: vec![], values: vec![vec![step as f32]] });
            all.push(record, true, weights).unwrap();
        }
        all
    }

    #[test]
    fn the_highest_f1_is_best_and_of_equals_the_lower_loss() {
        let all = evaluations(&[(0.0, 0.7), (0.0, 0.6), (0.5, 0.9), (0.5, 0.9), (0.4, 0.1), (0.5, 0.8), (0.5, 0.8)]);
        let best: Vec<bool> = all.records.iter().map(|record| record.best).collect();
        assert_eq!(best, [true, true, true, false, false, true, false]);
        assert_eq!(all.best_step(), Some(5));
        assert_eq!(all.best.unwrap().values, [[5.0]]);
    }

    #[test]
    fn patience_counts_evaluations_since_the_best() {
        let patience = |patience| TrainingSettings { patience, ..Default::default() };
        let all = evaluations(&[(0.5, 0.5), (0.6, 0.5), (0.5, 0.5), (0.6, 0.5)]);
        assert!(all.exhausted(&patience(Some(1))));
        assert!(all.exhausted(&patience(Some(2))));
        assert!(!all.exhausted(&patience(Some(3))));
        assert!(!all.exhausted(&patience(None)));
        assert!(!Evaluations::default().exhausted(&patience(Some(1))));
    }
}
