//! Tables for Python: dicts of columns, from which the package makes DataFrames.

use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

/// Columns in the order in which they were added.
pub struct Columns<'py>(Bound<'py, PyDict>);

impl<'py> Columns<'py> {
    /// No column yet.
    pub fn new(py: Python<'py>) -> Self {
        Self(PyDict::new(py))
    }

    /// A column of strings.
    pub fn text<'a>(self, name: &str, values: impl IntoIterator<Item = &'a str>) -> PyResult<Self> {
        let values: Vec<&str> = values.into_iter().collect();
        self.0.set_item(name, PyList::new(self.0.py(), values)?)?;
        Ok(self)
    }

    /// A column of strings, some of them missing.
    pub fn maybe_text<'a>(self, name: &str, values: impl IntoIterator<Item = Option<&'a str>>) -> PyResult<Self> {
        let values: Vec<Option<&str>> = values.into_iter().collect();
        self.0.set_item(name, PyList::new(self.0.py(), values)?)?;
        Ok(self)
    }

    /// A column of counts or positions.
    pub fn integers(self, name: &str, values: impl IntoIterator<Item = usize>) -> PyResult<Self> {
        let values = values.into_iter().map(|value| i64::try_from(value).unwrap_or(i64::MAX));
        self.0.set_item(name, PyArray1::from_iter(self.0.py(), values))?;
        Ok(self)
    }

    /// A column of counts or positions; omitted without values.
    pub fn integers_if_there(self, name: &str, values: Option<Vec<usize>>) -> PyResult<Self> {
        match values {
            Some(values) => self.integers(name, values),
            None => Ok(self),
        }
    }

    /// A column of positions, some of them missing.
    pub fn maybe_integers(self, name: &str, values: impl IntoIterator<Item = Option<usize>>) -> PyResult<Self> {
        let values: Vec<Option<usize>> = values.into_iter().collect();
        self.0.set_item(name, PyList::new(self.0.py(), values)?)?;
        Ok(self)
    }

    /// A column of numbers.
    pub fn floats(self, name: &str, values: impl IntoIterator<Item = f64>) -> PyResult<Self> {
        self.0.set_item(name, PyArray1::from_iter(self.0.py(), values))?;
        Ok(self)
    }

    /// A column of booleans.
    pub fn truths(self, name: &str, values: impl IntoIterator<Item = bool>) -> PyResult<Self> {
        self.0.set_item(name, PyArray1::from_iter(self.0.py(), values))?;
        Ok(self)
    }

    /// The finished table.
    pub fn finish(self) -> Bound<'py, PyDict> {
        self.0
    }
}
