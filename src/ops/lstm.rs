//! The LSTM recurrence: its specification, and the order in which engines read sequences of
//! different lengths.
//!
//! The gates are in PyTorch's order i, f, g, o, with one bias: `z_t = W_ih x_t + b + W_hh h_{t-1}`,
//! `c_t = σ(f) c_{t-1} + σ(i) tanh(g)`, `h_t = σ(o) tanh(c_t)`.

use std::ops::Range;

use candle_core::Tensor;

use crate::Result;

/// [`Ops::lstm`](super::Ops::lstm) by candle operations, one position after the other: the
/// specification that engines are tested against, and whose gradient is candle's autograd.
///
/// # Errors
/// When a tensor operation fails.
pub fn lstm_reference(inputs: &Tensor, recurrent: &Tensor, sequences: &[Range<usize>]) -> Result<Tensor> {
    let hidden = recurrent.dim(1)?;
    let mut states = Vec::new();
    for rows in sequences {
        let mut h = Tensor::zeros((1, hidden), inputs.dtype(), inputs.device())?;
        let mut c = h.clone();
        for t in rows.clone() {
            let z = (inputs.narrow(0, t, 1)? + h.matmul(&recurrent.t()?)?)?; // (1, 4H)
            let gate = |i: usize| z.narrow(1, i * hidden, hidden);
            let sigmoid = |x: Tensor| (x.neg()?.exp()? + 1.0)?.recip();
            c = ((sigmoid(gate(1)?)? * c)? + (sigmoid(gate(0)?)? * gate(2)?.tanh()?)?)?;
            h = (sigmoid(gate(3)?)? * c.tanh()?)?;
        }
        states.push(h);
    }
    Ok(Tensor::cat(&states, 0)?)
}

/// Rows in step order: sequences are sorted by length, longest first, and stored step by step, so
/// that the `n_t` sequences that still run at step t are contiguous rows, the first `n_t` of those
/// of step t - 1.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    /// For each sequence, longest first, its index in the caller's order.
    pub sequences: Vec<usize>,
    /// For each row in step order, its row in the caller's order.
    pub rows: Vec<usize>,
    /// Where each step starts in step order, and the number of rows at the end.
    steps: Vec<usize>,
}

impl Schedule {
    pub fn new(sequences: &[Range<usize>]) -> Self {
        let mut order: Vec<usize> = (0..sequences.len()).collect();
        order.sort_by_key(|i| std::cmp::Reverse(sequences[*i].len()));
        let (mut rows, mut steps) = (Vec::new(), vec![0]);
        for t in 0..order.first().map_or(0, |longest| sequences[*longest].len()) {
            rows.extend(
                order.iter().map(|i| &sequences[*i]).take_while(|rows| rows.len() > t).map(|rows| rows.start + t),
            );
            steps.push(rows.len());
        }
        Self { sequences: order, rows, steps }
    }

    /// Number of steps.
    pub fn len(&self) -> usize {
        self.steps.len() - 1
    }

    /// The rows of step `t`; none beyond the last step.
    pub fn step(&self, t: usize) -> Range<usize> {
        let bound = |t: usize| self.steps[t.min(self.len())];
        bound(t)..bound(t + 1)
    }

    /// The rows of the same sequences at the step before.
    pub fn before(&self, t: usize) -> Option<Range<usize>> {
        let before = self.step(t.checked_sub(1)?).start;
        Some(before..before + self.step(t).len())
    }

    /// Number of sequences at the first step, at which no sequence has ended.
    pub fn widest(&self) -> usize {
        self.step(0).len()
    }

    /// For each of the caller's `rows` rows, its row in step order, if a sequence reads it.
    pub fn places(&self, rows: usize) -> Vec<Option<usize>> {
        let mut places = vec![None; rows];
        self.rows.iter().enumerate().for_each(|(place, row)| places[*row] = Some(place));
        places
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::single_range_in_vec_init)] // one sequence, not the elements of a range

    use super::*;

    #[test]
    fn longest_first_step_by_step() {
        let order = Schedule::new(&[1..3, 4..4, 5..9, 10..12]);
        assert_eq!(order.sequences, [2, 0, 3, 1]);
        assert_eq!(order.rows, [5, 1, 10, 6, 2, 11, 7, 8]);
        assert_eq!((0..order.len()).map(|t| order.step(t)).collect::<Vec<_>>(), [0..3, 3..6, 6..7, 7..8]);
        assert_eq!((0..4).map(|t| order.before(t)).collect::<Vec<_>>(), [None, Some(0..3), Some(3..4), Some(6..7)]);
        assert_eq!((order.widest(), order.step(4)), (3, 8..8));
        let places = [None, Some(1), Some(4), None, None, Some(0), Some(3), Some(6), Some(7), None, Some(2), Some(5)];
        assert_eq!(order.places(12), places);
        assert_eq!((Schedule::new(&[]).len(), Schedule::new(&[3..3]).widest()), (0, 0));
    }
}
