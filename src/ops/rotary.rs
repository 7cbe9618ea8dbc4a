//! Rotary position embedding (Su et al. 2021): what it needs beside the queries and keys.

use super::shapes::internal_error;
use crate::Result;

/// For each head of D columns, at position p, with the angles `a_i = p / theta^(2i / D)`, columns i and
/// i + D/2 become
///
/// ```text
/// x_i         cos a_i  -  x_{i + D/2} sin a_i
/// x_{i + D/2} cos a_i  +  x_i         sin a_i
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Rotation<'a> {
    /// The position of each token, `(T)`.
    pub positions: &'a [u32],
    /// N.
    pub heads: usize,
    /// The base of the angles.
    pub theta: f64,
    /// Whether to rotate by the opposite angles.
    pub back: bool,
}

impl Rotation<'_> {
    /// D of queries, keys and values of this shape.
    ///
    /// # Errors
    /// When they have no such heads, or not as many tokens.
    pub(super) fn head_size(&self, shape: &[usize]) -> Result<usize> {
        match (shape, 6 * self.heads) {
            ([tokens, width], pairs @ 1..) if *tokens == self.positions.len() && width.is_multiple_of(pairs) => {
                Ok(2 * (width / pairs))
            }
            _ => {
                let (heads, tokens) = (self.heads, self.positions.len());
                Err(internal_error(format!("no {heads} heads of even size for {tokens} tokens in the shape {shape:?}")))
            }
        }
    }

    /// Cosines and sines of positions 0, 1, ... up to the largest, each `(positions, D/2)`. In f32, as
    /// transformers computes the angles whatever the precision: models are trained with their rounding.
    pub(super) fn table(&self, size: usize) -> [Vec<f32>; 2] {
        let half = size / 2;
        let inverse: Vec<f32> =
            (0..half).map(|i| 1.0 / (self.theta as f32).powf((2 * i) as f32 / size as f32)).collect();
        let rows = self.positions.iter().max().map_or(0, |last| last + 1);
        let angles = (0..rows).flat_map(|position| inverse.iter().map(move |inverse| position as f32 * inverse));
        let sign = if self.back { -1.0 } else { 1.0 };
        let (cos, sin) = angles.map(|angle| (angle.cos(), sign * angle.sin())).unzip();
        [cos, sin]
    }
}
