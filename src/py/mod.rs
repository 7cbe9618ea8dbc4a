//! The Python extension `biorel._biorel`: thin classes around the core's types, one file per topic.
//!
//! Tables are passed as columns (numpy arrays and lists); the Python package makes DataFrames
//! of them. Every call that computes or reads goes through [`runtime`], and every error through
//! [`error`].

mod adapt;
mod columns;
mod compute;
mod corpus;
mod dictionary;
mod documents;
mod encoder;
mod error;
mod explain;
mod files;
mod instances;
mod model;
mod paired;
mod runtime;
mod scores;
mod settings;
mod stems;
mod stream;
mod training;

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::config::HeadKind;
use crate::corpus::CorpusKind;

/// The compiled core of biorel. Use the package `biorel`, which documents and completes it.
#[pymodule(gil_used = true)]
mod _biorel {
    use super::*;

    #[pymodule_export]
    use super::adapt::{PyAdapted, PySpool, adapt};
    #[pymodule_export]
    use super::compute::{PyCompute, gpus};
    #[pymodule_export]
    use super::corpus::{PyCorpus, PyDocumentTexts, PyReadOptions, PyTask, means_none};
    #[pymodule_export]
    use super::dictionary::PyDictionary;
    #[pymodule_export]
    use super::documents::{PyDocument, PyDocumentReader, list_inputs, write_documents, write_files};
    #[pymodule_export]
    use super::encoder::PyEncoder;
    #[pymodule_export]
    use super::explain::{attention, py_layer_weights, py_mask_words, rank_correlations};
    #[pymodule_export]
    use super::files::{check_replaceable, write_directory};
    #[pymodule_export]
    use super::instances::PyInstances;
    #[pymodule_export]
    use super::model::{PyModel, PyPairs, PyPredicted};
    #[pymodule_export]
    use super::paired::{bootstrap, mcnemar, mcnemar_by_unit, sign_test, t_interval};
    #[pymodule_export]
    use super::scores::score;
    #[pymodule_export]
    use super::settings::PySettings;
    #[pymodule_export]
    use super::stems::{least_documents, py_bootstrap_mean, py_stem_contrasts, py_stem_weights};
    #[pymodule_export]
    use super::stream::{PyPart, PyStream, predict_documents};
    #[pymodule_export]
    use super::training::{PyOutcome, finetune, finetune_jointly};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        runtime::init();
        module.add("HEADS", PyTuple::new(module.py(), HeadKind::ALL.map(HeadKind::name))?)?;
        module.add("CORPORA", PyTuple::new(module.py(), CorpusKind::ALL.map(CorpusKind::name))?)?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
