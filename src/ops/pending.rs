//! What an engine knows before the host does.

use crate::Result;

/// A value that may still be on its way from the device. Nothing waits for it until it is asked for.
pub struct Pending<T>(Box<dyn FnOnce() -> Result<T> + Send>);

impl<T: Send + 'static> Pending<T> {
    /// A value that is there.
    pub fn ready(value: T) -> Self {
        Self(Box::new(move || Ok(value)))
    }

    /// A value that `get` waits for.
    pub fn new(get: impl FnOnce() -> Result<T> + Send + 'static) -> Self {
        Self(Box::new(get))
    }

    /// What `then` makes of the value once it is there.
    pub fn and_then<U: Send + 'static>(self, then: impl FnOnce(T) -> Result<U> + Send + 'static) -> Pending<U> {
        Pending(Box::new(move || then(self.0()?)))
    }

    /// The value; waits for it.
    ///
    /// # Errors
    /// When the device fails, also in work that was enqueued earlier, and what [`Pending::and_then`] adds.
    pub fn get(self) -> Result<T> {
        self.0()
    }
}

/// What a step of training came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepResult {
    /// Loss before the update.
    pub loss: f64,
    /// Global L2 norm of the gradient before clipping.
    pub norm: f64,
}

impl StepResult {
    /// What the gradient is multiplied by so that its norm is at most `max_norm`, or 1 for a `max_norm` of 0; `None` when
    /// loss or norm are not finite: the weights are then left alone.
    pub fn clip(&self, max_norm: f64) -> Option<f64> {
        let finite = self.loss.is_finite() && self.norm.is_finite();
        finite.then(|| if max_norm > 0.0 { (max_norm / self.norm).min(1.0) } else { 1.0 })
    }
}
