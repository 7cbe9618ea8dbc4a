//! Scores over the folds of a cross-validation, in both of the literature's forms: the mean of the
//! folds' scores (the paper's AIMed figures) and the scores of all folds' decisions together.

use super::metrics::{Confusion, Prf, Scores};
use crate::Result;
use crate::corpus::Averaging;

/// The folds' scores, and what they come to.
#[derive(Debug, Clone, PartialEq)]
pub struct FoldScores {
    /// One for each fold, in order.
    pub folds: Vec<Scores>,
    /// Of the sum of the folds' confusion matrices.
    pub pooled: Scores,
}

/// Mean and standard deviation over folds or seeds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Arithmetic mean.
    pub mean: f64,
    /// Sample standard deviation (divisor n - 1); `None` for a single value.
    pub sd: Option<f64>,
}

impl Spread {
    /// Of some values; `None` if there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len() as f64;
        if values.is_empty() {
            return None;
        }
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Some(Self { mean, sd: (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt()) })
    }
}

impl FoldScores {
    /// From one confusion matrix per fold, at least one.
    pub fn of(folds: &[Confusion]) -> Result<Self> {
        let Some((first, rest)) = folds.split_first() else {
            return Err(crate::Error::config("folds", "there is no fold to score"));
        };
        let mut pooled = first.clone();
        for fold in rest {
            pooled.pool(fold)?;
        }
        Ok(Self { folds: folds.iter().map(Confusion::scores).collect(), pooled: pooled.scores() })
    }

    /// Precision, recall and F1 over the folds: each the mean of the folds' values, so the mean F1
    /// is not the F1 of the mean precision and recall. `None` where the averaging does not apply.
    pub fn spread(&self, averaging: Averaging) -> Option<[Spread; 3]> {
        let scores: Vec<Prf> = self.folds.iter().map(|fold| fold.by(averaging)).collect::<Option<_>>()?;
        let over = |score: fn(&Prf) -> f64| Spread::of(&scores.iter().map(score).collect::<Vec<_>>());
        Some([over(|prf| prf.precision)?, over(|prf| prf.recall)?, over(|prf| prf.f1)?])
    }
}
