//! Undersampling of negatives: relation corpora have four to six times as many pairs without a
//! relation as with one.

use std::collections::HashSet;

use crate::encode::Instance;
use crate::rng::{Purpose, Stream};
use crate::{Error, Result};

/// All positives, and `per_positive` negatives for each, drawn without replacement. The order is
/// kept. If there are fewer negatives than that, all are kept.
///
/// # Errors
/// [`Error::Config`] for a task without a negative label.
pub fn fewer_negatives(
    instances: &[Instance],
    negative: Option<usize>,
    per_positive: f64,
    seed: u64,
) -> Result<Vec<Instance>> {
    let Some(negative) = negative else {
        return Err(Error::config("negative_ratio", "the task has no negative label"));
    };
    let is_negative = |index: &usize| instances[*index].label == Some(negative);
    let (mut negatives, positives): (Vec<usize>, Vec<usize>) = (0..instances.len()).partition(is_negative);
    let wanted = (positives.len() as f64 * per_positive).round() as usize;
    Stream::new(seed, Purpose::Sample, 1).shuffle(&mut negatives);
    let left_out: HashSet<usize> = negatives.into_iter().skip(wanted).collect();
    Ok((0..instances.len()).filter(|index| !left_out.contains(index)).map(|index| instances[index].clone()).collect())
}
