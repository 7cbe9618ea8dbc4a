//! Tests of one model against another on the same instances.

use pyo3::prelude::*;

use super::corpus::PyTask;
use super::runtime::detached;
use crate::eval::paired::{self, Bootstrapped, Comparison, Counted, Decisions};

/// `(F1 of the first, F1 of the second, p, lower and upper end of the difference, units)`. `first`
/// and `second` hold one list of decisions for each seed; `unit` numbers what is drawn together.
#[pyfunction]
#[pyo3(signature = (task, gold, first, second, unit, *, samples, level, seed))]
#[expect(clippy::too_many_arguments, reason = "they are the call's own; the package has the readable form")]
pub fn bootstrap(
    py: Python<'_>,
    task: &PyTask,
    gold: Vec<usize>,
    first: Vec<Decisions>,
    second: Vec<Decisions>,
    unit: Vec<usize>,
    samples: usize,
    level: f64,
    seed: u64,
) -> PyResult<(f64, f64, f64, f64, f64, usize)> {
    let Bootstrapped { first, second, p, interval: [low, high], units } = detached(py, || {
        let comparison = Comparison { task: &task.0, gold: &gold, first: &first, second: &second, unit: &unit };
        paired::bootstrap(&comparison, samples, level, seed)
    })?;
    Ok((first, second, p, low, high, units))
}

/// What [`Counted`] says: `(first, second, ties, p, least p)`.
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

/// McNemar's test over units: the first and second count units, and a note of how few differ is the
/// least p.
#[pyfunction]
#[pyo3(signature = (task, gold, first, second, unit, *, samples, seed))]
#[expect(clippy::too_many_arguments, reason = "they are the call's own; the package has the readable form")]
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
pub fn t_interval(py: Python<'_>, values: Vec<f64>, level: f64) -> PyResult<Option<(f64, f64)>> {
    detached(py, || Ok(paired::t_interval(&values, level))).map(|ends| ends.map(|[low, high]| (low, high)))
}
