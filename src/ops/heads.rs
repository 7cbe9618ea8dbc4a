//! Arguments and results of the operations that heads are trained with.

use super::loss::Loss;
use super::shapes::{expect, expect_inside, internal_error};
use crate::Result;
use crate::rng::Dropout;

/// Groups of rows of an array. The means of `parts` groups, side by side, are a row of the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowGroups {
    /// Groups of a row of the result.
    pub parts: usize,
    /// The rows of all groups, one group after the other. Those of one part are distinct.
    pub rows: Vec<usize>,
    /// Where each group starts among them, and their number, `(groups + 1)`. None is empty.
    pub starts: Vec<usize>,
}

impl RowGroups {
    /// Groups of one row each, which are all parts of a row of the result.
    pub fn of_rows(rows: Vec<usize>) -> Self {
        Self { parts: 1, starts: (0..=rows.len()).collect(), rows }
    }

    /// Number of groups.
    pub fn len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Refuse groups that are empty, that do not fill their rows, or that have rows outside of an array's.
    pub(super) fn expect(&self, rows: usize) -> Result<()> {
        let ordered = self.starts.windows(2).all(|bounds| bounds[0] < bounds[1]);
        let covers = self.starts.first() == Some(&0) && self.starts.last() == Some(&self.rows.len());
        if !ordered || !covers || self.parts == 0 || !self.len().is_multiple_of(self.parts) {
            return Err(internal_error(format!("{self:?} are no groups")));
        }
        expect_inside("row", self.rows.iter().copied(), rows)
    }

    /// Whether each group is one row.
    pub(super) fn are_rows(&self) -> bool {
        self.rows.len() == self.len()
    }
}

/// What the scores of words are computed from; see [`Ops::pool_words`](super::Ops::pool_words).
#[derive(Debug)]
pub enum WordScores<'a, B> {
    /// `key . h_i`, with a vector `(1, H)` (paper, equation 4).
    Key(&'a B),
    /// `score . tanh(keys_i + query e_p)`.
    Pairs {
        /// `(T, H)`.
        keys: &'a B,
        /// The vectors e of the pairs' entities, `(n, 2H)`.
        entities: &'a B,
        /// `(H, 2H)`.
        query: &'a B,
        /// `(1, H)`.
        score: &'a B,
    },
}

/// Gradients of [`WordScores`], each of the shape of its argument.
#[derive(Debug)]
pub enum WordScoreGradients<B> {
    /// Of [`WordScores::Key`].
    Key(B),
    /// Of [`WordScores::Pairs`].
    Pairs {
        /// Of the keys.
        keys: B,
        /// Of a bias that all keys have, `(H)`: the sum of theirs.
        bias: B,
        /// Of the entities.
        entities: B,
        /// Of the query.
        query: B,
        /// Of the score.
        score: B,
    },
}

/// A linear layer over the vectors of instances, after dropout; see [`Ops::classify`](super::Ops::classify).
#[derive(Debug)]
pub struct Classifier<'a, B> {
    /// What is side by side in the vectors, each `(n, width)`: one array or two.
    pub parts: &'a [&'a B],
    /// `(labels, sum of the widths)`.
    pub weight: &'a B,
    /// `(labels)`.
    pub bias: &'a B,
    /// Of the vectors.
    pub dropout: Option<&'a Dropout>,
}

/// The labels of instances.
#[derive(Debug, Clone, Copy)]
pub struct Targets<'a> {
    /// `(n)`.
    pub labels: &'a [u32],
    /// Sizes of the groups of labels, one after the other: the loss of an instance is over the labels
    /// of its group.
    pub groups: &'a [usize],
    /// The loss.
    pub loss: &'a Loss<'a>,
}

/// The loss of [`Ops::classify`](super::Ops::classify), and gradients of its arguments.
#[derive(Debug)]
pub struct Classified<B> {
    /// `(1)`.
    pub loss: B,
    /// Of the parts, in order.
    pub parts: Vec<B>,
    /// Of the weight.
    pub weight: B,
    /// Of the bias.
    pub bias: B,
}

impl Targets<'_> {
    /// The first label of each instance's group, and the one behind its last.
    pub(super) fn ranges(&self, labels: usize) -> Result<Vec<[u32; 2]>> {
        expect("the groups of labels", &[self.groups.iter().sum()], &[labels])?;
        let mut first = 0;
        let mut of_label = Vec::with_capacity(labels);
        for size in self.groups {
            of_label.extend(std::iter::repeat_n([first, first + *size as u32], *size));
            first += *size as u32;
        }
        let range = |label: &u32| of_label.get(*label as usize).copied();
        let ranges: Option<Vec<_>> = self.labels.iter().map(range).collect();
        ranges.ok_or_else(|| internal_error(format!("labels {:?} are outside of 0..{labels}", self.labels)))
    }
}
