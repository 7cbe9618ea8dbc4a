//! The loop over batches that prediction, explanation and encoding share.

use crate::Result;
use crate::encode::{Batch, Features};

/// Word pieces in one batch of inference: enough to keep all cores busy, few enough to stay in the
/// cache.
const BATCH_TOKENS: usize = 2048;

/// Called after every batch with the number of finished instances; an error stops the run.
pub type OnBatch<'a> = &'a mut (dyn FnMut(usize) -> Result<()> + Send);

/// Run all instances in batches, and return one result for each, in the order of `features`.
///
/// Instances of similar length share a batch, so that no engine waits for one long sentence. `pack`
/// builds the batch of some instances, and `run` returns one result for each of them, in order.
///
/// # Errors
/// Whatever `run` and `on_batch` return.
pub(crate) fn in_batches<T>(
    features: &[Features],
    pack: impl Fn(&[&Features]) -> Batch,
    on_batch: OnBatch<'_>,
    mut run: impl FnMut(&Batch) -> Result<Vec<T>>,
) -> Result<Vec<T>> {
    let mut results: Vec<Option<T>> = features.iter().map(|_| None).collect();
    let mut done = 0;
    for chunk in chunks_by_length(features) {
        let members: Vec<&Features> = chunk.iter().map(|index| &features[*index]).collect();
        for (index, result) in chunk.iter().zip(run(&pack(&members))?) {
            results[*index] = Some(result);
        }
        done += chunk.len();
        on_batch(done)?;
    }
    Ok(results.into_iter().flatten().collect())
}

/// Indices of all instances, shortest first, in chunks of at most [`BATCH_TOKENS`] word pieces (at
/// least one instance).
fn chunks_by_length(features: &[Features]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..features.len()).collect();
    order.sort_by_key(|i| features[*i].ids.len());
    let mut chunks: Vec<Vec<usize>> = Vec::new();
    let mut tokens = 0;
    for index in order {
        let length = features[index].ids.len();
        match chunks.last_mut() {
            Some(chunk) if tokens + length <= BATCH_TOKENS => {
                chunk.push(index);
                tokens += length;
            }
            _ => {
                chunks.push(vec![index]);
                tokens = length;
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
            cut: 0,
            label: None,
        }
    }

    fn pack(members: &[&Features]) -> Batch {
        Batch::pack(members.iter().copied())
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
            Ok(batch.cu_seqlens[..batch.len()].iter().map(|start| batch.ids[*start]).collect())
        };
        let found = in_batches(&features, pack, &mut on_batch, first_ids).unwrap();
        assert_eq!(found, [900, 3, 1500, 700, 3, 3000]);
        assert_eq!(progress, [4, 5, 6]);
    }

    #[test]
    fn an_error_of_the_progress_stops_the_run() {
        let features: Vec<Features> = [2000, 2000, 2000].map(of_length).into();
        let mut batches = 0;
        let mut on_batch = |done| if done == 2 { Err(Error::Interrupted) } else { Ok(()) };
        let run = |batch: &Batch| {
            batches += 1;
            Ok(vec![(); batch.len()])
        };
        assert!(matches!(in_batches(&features, pack, &mut on_batch, run), Err(Error::Interrupted)));
        assert_eq!(batches, 2);
    }
}
