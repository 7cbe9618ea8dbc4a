//! The cross-entropy loss of training, and its gradient in closed form.

use super::shapes::{expect, expect_inside, internal_error, matrix};
use crate::Result;

/// How the cross-entropy of an instance is weighted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loss<'a> {
    /// Weight of each label; `None` for 1.
    pub weights: Option<&'a [f64]>,
    /// Focal loss (Lin et al. 2017): the cross-entropy of an instance whose label has probability p
    /// counts `(1 - p)^gamma`.
    pub focal_gamma: f64,
    /// The divisor of the sum over the batch: the sum of the weights of all instances of the step.
    pub total: f64,
}

impl<'a> Loss<'a> {
    /// The plain mean over `count` instances.
    pub fn mean(count: usize) -> Loss<'a> {
        Loss { weights: None, focal_gamma: 0.0, total: count as f64 }
    }

    /// Weight of a label.
    pub(super) fn weight(&self, label: u32) -> f64 {
        self.weights.map_or(1.0, |weights| weights[label as usize])
    }

    /// Refuse labels or weights that do not fit logits of this shape; its rows and columns.
    pub(super) fn expect(&self, shape: &[usize], labels: &[u32]) -> Result<(usize, usize)> {
        let (rows, classes) = matrix(shape)?;
        expect("the labels", &[labels.len()], &[rows])?;
        expect_inside("label", labels.iter().map(|label| *label as usize), classes)?;
        match self.weights {
            Some(weights) if weights.len() != classes => {
                Err(internal_error(format!("{} weights for {classes} labels", weights.len())))
            }
            _ => Ok((rows, classes)),
        }
    }

    /// The loss of a row of logits and its gradient, in f64.
    ///
    /// With p the softmax of the row, y its label and l = -log p_y:
    /// `loss = w (1 - p_y)^gamma l / total` and `dlogits_j = w (p_j - [j = y]) ((1 - p_y)^gamma +
    /// gamma p_y (1 - p_y)^(gamma - 1) l) / total`.
    pub(super) fn of_row(&self, row: &[f32], label: u32, gradient: &mut [f32]) -> f64 {
        let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let shifted = |x: f32| f64::from(x) - f64::from(top);
        let sum: f64 = row.iter().map(|x| shifted(*x).exp()).sum();
        let y = label as usize;
        let surprise = sum.ln() - shifted(row[y]);
        let (p, rest) = ((-surprise).exp(), -(-surprise).exp_m1()); // p_y and 1 - p_y
        let (counts, slope) = match self.focal_gamma {
            gamma if gamma > 0.0 && rest > 0.0 => {
                let counts = rest.powf(gamma);
                (counts, counts + gamma * p * counts / rest * surprise)
            }
            gamma if gamma > 0.0 => (0.0, 0.0),
            _ => (1.0, 1.0),
        };
        let scale = self.weight(label) / self.total;
        for (j, (gradient, x)) in gradient.iter_mut().zip(row).enumerate() {
            let at = f64::from(u8::from(j == y));
            *gradient = (scale * slope * (shifted(*x).exp() / sum - at)) as f32;
        }
        scale * counts * surprise
    }
}
