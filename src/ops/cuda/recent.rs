//! What was enqueued last, for errors: a kernel that fails shows at whatever is called next.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// How many operations are remembered.
const REMEMBERED: usize = 8;

/// The names of the operations that were enqueued last.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<VecDeque<&'static str>>);

impl Recent {
    pub fn add(&self, operation: &'static str) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() == REMEMBERED {
            names.pop_front();
        }
        names.push_back(operation);
    }

    /// What to say of an error that an earlier operation may have caused, at the call `doing`.
    pub fn blame(&self, doing: &str) -> String {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let names: Vec<_> = names.iter().copied().collect();
        format!(
            "found at \"{doing}\", caused by an operation that was enqueued before (the last ones: {}; with \
             CUDA_LAUNCH_BLOCKING=1 in the environment the error names the one)",
            names.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_operations_are_named_in_their_order() {
        let recent = Recent::default();
        for name in ["embed", "a", "b", "c", "d", "e", "f", "adamw", "clip_factor"] {
            recent.add(name);
        }
        let text = recent.blame("waiting for it");
        assert!(text.starts_with("found at \"waiting for it\""), "{text}");
        assert!(text.contains("the last ones: a, b, c, d, e, f, adamw, clip_factor;"), "{text}");
    }
}
