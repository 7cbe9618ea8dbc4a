//! Scores of predictions.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::columns::Columns;
use super::corpus::{PyTask, row_name};
use super::runtime::detached;
use crate::corpus::Averaging;
use crate::eval::{Confusion, Prf};

/// A row of the table: a class, or an average over classes.
struct Row {
    name: String,
    prf: Prf,
    support: Option<u64>,
    predicted: Option<u64>,
}

/// The table of scores, and the protocol of its headline. `gold` and `predicted` are indices of
/// labels, `lost` the gold positives of each label that never became instances.
#[pyfunction]
pub fn score<'py>(
    py: Python<'py>,
    task: &PyTask,
    gold: Vec<usize>,
    predicted: Vec<usize>,
    lost: Vec<u64>,
    split: &str,
) -> PyResult<(Bound<'py, PyDict>, String)> {
    let task = &task.0;
    let scores = detached(py, || {
        Ok(Confusion::count(&task.labels, task.negative, &gold, &predicted)?.with_lost(&lost)?.scores())
    })?;
    let mut rows: Vec<Row> = scores
        .classes
        .iter()
        .map(|class| Row {
            name: class.label.clone(),
            prf: class.prf,
            support: Some(class.support),
            predicted: Some(class.predicted),
        })
        .collect();
    for averaging in [Averaging::Micro, Averaging::Macro, Averaging::MacroAll, Averaging::Binary] {
        if let Some(prf) = scores.by(averaging) {
            rows.push(Row { name: row_name(averaging).into(), prf, support: None, predicted: None });
        }
    }
    let count = |count: Option<u64>| count.map_or(f64::NAN, |count| count as f64);
    let columns = Columns::new(py)
        .text("class", rows.iter().map(|row| row.name.as_str()))?
        .floats("precision", rows.iter().map(|row| row.prf.precision))?
        .floats("recall", rows.iter().map(|row| row.prf.recall))?
        .floats("f1", rows.iter().map(|row| row.prf.f1))?
        .floats("support", rows.iter().map(|row| count(row.support)))?
        .floats("predicted", rows.iter().map(|row| count(row.predicted)))?;
    Ok((columns.finish(), scores.protocol(task.averaging, split)))
}
