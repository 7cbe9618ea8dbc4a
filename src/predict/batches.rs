//! The loop over batches that prediction, explanation and encoding share.

use std::cmp::Ordering;
use std::collections::VecDeque;

use crate::Result;
use crate::encode::{Batch, Features, MARKERS};
use crate::model::Network;
use crate::ops::{Ops, Pending};

/// The sizes of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// Word pieces in a batch.
    tokens: usize,
    /// Batches that are enqueued behind one before its results are awaited.
    ahead: usize,
}

impl Sizes {
    /// Those of an engine.
    pub fn of<O: Ops>(ops: &O) -> Self {
        Self { tokens: ops.inference_tokens(), ahead: ops.max_in_flight().min(1) }
    }

    /// Those of a run that keeps the activations of a batch for a backward: small, and one after
    /// another.
    pub const SMALL: Self = Self { tokens: 2048, ahead: 0 };
}

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
/// some instances, and `run` returns one result for each of them, in order; while it is pending, the
/// next batch is built and enqueued.
///
/// # Errors
/// Whatever `run` and `on_batch` return.
pub(crate) fn in_batches<T: Send + 'static>(
    features: &[Features],
    pack: Pack<'_>,
    sizes: Sizes,
    on_batch: OnBatch<'_>,
    mut run: impl FnMut(Batch) -> Result<Pending<Vec<T>>>,
) -> Result<Vec<T>> {
    let mut results: Vec<Option<T>> = features.iter().map(|_| None).collect();
    let total: usize = features.iter().map(pieces).sum();
    let mut done = 0;
    let mut finish = |(chunk, pending): (Vec<usize>, Pending<Vec<T>>)| {
        for (index, result) in chunk.iter().zip(pending.get()?) {
            results[*index] = Some(result);
        }
        done += chunk.iter().map(|index| pieces(&features[*index])).sum::<usize>();
        on_batch(done as f64 / total.max(1) as f64)
    };
    let mut waiting = VecDeque::new();
    for chunk in chunks_by_length(features, matches!(pack, Pack::Shared(_)), sizes.tokens) {
        let members = chunk.iter().map(|index| &features[*index]);
        let batch = match pack {
            Pack::Plain => Batch::pack(members),
            Pack::Shared(network) => network.pack(members),
            Pack::Apart(network) => network.pack_apart(members),
        };
        waiting.push_back((chunk, run(batch)?));
        if waiting.len() > sizes.ahead {
            waiting.pop_front().map_or(Ok(()), &mut finish)?;
        }
    }
    waiting.into_iter().try_for_each(finish)?;
    Ok(results.into_iter().flatten().collect())
}

/// The word pieces of an instance, with its markers.
fn pieces(features: &Features) -> usize {
    let groups = if features.marker_types.is_some() { 1 + features.further.len() } else { 0 };
    features.ids.len() + MARKERS * groups
}

/// Indices of all instances, shortest first, in chunks of at most `most` word pieces (at least one
/// instance). With `shared`, instances of one text are neighbours, and those that follow
/// the first count as their markers alone.
fn chunks_by_length(features: &[Features], shared: bool, most: usize) -> Vec<Vec<usize>> {
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
                    && tokens + markers <= most
                    && chunk.last().is_some_and(|last| ids(*last) == ids(index)) =>
            {
                chunk.push(index);
                tokens += markers;
            }
            Some(chunk) if tokens + whole <= most => {
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
        let first_ids = |batch: Batch| {
            assert!(batch.len() == 1 || batch.tokens() <= Sizes::SMALL.tokens);
            Ok(Pending::ready(batch.first_tokens().iter().map(|start| batch.ids[*start]).collect()))
        };
        let found = in_batches(&features, Pack::Plain, Sizes::SMALL, &mut on_batch, first_ids).unwrap();
        assert_eq!(found, [900, 3, 1500, 700, 3, 3000]);
        assert_eq!(progress, [1606.0 / 6106.0, 3106.0 / 6106.0, 1.0]);
    }

    #[test]
    fn the_next_batch_is_enqueued_before_the_results_of_one_are_awaited() {
        let features: Vec<Features> = [2000, 30, 1990, 40].map(of_length).into();
        for (tokens, ahead, expected) in [
            (2048, 0, "run 70 get 70 run 1990 get 1990 run 2000 get 2000"),
            (2048, 1, "run 70 run 1990 get 70 run 2000 get 1990 get 2000"),
            (5000, 1, "run 4060 get 4060"),
        ] {
            let events = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
            let run = |batch: Batch| {
                let (events, tokens) = (events.clone(), batch.tokens());
                events.lock().unwrap().push(format!("run {tokens}"));
                let lengths = batch.cu_seqlens.windows(2).map(|bounds| bounds[1] - bounds[0]).collect();
                Ok(Pending::new(move || {
                    events.lock().unwrap().push(format!("get {tokens}"));
                    Ok(lengths)
                }))
            };
            let sizes = Sizes { tokens, ahead };
            let lengths: Vec<usize> = in_batches(&features, Pack::Plain, sizes, &mut |_| Ok(()), run).unwrap();
            assert_eq!(lengths, [2000, 30, 1990, 40]);
            assert_eq!(events.lock().unwrap().join(" "), expected);
        }
    }

    #[test]
    fn an_error_of_the_progress_stops_the_run() {
        let features: Vec<Features> = [2000, 2000, 2000].map(of_length).into();
        for ahead in [0, 1] {
            let mut batches = 0;
            let mut on_batch = |done| if done > 0.5 { Err(Error::Interrupted) } else { Ok(()) };
            let run = |batch: Batch| {
                batches += 1;
                Ok(Pending::ready(vec![(); batch.len()]))
            };
            let sizes = Sizes { ahead, ..Sizes::SMALL };
            let stopped = in_batches(&features, Pack::Plain, sizes, &mut on_batch, run);
            assert!(matches!(stopped, Err(Error::Interrupted)));
            assert_eq!(batches, 2 + ahead);
        }
    }
}
