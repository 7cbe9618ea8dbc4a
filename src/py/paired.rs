//! Tests of one model against another on the same instances.

use pyo3::prelude::*;

use super::corpus::PyTask;
use super::runtime::detached;
use crate::eval::paired::{self, Bootstrapped, Comparison, Counted, Decisions};

/// `(F1 of the first, F1 of the second, p, lower and upper end of the difference, units)`. `first`
/// and `second` are one list of predictions per seed; `unit` is the index of each instance's
/// resampling unit.
#[pyfunction]
#[pyo3(signature = (task, gold, first, second, unit, *, samples, confidence_level, seed))]
#[expect(clippy::too_many_arguments, reason = "the arguments of the Python call, which are keywords there")]
pub fn bootstrap(
    py: Python<'_>,
    task: &PyTask,
    gold: Vec<usize>,
    first: Vec<Decisions>,
    second: Vec<Decisions>,
    unit: Vec<usize>,
    samples: usize,
    confidence_level: f64,
    seed: u64,
) -> PyResult<(f64, f64, f64, f64, f64, usize)> {
    let Bootstrapped { first, second, p, interval: [low, high], units } = detached(py, || {
        let comparison = Comparison { task: &task.0, gold: &gold, first: &first, second: &second, unit: &unit };
        paired::bootstrap(&comparison, samples, confidence_level, seed)
    })?;
    Ok((first, second, p, low, high, units))
}

/// The fields of [`Counted`]: `(first, second, ties, p, least p)`.
type Counts = (u64, u64, u64, f64, f64);

fn counts(counted: Counted) -> Counts {
    (counted.first, counted.second, counted.ties, counted.p, counted.least_p())
}

/// McNemar's exact test.
#[pyfunction]
pub fn mcnemar(
    py: Python<'_>,
    task: &PyTask,
    gold: Vec<usize>,
    first: Decisions,
    second: Decisions,
) -> PyResult<Counts> {
    detached(py, || paired::mcnemar(&task.0, &gold, &first, &second)).map(counts)
}

/// McNemar's test over units: `first` and `second` count units.
#[pyfunction]
#[pyo3(signature = (task, gold, first, second, unit, *, samples, seed))]
#[expect(clippy::too_many_arguments, reason = "the arguments of the Python call, which are keywords there")]
pub fn mcnemar_by_unit(
    py: Python<'_>,
    task: &PyTask,
    gold: Vec<usize>,
    first: Decisions,
    second: Decisions,
    unit: Vec<usize>,
    samples: usize,
    seed: u64,
) -> PyResult<Counts> {
    let (first, second) = ([first], [second]);
    detached(py, || {
        let comparison = Comparison { task: &task.0, gold: &gold, first: &first, second: &second, unit: &unit };
        paired::mcnemar_by_unit(&comparison, samples, seed)
    })
    .map(counts)
}

/// The sign test over pairs of scores.
#[pyfunction]
pub fn sign_test(py: Python<'_>, first: Vec<f64>, second: Vec<f64>) -> PyResult<Counts> {
    detached(py, || paired::sign_test(&first, &second)).map(counts)
}

/// Confidence interval of a mean; `None` for fewer than two values.
#[pyfunction]
pub fn t_interval(py: Python<'_>, values: Vec<f64>, confidence_level: f64) -> PyResult<Option<(f64, f64)>> {
    detached(py, || Ok(paired::t_interval(&values, confidence_level))).map(|ends| ends.map(|[low, high]| (low, high)))
}
