//! The instances and the learning rate of each step.

use std::ops::Range;

use crate::config::{Compat, TrainingSettings};

/// The plan of a run: a pure function of the settings and the number of instances.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    instances: usize,
    per_step: usize,
    total: usize,
    warmup: usize,
    peak: f64,
    reference: bool,
    eval_steps: Option<usize>,
}

impl Schedule {
    /// Plan a run over `instances` instances (at least one).
    pub fn new(settings: &TrainingSettings, instances: usize) -> Self {
        let per_step = settings.batch_size.saturating_mul(settings.gradient_accumulation_steps);
        let per_epoch = instances.div_ceil(per_step);
        let total = settings.max_steps.unwrap_or(per_epoch.saturating_mul(settings.epochs));
        let warmup = (total as f64 * settings.warmup_ratio) as usize;
        Self {
            instances,
            per_step,
            total,
            warmup,
            peak: settings.learning_rate,
            reference: settings.compat == Some(Compat::Su2020),
            eval_steps: settings.eval_steps,
        }
    }

    /// Optimizer steps in all.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Optimizer steps of one epoch; the last may see fewer instances.
    pub fn steps_per_epoch(&self) -> usize {
        self.instances.div_ceil(self.per_step)
    }

    /// The epoch of a step and its range in that epoch's order, all counted from 0.
    pub fn step(&self, step: usize) -> (usize, Range<usize>) {
        let (epoch, index) = (step / self.steps_per_epoch(), step % self.steps_per_epoch());
        let start = index * self.per_step;
        (epoch, start..(start + self.per_step).min(self.instances))
    }

    /// Whether held-out data is scored after `steps` steps: at the settings' interval or else at
    /// the end of each epoch, and always at the end.
    pub fn evaluates(&self, steps: usize) -> bool {
        steps.is_multiple_of(self.eval_steps.unwrap_or(self.steps_per_epoch())) || steps == self.total
    }

    /// The learning rate of a step counted from 0: rises from 0 over the W warm-up steps, then
    /// falls linearly towards 0, which it would reach at T, one step after the last.
    ///
    /// By default it falls from the peak, `peak (T - t) / (T - W)`, as transformers' linear
    /// schedule does. BERT's optimizer, which the paper's code uses, decays from the first step and
    /// only replaces the warm-up steps: `peak (1 - t / T)` after them, with a drop to `1 - W / T`
    /// of the peak.
    pub fn learning_rate(&self, step: usize) -> f64 {
        let falling = if self.reference { self.total } else { self.total - self.warmup };
        if step < self.warmup {
            self.peak * step as f64 / self.warmup as f64
        } else {
            self.peak * self.total.saturating_sub(step) as f64 / falling.max(1) as f64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> TrainingSettings {
        TrainingSettings { batch_size: 4, epochs: 2, warmup_ratio: 0.25, learning_rate: 1.0, ..Default::default() }
    }

    #[test]
    fn every_instance_once_an_epoch() {
        let schedule = Schedule::new(&settings(), 14);
        assert_eq!(schedule.total(), 8);
        for epoch in 0..2 {
            let mut seen = Vec::new();
            for step in 0..8 {
                let (e, range) = schedule.step(step);
                if e == epoch {
                    seen.extend(range);
                }
            }
            assert_eq!(seen, (0..14).collect::<Vec<_>>());
        }
    }

    #[test]
    fn rate_rises_and_falls() {
        let schedule = Schedule::new(&settings(), 14);
        let rates: Vec<f64> = (0..8).map(|step| schedule.learning_rate(step)).collect();
        let expected = [0.0, 1.0 / 2.0, 6.0 / 6.0, 5.0 / 6.0, 4.0 / 6.0, 3.0 / 6.0, 2.0 / 6.0, 1.0 / 6.0];
        for (rate, expected) in rates.iter().zip(expected) {
            assert!((rate - expected).abs() < 1e-12, "{rates:?}");
        }
    }

    #[test]
    fn the_papers_code_decays_from_the_first_step() {
        let settings = TrainingSettings { compat: Some(Compat::Su2020), ..settings() };
        let schedule = Schedule::new(&settings, 14);
        let rates: Vec<f64> = (0..8).map(|step| schedule.learning_rate(step)).collect();
        // t / W below W = 2, then 1 - t / T with T = 8.
        let expected = [0.0, 0.5, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125];
        for (rate, expected) in rates.iter().zip(expected) {
            assert!((rate - expected).abs() < 1e-12, "{rates:?}");
        }
    }

    #[test]
    fn max_steps_goes_past_or_stops_short_of_the_epochs() {
        for steps in [3, 20] {
            let schedule = Schedule::new(&TrainingSettings { max_steps: Some(steps), ..settings() }, 14);
            assert_eq!(schedule.total(), steps);
            assert_eq!(schedule.step(19).0, 4);
        }
    }
}
