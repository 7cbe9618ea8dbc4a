//! Word weights, layer weights, and what masking words does to predictions.

use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::columns::Columns;
use super::compute::PyCompute;
use super::instances::PyInstances;
use super::model::PyModel;
use super::runtime::{detached, interruptible};
use crate::attention::{Masked, Masking, WeightSource, WordRow, layer_weights, mask_words, spearman, word_table};
use crate::{Error, Result};

/// One row per word of every instance. `kind` is whose weights: `head`, `encoder` or `gradient`;
/// `report` is called with the finished share.
#[pyfunction]
#[pyo3(signature = (model, instances, kind, compute, report=None))]
pub fn attention<'py>(
    py: Python<'py>,
    model: &PyModel,
    instances: &PyInstances,
    kind: &str,
    compute: &PyCompute,
    report: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let source: WeightSource = kind.parse()?;
    let rows =
        interruptible(py, report, |on_batch| word_table(&model.0, &instances.items, source, compute.0, on_batch))?;
    let labels = &model.0.card.task.labels;
    let name = |label: Option<usize>| label.and_then(|label| labels.get(label)).map(String::as_str);
    let of = |row: &WordRow| &instances.items[row.instance];
    let words = || rows.iter().map(|row| &row.word);
    let table_rows = rows.iter().map(|row| of(row).row.map(|row| row.row)).collect();
    let columns = Columns::new(py)
        .text("instance", rows.iter().map(|row| of(row).id.as_str()))?
        .integers_if_there("row", table_rows)?
        .text("document", rows.iter().map(|row| of(row).document.as_str()))?
        .text("word", words().map(|word| word.text.as_str()))?
        .text("stem", rows.iter().map(|row| row.stem.as_str()))?
        .floats("weight", words().map(|word| word.weight))?
        .floats("relative", rows.iter().map(WordRow::relative))?
        .integers("pieces", words().map(|word| word.pieces))?
        .integers("distance", words().map(|word| word.distance[0].min(word.distance[1]) as usize))?
        .integers("distance1", words().map(|word| word.distance[0] as usize))?
        .integers("distance2", words().map(|word| word.distance[1] as usize))?
        .truths("is_entity", words().map(|word| word.is_entity))?
        .integers("start", words().map(|word| word.span.start))?
        .integers("end", words().map(|word| word.span.end))?
        .maybe_integers("original_start", words().map(|word| word.original.map(|span| span.start)))?
        .maybe_integers("original_end", words().map(|word| word.original.map(|span| span.end)))?
        .maybe_text("gold", rows.iter().map(|row| name(of(row).label)))?
        .maybe_text("predicted", rows.iter().map(|row| name(Some(row.predicted))))?;
    Ok(columns.finish())
}

/// Rows of the instances that were classified, their labels, and the attention over the layers,
/// `(instances, layers)`.
#[pyfunction(name = "layer_weights")]
#[expect(clippy::type_complexity, reason = "named once, here")]
pub fn py_layer_weights<'py>(
    py: Python<'py>,
    model: &PyModel,
    instances: &PyInstances,
    compute: &PyCompute,
) -> PyResult<(Vec<usize>, Vec<usize>, Bound<'py, PyArray2<f32>>)> {
    let rows = interruptible(py, None, |on_batch| layer_weights(&model.0, &instances.items, compute.0, on_batch))?;
    let kept = rows.iter().map(|row| row.instance).collect();
    let labels = rows.iter().map(|row| row.predicted).collect();
    let shape = [rows.len(), model.0.network.encoder.num_hidden_layers];
    let weights: Vec<f32> = rows.into_iter().flat_map(|row| row.weights).collect();
    Ok((kept, labels, PyArray1::from_vec(py, weights).reshape(shape)?))
}

/// One row per instance, ranking and number of words. `report` is called with the finished share.
#[pyfunction(name = "mask_words")]
#[pyo3(signature = (model, instances, *, words, n_random, seed, related, limit, compute, report=None))]
#[expect(clippy::too_many_arguments, reason = "the arguments of the Python call, which are keywords there")]
pub fn py_mask_words<'py>(
    py: Python<'py>,
    model: &PyModel,
    instances: &PyInstances,
    words: Vec<usize>,
    n_random: usize,
    seed: u64,
    related: bool,
    limit: Option<usize>,
    compute: &PyCompute,
    report: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let masking = Masking { words: &words, n_random, seed, related, limit };
    let rows =
        interruptible(py, report, |on_batch| mask_words(&model.0, &instances.items, masking, compute.0, on_batch))?;
    let of = |row: &Masked| &instances.items[row.instance];
    let labels = &model.0.card.task.labels;
    let columns = Columns::new(py)
        .text("instance", rows.iter().map(|row| of(row).id.as_str()))?
        .text("document", rows.iter().map(|row| of(row).document.as_str()))?
        .maybe_text("gold", rows.iter().map(|row| of(row).label.map(|label| labels[label].as_str())))?
        .text("predicted", rows.iter().map(|row| labels[row.label].as_str()))?
        .text("ranking", rows.iter().map(|row| row.ranking.name()))?
        .integers("words", rows.iter().map(|row| row.words))?
        .integers("masked", rows.iter().map(|row| row.masked))?
        .floats("pieces", rows.iter().map(|row| row.pieces))?
        .floats("before", rows.iter().map(|row| row.before))?
        .floats("after", rows.iter().map(|row| row.after))?
        .floats("changed", rows.iter().map(|row| row.changed))?
        .floats("matched_after", rows.iter().map(|row| row.matched.map_or(f64::NAN, |matched| matched.after)))?
        .floats("matched_changed", rows.iter().map(|row| row.matched.map_or(f64::NAN, |matched| matched.changed)))?;
    Ok(columns.finish())
}

/// Spearman's rank correlation inside each group: entries of `starts[i]..starts[i + 1]`; NaN where
/// it is not defined.
#[pyfunction]
pub fn rank_correlations<'py>(
    py: Python<'py>,
    first: PyReadonlyArray1<'py, f64>,
    second: PyReadonlyArray1<'py, f64>,
    starts: Vec<usize>,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let (first, second) = (first.as_array().to_vec(), second.as_array().to_vec());
    let of = |bounds: &[usize]| -> Result<f64> {
        let part = |values: &[f64]| values.get(bounds[0]..bounds[1]).map(<[f64]>::to_vec);
        match (part(&first), part(&second)) {
            (Some(a), Some(b)) => Ok(spearman(&a, &b).unwrap_or(f64::NAN)),
            _ => Err(Error::config("starts", format!("{}..{} is outside of the weights", bounds[0], bounds[1]))),
        }
    };
    let values = detached(py, || starts.windows(2).map(of).collect::<Result<Vec<f64>>>())?;
    Ok(PyArray1::from_vec(py, values))
}
