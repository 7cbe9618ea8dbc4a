//! The loop over batches that prediction, explanation and encoding share.

use std::cmp::Ordering;

use crate::Result;
use crate::encode::{Batch, Features, MARKERS};
use crate::model::Network;

/// Word pieces in one batch of inference: enough to keep all cores busy, few enough to stay in the
/// cache.
const BATCH_TOKENS: usize = 2048;

/// Called after every batch with the finished share of the work, from 0 to 1; an error stops the
/// run. It is a share of word pieces: the instances that come first are the shortest.
pub type OnBatch<'a> = &'a mut (dyn FnMut(f64) -> Result<()> + Send);

/// How instances are packed into batches.
#[derive(Clone, Copy)]
pub(crate) enum Pack<'a> {
    /// Their word pieces alone.
    Plain,
    /// As the network reads them.
    Shared(&'a Network),
    /// As the network reads them, with a sentence of its own for each.
    Apart(&'a Network),
}

/// Run all instances in batches, and return one result for each, in the order of `features`.
///
/// Instances of similar length share a batch, so that no engine waits for one long sentence, and
/// instances with levitated markers in the same text are neighbours. `pack` builds the batch of
/// some instances, and `run` returns one result for each of them, in order.
///
/// # Errors
/// Whatever `run` and `on_batch` return.
pub(crate) fn in_batches<T>(
    features: &[Features],
    pack: Pack<'_>,
    on_batch: OnBatch<'_>,
    mut run: impl FnMut(&Batch) -> Result<Vec<T>>,
) -> Result<Vec<T>> {
    let mut results: Vec<Option<T>> = features.iter().map(|_| None).collect();
    let total: usize = features.iter().map(pieces).sum();
    let mut done = 0;
    for chunk in chunks_by_length(features, matches!(pack, Pack::Shared(_))) {
        let members = chunk.iter().map(|index| &features[*index]);
        let batch = match pack {
            Pack::Plain => Batch::pack(members),
            Pack::Shared(network) => network.pack(members),
            Pack::Apart(network) => network.pack_apart(members),
        };
        for (index, result) in chunk.iter().zip(run(&batch)?) {
            results[*index] = Some(result);
        }
        done += chunk.iter().map(|index| pieces(&features[*index])).sum::<usize>();
        on_batch(done as f64 / total.max(1) as f64)?;
    }
    Ok(results.into_iter().flatten().collect())
}

/// The word pieces of an instance, with its markers.
fn pieces(features: &Features) -> usize {
    let groups = if features.marker_types.is_some() { 1 + features.further.len() } else { 0 };
    features.ids.len() + MARKERS * groups
}

/// Indices of all instances, shortest first, in chunks of at most [`BATCH_TOKENS`] word pieces (at
/// least one instance). With `shared`, instances of one text are neighbours, and those that follow
/// the first count as their markers alone.
fn chunks_by_length(features: &[Features], shared: bool) -> Vec<Vec<usize>> {
    let ids = |index: usize| &features[index].ids;
    let levitated = |index: usize| shared && features[index].marker_types.is_some();
    let mut order: Vec<usize> = (0..features.len()).collect();
    order.sort_by(|&a, &b| {
        let by_text = || if levitated(a) && levitated(b) { ids(a).cmp(ids(b)) } else { Ordering::Equal };
        ids(a).len().cmp(&ids(b).len()).then_with(by_text)
    });
    let mut chunks: Vec<Vec<usize>> = Vec::new();
    let mut tokens = 0;
    for index in order {
        let whole = pieces(&features[index]);
        let markers = whole - ids(index).len();
        match chunks.last_mut() {
            Some(chunk)
                if levitated(index)
                    && tokens + markers <= BATCH_TOKENS
                    && chunk.last().is_some_and(|last| ids(*last) == ids(index)) =>
            {
                chunk.push(index);
                tokens += markers;
            }
            Some(chunk) if tokens + whole <= BATCH_TOKENS => {
                chunk.push(index);
                tokens += whole;
            }
            _ => {
                chunks.push(vec![index]);
                tokens = whole;
            }
        }
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use crate::corpus::Span;

    fn of_length(length: usize) -> Features {
        let nowhere = Span::new(0, 0);
        Features {
            ids: vec![length as u32; length],
            spans: vec![nowhere; length],
            words: vec![None; length],
            entities: [nowhere; 2],
            further: vec![],
            marker_types: None,
            cut: 0,
            label: None,
        }
    }

    #[test]
    fn results_come_in_the_order_of_the_instances() {
        let features: Vec<Features> = [900, 3, 1500, 700, 3, 3000].map(of_length).into();
        let mut progress = Vec::new();
        let mut on_batch = |done| {
            progress.push(done);
            Ok(())
        };
        let first_ids = |batch: &Batch| {
            assert!(batch.len() == 1 || batch.tokens() <= BATCH_TOKENS);
            Ok(batch.first_tokens().iter().map(|start| batch.ids[*start]).collect())
        };
        let found = in_batches(&features, Pack::Plain, &mut on_batch, first_ids).unwrap();
        assert_eq!(found, [900, 3, 1500, 700, 3, 3000]);
        assert_eq!(progress, [1606.0 / 6106.0, 3106.0 / 6106.0, 1.0]);
    }

    #[test]
    fn an_error_of_the_progress_stops_the_run() {
        let features: Vec<Features> = [2000, 2000, 2000].map(of_length).into();
        let mut batches = 0;
        let mut on_batch = |done| if done > 0.5 { Err(Error::Interrupted) } else { Ok(()) };
        let run = |batch: &Batch| {
            batches += 1;
            Ok(vec![(); batch.len()])
        };
        assert!(matches!(in_batches(&features, Pack::Plain, &mut on_batch, run), Err(Error::Interrupted)));
        assert_eq!(batches, 2);
    }
}
