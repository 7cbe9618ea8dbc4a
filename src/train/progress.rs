//! The record of a run: its finished steps, and those in flight.

use std::collections::VecDeque;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::evaluation::Evaluations;
use crate::Result;
use crate::ops::{Pending, StepResult};

/// The record of one optimizer step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Counted from 1.
    pub step: usize,
    /// Counted from 1.
    pub epoch: usize,
    /// Loss of the step's instances before the update: the mean cross-entropy, weighted by the
    /// settings.
    pub loss: f64,
    /// Global L2 norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Instances of the step.
    pub instances: usize,
    /// Word pieces of the step.
    pub tokens: usize,
    /// Wall-clock time of the step; on a GPU, since the end of the previous step.
    pub seconds: f64,
}

/// The progress of a run: its state except weights and moments.
#[derive(Default)]
pub(super) struct Progress {
    pub history: Vec<StepRecord>,
    pub evaluations: Evaluations,
    /// Steps after those of the history, which the device may not have finished.
    pub pending: VecDeque<PendingStep>,
    /// When the last step was observed to have finished.
    pub last_finished: Option<Instant>,
}

/// A step whose loss and gradient norm are not known yet.
pub(super) struct PendingStep {
    pub record: StepRecord,
    pub sums: Pending<StepResult>,
    pub started: Instant,
}

impl Progress {
    /// Steps that are finished or in flight.
    pub fn steps(&self) -> usize {
        self.history.len() + self.pending.len()
    }

    /// Wait for all steps in flight but the last `leave`, and add them to the history. Returns how
    /// many were added.
    pub fn drain(&mut self, leave: usize) -> Result<usize> {
        let before = self.history.len();
        while self.pending.len() > leave {
            let Some(PendingStep { mut record, sums, started }) = self.pending.pop_front() else { break };
            StepResult { loss: record.loss, norm: record.gradient_norm } = sums.get()?;
            // The time of earlier steps is not part of this one.
            let started = self.last_finished.map_or(started, |finished| finished.max(started));
            record.seconds = started.elapsed().as_secs_f64();
            self.last_finished = Some(Instant::now());
            self.history.push(record);
        }
        Ok(self.history.len() - before)
    }
}
