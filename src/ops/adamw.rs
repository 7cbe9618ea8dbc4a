//! The arithmetic of one AdamW step, shared by the engines.

/// The scalars of an AdamW step of one parameter.
///
/// With g the gradient times `clip`: `m <- b1 m + (1 - b1) g`, `v <- b2 v + (1 - b2) g²`,
/// `w <- w - lr (c1 m / (sqrt(c2 v) + eps) + decay w)`, where `c1 = 1 / (1 - b1^t)` and
/// `c2 = 1 / (1 - b2^t)` with bias correction and 1 without (BERT's optimizer).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWStep {
    /// Learning rate of this step and parameter.
    pub learning_rate: f64,
    /// Decoupled weight decay; 0 for biases and LayerNorm parameters.
    pub decay: f64,
    /// Decay rates of the moments.
    pub betas: [f64; 2],
    /// Added to the denominator.
    pub epsilon: f64,
    /// The clipping factor, which multiplies the gradient.
    pub clip: f64,
    /// `c1` and `c2` above.
    pub corrections: [f64; 2],
}

impl AdamWStep {
    /// `1 - b1` and `1 - b2`: subtracted in f64 and then rounded, as PyTorch and BERT's optimizer
    /// have it. In f32 `1 - 0.999` is 1.3e-5 too small.
    pub fn complements(&self) -> [f32; 2] {
        self.betas.map(|b| (1.0 - b) as f32)
    }

    /// Update one element in f32: the new (w, m, v).
    #[inline(always)]
    pub fn apply(&self, w: f32, m: f32, v: f32, gradient: f32) -> (f32, f32, f32) {
        let [b1, b2] = self.betas.map(|b| b as f32);
        let [rest1, rest2] = self.complements();
        let [c1, c2] = self.corrections.map(|c| c as f32);
        let g = gradient * self.clip as f32;
        let m = b1 * m + rest1 * g;
        let v = b2 * v + rest2 * g * g;
        let update = c1 * m / ((c2 * v).sqrt() + self.epsilon as f32) + self.decay as f32 * w;
        (w - self.learning_rate as f32 * update, m, v)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PyTorch and BERT's optimizer subtract in f64: 0.001 and not `1f32 - 0.999f32`, which is
    /// 0.00099998713.
    #[test]
    fn complements_are_those_of_f64() {
        let betas = [0.9, 0.999];
        let step =
            AdamWStep { learning_rate: 1.0, decay: 0.0, betas, epsilon: 0.0, clip: 1.0, corrections: [1.0, 1.0] };
        assert_eq!(step.complements(), [0.1, 0.001]);
        let (_, m, v) = step.apply(0.0, 0.0, 0.0, 1.0);
        assert_eq!((m, v), (0.1, 0.001));
    }
}
