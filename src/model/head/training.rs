//! A step of training of the heads that the engine computes with its own operations: the vectors
//! that a head reads, attention over words, the classifier with its loss, and their backward.

use std::ops::Range;

use super::{LastRows, expect_words};
use crate::Result;
use crate::encode::Batch;
use crate::model::encoder::{EncoderGradient, EncoderOutput, OutputSpec};
use crate::ops::{Classified, Classifier, Ops, RowGroups, StepList, Targets, WordScoreGradients, WordScores};
use crate::rng::Dropout;

/// The loss of a batch, `(1)`, and the gradients of a head's input and its parameters, in order.
pub struct HeadGradient<B> {
    /// The loss.
    pub loss: B,
    /// Of the encoder's output.
    pub encoded: EncoderGradient<B>,
    /// Of the parameters.
    pub weights: Vec<B>,
}

/// What a head reads of a batch.
pub struct Reading {
    reads: OutputSpec,
    /// The rows whose means are its vectors; `None` for a head without, and where the last layer is exactly these rows.
    groups: Option<RowGroups>,
    /// Number of rows of the last layer.
    rows: usize,
    words: Vec<Range<usize>>,
}

impl Reading {
    /// What a head that reads `reads` reads of `batch`.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) when a sentence has nothing between `[CLS]` and `[SEP]`.
    pub fn new(reads: OutputSpec, batch: &Batch) -> Result<Self> {
        let words: Vec<Range<usize>> = batch.instances.iter().map(|of| of.words.clone()).collect();
        expect_words(&words)?;
        let rows = LastRows::new(reads, batch);
        Ok(Self { reads, groups: groups(reads, batch, &rows), rows: rows.len(), words })
    }

    /// The lists of [`gradient`], for [`Ops::prepare`].
    pub fn step_lists<'a>(&'a self, targets: &'a Targets<'a>, labels: usize) -> Vec<StepList<'a>> {
        let mut lists = vec![StepList::Targets(targets, labels)];
        lists.extend(self.groups.as_ref().map(|groups| StepList::MeanRows(groups, self.rows)));
        if self.reads.tokens {
            let (words, pairs) = (&self.words, self.reads.projection.is_some());
            lists.push(StepList::Words { words, tokens: self.rows, pairs });
        }
        lists
    }
}

/// The loss and the gradients of a head with the parameters `own`.
///
/// # Errors
/// Errors of the engine.
pub fn gradient<O: Ops>(
    ops: &O,
    reading: &Reading,
    own: &[O::Buffer],
    encoded: &EncoderOutput<O::Buffer>,
    dropout: Option<&Dropout>,
    targets: &Targets<'_>,
) -> Result<HeadGradient<O::Buffer>> {
    let Reading { reads, groups, rows, words } = reading;
    let last = &encoded.last;
    let vectors = match groups {
        Some(groups) => Some(ops.mean_rows(last, groups)?), // (n, H) or (n, 2H)
        None => (!reads.tokens).then(|| last.clone()),      // (n, H)
    };
    let keys = reads.projection.map(|_| ops.linear(last, &own[0], Some(&own[1]))).transpose()?; // (T, H)
    let scores = match (&keys, &vectors) {
        (Some(keys), Some(entities)) => WordScores::Pairs { keys, entities, query: &own[2], score: &own[3] },
        _ => WordScores::Key(&own[0]),
    };
    let pooled = reads.tokens.then(|| ops.pool_words(last, &scores, words)).transpose()?; // (n, H)
    let parts: Vec<_> = vectors.iter().chain(pooled.as_ref().map(|(summaries, _)| summaries)).collect();
    let [weight, bias] = [&own[own.len() - 2], &own[own.len() - 1]];
    let Classified { loss, mut parts, weight, bias } =
        ops.classify(&Classifier { parts: &parts, weight, bias, dropout }, targets)?;

    let mut d_vectors = vectors.is_some().then(|| parts.remove(0));
    let (mut d_last, mut d_keys, mut weights) = (None, None, Vec::new());
    if let (Some((_, pooled)), Some(dy)) = (pooled, parts.pop()) {
        let onto = if keys.is_some() { d_vectors.take() } else { None };
        let (d_words, d_scores) = ops.pool_words_backward(pooled, &dy, onto)?;
        d_last = Some(d_words);
        match d_scores {
            WordScoreGradients::Key(key) => weights.push(key),
            WordScoreGradients::Pairs { keys, bias, entities, query, score } => {
                (d_keys, d_vectors) = (Some(keys), Some(entities));
                weights = vec![bias, query, score];
            }
        }
    }
    let mut d_last = match (groups, d_vectors, d_last) {
        (Some(groups), Some(dy), onto) => ops.mean_rows_backward(&dy, groups, *rows, onto)?,
        (None, Some(dy), None) | (_, None, Some(dy)) => dy,
        _ => unreachable!("a head reads rows of the last layer, or words, or both"),
    };
    if let Some(d_keys) = d_keys {
        let matrix;
        (d_last, matrix) = ops.linear_backward(last, &own[0], &d_keys, Some(d_last))?;
        weights.insert(0, matrix);
    }
    weights.extend([weight, bias]);
    Ok(HeadGradient { loss, encoded: EncoderGradient { last: d_last, cls: Vec::new() }, weights })
}

/// The rows of the last layer whose means are a head's vectors: `[CLS]`, or the two entities, each with
/// the tokens of all pairs of mentions. See [`Reading::groups`].
fn groups(reads: OutputSpec, batch: &Batch, rows: &LastRows) -> Option<RowGroups> {
    if reads.cls {
        let first = batch.first_tokens();
        return (!rows.are(first)).then(|| RowGroups::of_rows(rows.of(first)));
    }
    if !reads.entities {
        return None;
    }
    let mut groups = RowGroups { parts: 2, rows: Vec::new(), starts: vec![0] };
    for instance in &batch.instances {
        for argument in 0..2 {
            groups.rows.extend(instance.entities.iter().map(|tokens| tokens[argument]));
            groups.starts.push(groups.rows.len());
        }
    }
    groups.rows = rows.of(&groups.rows);
    Some(groups)
}
