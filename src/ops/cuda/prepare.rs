//! One upload of what a step of training will read, when it begins: each operation then finds its
//! lists on the device (`lists.rs`).

use super::additive_attention::{readers, spans};
use super::device::Device;
use super::engine::Cuda;
use super::parameters::{Plain, bytes_of, narrow};
use super::{attention, classifier, cross_entropy, rows};
use crate::Result;
use crate::ops::StepList;

/// See [`crate::ops::Ops::prepare`].
pub(super) fn prepare<D: Device>(cuda: &Cuda<D>, lists: &[StepList<'_>]) -> Result<()> {
    // For memory checkers nothing is kept.
    if !cuda.pool.reuses() {
        return Ok(());
    }
    let mut all = All::default();
    for list in lists {
        match list {
            StepList::Tokens { ids, positions, backward } => {
                all.add(ids);
                all.add(&positions[..]);
                let groups =
                    [*ids, &positions[..]].into_iter().filter(|_| *backward).map(|indices| cuda.groups.of(indices));
                groups.for_each(|groups| all.0.extend(groups.lists().map(<[u8]>::to_vec)));
            }
            StepList::Attention(shape, hidden) => all.add(&attention::tiles(cuda, *shape, *hidden)),
            StepList::Rotary(rotation, hidden) => {
                all.add(rotation.positions);
                rotation.table(hidden / rotation.heads.max(1)).iter().for_each(|table| all.add(table));
            }
            StepList::Rows(of) => all.add(&narrow(of.iter().copied())?),
            StepList::MeanRows(groups, count) => {
                groups.expect(*count)?;
                rows::lists(groups, *count)?.iter().for_each(|list| all.add(list));
            }
            StepList::Words { words, tokens, pairs } => {
                all.add(&spans(words, *tokens)?.0);
                if *pairs {
                    all.add(&readers(words, *tokens)?);
                }
            }
            StepList::Labels(labels, loss) => {
                all.add(labels);
                all.add(&cross_entropy::weights(loss));
            }
            StepList::Targets(targets, labels) => {
                let (rows, weights) = classifier::lists(targets, *labels)?;
                all.add(&rows);
                all.add(&weights);
            }
        }
    }
    cuda.send_each(&all.0.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
    Ok(())
}

/// The bytes of lists.
#[derive(Default)]
struct All(Vec<Vec<u8>>);

impl All {
    /// Once, where several operations read it.
    fn add<T: Plain>(&mut self, values: &[T]) {
        let bytes = bytes_of(values);
        if !self.0.iter().any(|list| list == bytes) {
            self.0.push(bytes.to_vec());
        }
    }
}
