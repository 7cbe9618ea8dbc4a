//! The rows of a batch by their index: what the scatter of the embeddings' gradient reads.

use std::sync::{Arc, Mutex, PoisonError};

use super::parameters::bytes_of;

/// The rows of a batch by their index: those of `unique[i]` are `order[first[i]..first[i + 1]]`.
pub(super) struct Groups {
    indices: Vec<u32>,
    pub unique: Vec<u32>,
    first: Vec<u32>,
    order: Vec<u32>,
}

impl Groups {
    fn new(indices: &[u32]) -> Self {
        let mut order: Vec<u32> = (0..indices.len() as u32).collect();
        order.sort_by_key(|row| indices[*row as usize]); // stable: rows of one index stay in order
        let (mut unique, mut first) = (Vec::new(), Vec::new());
        for (at, row) in order.iter().enumerate() {
            let index = indices[*row as usize];
            if unique.last() != Some(&index) {
                unique.push(index);
                first.push(at as u32);
            }
        }
        first.push(order.len() as u32);
        Self { indices: indices.to_vec(), unique, first, order }
    }

    /// As the kernel reads them.
    pub fn lists(&self) -> [&[u8]; 3] {
        [bytes_of(&self.unique), bytes_of(&self.first), bytes_of(&self.order)]
    }
}

/// The last ones: a step sends them when it begins, and needs them again at its end.
#[derive(Default)]
pub(super) struct KnownGroups(Mutex<Vec<Arc<Groups>>>);

impl KnownGroups {
    /// Those of the identifiers and of the positions of a few batches.
    const KEPT: usize = 4;

    pub fn of(&self, indices: &[u32]) -> Arc<Groups> {
        // The lock only guards a list that no panic leaves half-changed.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(groups) = known.iter().find(|groups| groups.indices == indices) {
            return groups.clone();
        }
        let groups = Arc::new(Groups::new(indices));
        if known.len() == Self::KEPT {
            known.remove(0);
        }
        known.push(groups.clone());
        groups
    }
}
