//! Values that the device has yet to compute.

use crate::Result;

/// A value that the device may still be computing. Only [`Pending::get`] waits for it.
pub struct Pending<T>(Box<dyn FnOnce() -> Result<T> + Send>);

impl<T: Send + 'static> Pending<T> {
    /// A value that is already known.
    pub fn ready(value: T) -> Self {
        Self(Box::new(move || Ok(value)))
    }

    /// A value that `get` waits for and returns.
    pub fn new(get: impl FnOnce() -> Result<T> + Send + 'static) -> Self {
        Self(Box::new(get))
    }

    /// Apply `then` to the value once it is known.
    pub fn and_then<U: Send + 'static>(self, then: impl FnOnce(T) -> Result<U> + Send + 'static) -> Pending<U> {
        Pending(Box::new(move || then(self.0()?)))
    }

    /// Wait for the value.
    ///
    /// # Errors
    /// When the device fails, also in work that was enqueued earlier; and the errors of
    /// [`Pending::and_then`].
    pub fn get(self) -> Result<T> {
        self.0()
    }
}

/// The result of a step of training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepResult {
    /// Loss before the update.
    pub loss: f64,
    /// Global L2 norm of the gradient before clipping.
    pub norm: f64,
}

impl StepResult {
    /// The factor that brings the norm of the gradient down to `max_norm`; 1 for a `max_norm` of 0.
    /// `None` when loss or norm is not finite: then the weights must not change.
    pub fn clip(&self, max_norm: f64) -> Option<f64> {
        let finite = self.loss.is_finite() && self.norm.is_finite();
        finite.then(|| if max_norm > 0.0 { (max_norm / self.norm).min(1.0) } else { 1.0 })
    }
}
