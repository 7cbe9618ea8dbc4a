//! Entities by dictionary.

use std::sync::Arc;

use pyo3::prelude::*;

use super::documents::PyDocument;
use super::runtime::detached;
use crate::corpus::documents::{Dictionary, Term};

/// A list of terms that can be searched for.
#[pyclass(frozen, name = "Dictionary", module = "biorel._biorel")]
pub struct PyDictionary(pub Arc<Dictionary>);

/// Text, type, identifier, place.
type RawTerm = (String, String, String, String);
/// Start, end, type, identifiers.
type RawFound = (usize, usize, String, Vec<String>);

#[pymethods]
impl PyDictionary {
    #[new]
    fn new(py: Python<'_>, terms: Vec<RawTerm>, case: &str) -> PyResult<Self> {
        let case = case.parse()?;
        let term = |(text, entity_type, identifier, place)| Term { text, entity_type, identifier, place };
        let terms: Vec<Term> = terms.into_iter().map(term).collect();
        detached(py, || Dictionary::new(&terms, case)).map(|dictionary| Self(Arc::new(dictionary)))
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    /// SHA-256 of the terms and of how case counts.
    #[getter]
    fn hash(&self) -> &str {
        self.0.hash()
    }

    /// The mentions of terms in a text, in characters.
    fn find(&self, py: Python<'_>, text: &str) -> PyResult<Vec<RawFound>> {
        let found = detached(py, || Ok(self.0.find(text)))?;
        let raw = found
            .into_iter()
            .map(|one| (one.span.start, one.span.end, one.entity_type.to_owned(), one.identifiers.to_vec()));
        Ok(raw.collect())
    }

    /// The document with the mentions of terms added.
    fn annotate(&self, py: Python<'_>, document: &PyDocument) -> PyResult<PyDocument> {
        detached(py, || self.0.annotate(&document.0)).map(|document| PyDocument(Arc::new(document)))
    }
}
