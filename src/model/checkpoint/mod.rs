//! Encoder weights: reading them from the formats in which models are published, and writing them
//! to safetensors.
//!
//! | format | files | reader |
//! |---|---|---|
//! | safetensors | `model.safetensors`; in parts with `model.safetensors.index.json` | `safetensors` |
//! | PyTorch | `pytorch_model.bin`, zip or legacy form; in parts with its index | `pytorch`, `pickle` |
//! | TensorFlow | `*.index` and `*.data-*`, with `bert_config.json` | `tensorflow`, `table` |
//! | Flax | `flax_model.msgpack` | `flax` |
//!
//! Every reader lists the tensors of its file ([`stored::Contents`]) and `names` gives them
//! transformers' names. This module compares them with the configuration and only then reads
//! values, one tensor at a time. Queries, keys and values are joined into one parameter, and split
//! again when written. Nothing is ignored silently: tensors that the encoder does not use are
//! reported, and tensors that it needs and the file lacks are an error.
//!
//! The readers other than safetensors' are ours: each needs a small part of its format, must report
//! the file and tensor of every fault, and must stay within bounds on hostile files
//! (`tests/checkpoint`, `fuzz`).

mod flax;
mod format;
mod locate;
mod names;
mod pickle;
mod pytorch;
mod safetensors;
mod stored;
mod table;
mod tensorflow;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::model::candle_encoder::stored_specs;
use crate::model::{EncoderConfig, ParamSpec, Weights};
use crate::{Error, Result};
use names::{Named, stored_names};
use stored::{Contents, Dtype};

pub use format::{Extra, Format, WEIGHTS_FILE};
pub use safetensors::{write, write_tensors};

/// Which tensors were used, unused and missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadReport {
    /// The file that was read; of several, their index.
    pub path: PathBuf,
    /// How it was written.
    pub format: Format,
    /// Tensors that were used, under their names in the file.
    pub used: Vec<String>,
    /// Tensors that the encoder does not use, under their names in the file: other heads, position
    /// ids, optimizer slots, counters.
    pub unused: Vec<String>,
    /// Tensors of transformers' class that the file lacks and the encoder does not need: the
    /// pooler.
    pub missing: Vec<String>,
}

/// Read the encoder of a model directory, and the parameters of a head if `head` names any.
///
/// Of several formats in the directory the first counts: safetensors, `pytorch_model.bin`,
/// TensorFlow, Flax.
///
/// # Errors
/// [`Error::Checkpoint`] when there are no weights, when a file is corrupt or asks for anything but
/// tensors, and when the tensors do not fit the configuration; [`Error::Io`].
pub fn read(directory: &Path, config: &EncoderConfig, head: &[ParamSpec]) -> Result<(Weights, Vec<Extra>, LoadReport)> {
    let contents = locate::open(directory)?;
    let names = config.model_type.names();
    let mut selection = Selection {
        contents: &contents,
        named: names::canonical(&contents, names.prefix),
        used: BTreeSet::new(),
        bytes: 0,
    };
    let mut specs = stored_specs(config)?;
    specs.extend_from_slice(head);
    let h = config.hidden_size;
    let pooler = [("pooler.dense.weight", vec![h, h]), ("pooler.dense.bias", vec![h])].into_iter();
    let pooler = pooler.filter(|_| names.pooler);

    // Compare everything with the configuration before reading any value.
    let mut missing = Vec::new();
    let mut parameters = Vec::with_capacity(specs.len());
    for spec in &specs {
        let mut parts = Vec::new();
        for (name, shape) in stored_names(spec) {
            match selection.take(&name, &shape)? {
                Some(part) => parts.push(part),
                None => missing.push(name),
            }
        }
        parameters.push(parts);
    }
    if !missing.is_empty() {
        return Err(selection.lacks(&missing, names.class));
    }
    let mut absent = Vec::new();
    let mut found = Vec::new();
    for (name, shape) in pooler {
        match selection.take(name, &shape)? {
            Some(part) => found.push((name, shape, part)),
            None => absent.push(name.to_string()),
        }
    }
    selection.check_sizes()?;

    let mut values = Vec::with_capacity(specs.len());
    for (spec, parts) in specs.iter().zip(&parameters) {
        let mut joined = Vec::with_capacity(spec.elements());
        for part in parts {
            contents.read(&part.original, &part.stored, &mut joined)?;
        }
        values.push(joined);
    }
    let mut extras = Vec::new();
    for (name, shape, part) in found {
        let mut values = Vec::new();
        contents.read(&part.original, &part.stored, &mut values)?;
        extras.push(Extra { name: name.into(), shape, values });
    }
    let used = selection.used;
    let unused =
        contents.tensors.keys().chain(&contents.others).filter(|name| !used.contains(*name)).cloned().collect();
    let report = LoadReport {
        path: contents.path.clone(),
        format: contents.format,
        used: used.into_iter().collect(),
        unused,
        missing: absent,
    };
    Ok((Weights { specs, values }, extras, report))
}

/// Tensors chosen from a checkpoint, so far.
struct Selection<'a> {
    contents: &'a Contents,
    named: BTreeMap<String, Named>,
    used: BTreeSet<String>,
    bytes: u64,
}

impl Selection<'_> {
    /// Choose the tensor `name` if the file has it, checking its shape and type.
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<Option<Named>> {
        let Some(named) = self.named.remove(name) else { return Ok(None) };
        let integers = matches!(named.stored.dtype, Dtype::Other(_));
        if named.stored.shape != shape || integers {
            let what = if integers { " of integers" } else { "" };
            let message = format!("has shape {:?}{what}; the configuration asks for {shape:?}", named.stored.shape);
            return Err(Error::tensor(&self.contents.path, &named.original, message));
        }
        self.bytes = self.bytes.saturating_add(named.stored.bytes());
        self.used.insert(named.original.clone());
        Ok(Some(named))
    }

    /// Tensors may share bytes, as tied weights do. An encoder whose parameters take more bytes
    /// than the files have is an attempt to exhaust memory.
    fn check_sizes(&self) -> Result<()> {
        let there = self.contents.files.iter().fold(0u64, |sum, file| sum.saturating_add(file.len));
        if self.bytes <= there {
            return Ok(());
        }
        let message = format!("its tensors overlap: {} bytes of parameters in {there} bytes", self.bytes);
        Err(Error::checkpoint(&self.contents.path, message))
    }

    fn lacks(&self, missing: &[String], class: &str) -> Error {
        let list = |names: &[String]| {
            let shown = names.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
            if names.len() > 5 { format!("{shown} and {} more", names.len() - 5) } else { shown }
        };
        let contents = self.contents;
        let message = if self.used.is_empty() {
            let names: Vec<String> = contents.tensors.keys().cloned().collect();
            format!(
                "none of its {} tensors ({}) is one of a {class}; is this a different kind of model?",
                names.len(),
                list(&names)
            )
        } else {
            format!("{} tensors are missing: {}; is this the model of its config.json?", missing.len(), list(missing))
        };
        Error::checkpoint(&contents.path, message)
    }
}
