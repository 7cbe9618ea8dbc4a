//! Attention by stem.

use numpy::PyReadonlyArray1;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::columns::Columns;
use super::runtime::detached;
use crate::attention::{
    LEAST_DOCUMENTS, Occurrences, Resampling, StemWeight, bootstrap_mean, stem_contrasts, stem_weights,
};

/// Indices of the stems and of the documents, and the weights: one entry per word.
type Words<'py> = (PyReadonlyArray1<'py, i64>, PyReadonlyArray1<'py, i64>, PyReadonlyArray1<'py, f64>);

/// The same in the core's types; a negative index is an internal error.
fn read(words: &Words<'_>) -> PyResult<(Vec<usize>, Vec<usize>, Vec<f64>)> {
    let numbers = |array: &PyReadonlyArray1<'_, i64>| -> PyResult<Vec<usize>> {
        let values = array.as_array();
        values.iter().map(|value| usize::try_from(*value).map_err(|e| super::error::internal(&e.to_string()))).collect()
    };
    Ok((numbers(&words.0)?, numbers(&words.1)?, words.2.as_array().to_vec()))
}

fn view((stems, documents, weights): &(Vec<usize>, Vec<usize>, Vec<f64>)) -> Occurrences<'_> {
    Occurrences { stems, documents, weights }
}

/// One row per stem.
#[pyfunction(name = "stem_weights")]
#[pyo3(signature = (words, *, samples, confidence_level, seed))]
pub fn py_stem_weights<'py>(
    py: Python<'py>,
    words: Words<'py>,
    samples: usize,
    confidence_level: f64,
    seed: u64,
) -> PyResult<Bound<'py, PyDict>> {
    let words = read(&words)?;
    let stems = detached(py, || stem_weights(view(&words), Resampling { samples, confidence_level, seed }))?;
    let columns = Columns::new(py)
        .floats("weight", stems.iter().map(|stem| stem.mean))?
        .integers("count", stems.iter().map(|stem| stem.count as usize))?
        .integers("documents", stems.iter().map(|stem| stem.documents as usize))?
        .floats("sd", stems.iter().map(|stem| stem.sd.unwrap_or(f64::NAN)))?
        .floats("low", stems.iter().map(|stem| stem.interval.map_or(f64::NAN, |interval| interval[0])))?
        .floats("high", stems.iter().map(|stem| stem.interval.map_or(f64::NAN, |interval| interval[1])))?;
    Ok(columns.finish())
}

/// One row per stem: the first group of words compared with the second.
#[pyfunction(name = "stem_contrasts")]
#[pyo3(signature = (first, second, *, samples, confidence_level, seed))]
pub fn py_stem_contrasts<'py>(
    py: Python<'py>,
    first: Words<'py>,
    second: Words<'py>,
    samples: usize,
    confidence_level: f64,
    seed: u64,
) -> PyResult<Bound<'py, PyDict>> {
    let (first, second) = (read(&first)?, read(&second)?);
    let stems =
        detached(py, || stem_contrasts([view(&first), view(&second)], Resampling { samples, confidence_level, seed }))?;
    let mut columns = Columns::new(py);
    for (side, name) in ["positive", "negative"].into_iter().enumerate() {
        let groups = || stems.iter().map(|stem| &stem.groups[side]);
        let end = |group: &StemWeight, end: usize| group.interval.map_or(f64::NAN, |interval| interval[end]);
        columns = columns
            .floats(name, groups().map(|group| group.mean))?
            .floats(&format!("{name}_low"), groups().map(|group| end(group, 0)))?
            .floats(&format!("{name}_high"), groups().map(|group| end(group, 1)))?
            .integers(&format!("{name}_count"), groups().map(|group| group.count as usize))?
            .integers(&format!("{name}_documents"), groups().map(|group| group.documents as usize))?;
    }
    let optional = |value: Option<f64>| value.unwrap_or(f64::NAN);
    let columns = columns
        .floats("difference", stems.iter().map(|stem| stem.difference))?
        .floats("low", stems.iter().map(|stem| optional(stem.interval.map(|interval| interval[0]))))?
        .floats("high", stems.iter().map(|stem| optional(stem.interval.map(|interval| interval[1]))))?
        .floats("effect", stems.iter().map(|stem| optional(stem.effect)))?
        .floats("p", stems.iter().map(|stem| optional(stem.p)))?
        .floats("q", stems.iter().map(|stem| optional(stem.q)))?;
    Ok(columns.finish())
}

/// Mean, standard deviation and the ends of the interval of values that are grouped by document.
#[pyfunction(name = "bootstrap_mean")]
#[pyo3(signature = (values, documents, *, samples, confidence_level, seed))]
pub fn py_bootstrap_mean(
    py: Python<'_>,
    values: Vec<f64>,
    documents: Vec<usize>,
    samples: usize,
    confidence_level: f64,
    seed: u64,
) -> PyResult<(f64, f64, f64, f64)> {
    let mean = detached(py, || bootstrap_mean(&values, &documents, Resampling { samples, confidence_level, seed }))?;
    let [low, high] = mean.interval.unwrap_or([f64::NAN; 2]);
    Ok((mean.mean, mean.sd.unwrap_or(f64::NAN), low, high))
}

/// The fewest documents with a stem for an interval or a test.
#[pyfunction]
pub fn least_documents() -> u64 {
    LEAST_DOCUMENTS
}
