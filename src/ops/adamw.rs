//! The arithmetic of one AdamW step, shared by the engines.

/// Everything that one AdamW step of one parameter needs besides its state and gradient.
///
/// With g the gradient times `clip`:
/// `m <- b1 m + (1 - b1) g`, `v <- b2 v + (1 - b2) g²`,
/// `w <- w - lr (c1 m / (sqrt(c2 v) + eps) + decay w)`,
/// where `c1 = 1 / (1 - b1^t)` and `c2 = 1 / (1 - b2^t)` with bias correction and 1 without (BERT's optimizer).
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
    /// What the gradient is multiplied by: the clipping factor.
    pub clip: f64,
    /// `c1` and `c2` above.
    pub corrections: [f64; 2],
}

impl AdamWStep {
    /// Update one element in f32: the new (w, m, v).
    #[inline(always)]
    pub fn apply(&self, w: f32, m: f32, v: f32, gradient: f32) -> (f32, f32, f32) {
        let [b1, b2] = self.betas.map(|b| b as f32);
        let [c1, c2] = self.corrections.map(|c| c as f32);
        let g = gradient * self.clip as f32;
        let m = b1 * m + (1.0 - b1) * g;
        let v = b2 * v + (1.0 - b2) * g * g;
        let update = c1 * m / ((c2 * v).sqrt() + self.epsilon as f32) + self.decay as f32 * w;
        (w - self.learning_rate as f32 * update, m, v)
    }
}
