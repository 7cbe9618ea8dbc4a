//! Encoder weights from and to safetensors files, under transformers' names.
//!
//! Read: names with or without `bert.`, LayerNorm `weight`/`bias` or `gamma`/`beta`, f64, f32, f16 or bf16. Queries, keys
//! and values are joined into one parameter, and split again when written. Nothing is ignored silently: what a file
//! holds and the encoder does not use is reported, and what the encoder needs and the file lacks is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::model::params::encoder_specs;
use crate::model::{EncoderConfig, ParamSpec, Weights};
use crate::{Error, Result};

/// The weight file of a model directory.
pub const WEIGHTS_FILE: &str = "model.safetensors";

/// What a weight file held besides the encoder.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoadReport {
    /// The file that was read.
    pub path: PathBuf,
    /// Tensors that the encoder has no use for: other heads, position ids.
    pub unused: Vec<String>,
}

/// A tensor that the encoder does not compute with but that is saved again: transformers' pooler.
#[derive(Debug, Clone, PartialEq)]
pub struct Extra {
    /// Name without `bert.`.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Values.
    pub values: Vec<f32>,
}

/// All tensors of a safetensors file as f32.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl TensorFile {
    /// Read a file and convert every float tensor to f32.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when the file is damaged or a tensor holds NaN or infinity; [`Error::Io`].
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let file = SafeTensors::deserialize(&bytes)
            .map_err(|e| Error::checkpoint(path, format!("not a valid safetensors file ({e}); fetch it again")))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.iter() {
            // Integer tensors (position ids) are no parameters; an empty entry keeps their name for the report.
            let values = floats(&view).unwrap_or_default();
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                let message = format!("value {at} is {}; the file is damaged or its training diverged", values[at]);
                return Err(Error::tensor(path, name, message));
            }
            tensors.insert(name.to_string(), (view.shape().to_vec(), values));
        }
        Ok(Self { path: path.to_path_buf(), tensors })
    }

    /// Names in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Take the tensor `name` if it is there, checking its shape.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] naming the tensor when the shape is another.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Result<Option<Vec<f32>>> {
        match self.tensors.remove(name) {
            None => Ok(None),
            Some((found, values)) if found == shape && values.len() == shape.iter().product::<usize>() => {
                Ok(Some(values))
            }
            Some((found, values)) => {
                let what = if values.is_empty() { " of integers" } else { "" };
                let message = format!("has shape {found:?}{what}; the configuration asks for {shape:?}");
                Err(Error::tensor(&self.path, name, message))
            }
        }
    }

    /// Take all parameters of `specs`; `q`, `k` and `v` are joined.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] naming the missing tensors or the one of another shape.
    pub fn take_all(&mut self, specs: &[ParamSpec]) -> Result<Weights> {
        let mut values = Vec::with_capacity(specs.len());
        let mut missing = Vec::new();
        for spec in specs {
            let mut joined = Vec::with_capacity(spec.elements());
            for (name, shape) in stored_names(spec) {
                match self.take(&name, &shape)? {
                    Some(part) => joined.extend(part),
                    None => missing.push(name),
                }
            }
            values.push(joined);
        }
        if missing.is_empty() {
            return Ok(Weights { specs: specs.to_vec(), values });
        }
        let shown = missing.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
        let more = if missing.len() > 5 { format!(" and {} more", missing.len() - 5) } else { String::new() };
        let message =
            format!("{} tensors are missing: {shown}{more}; is this the model of its config.json?", missing.len());
        Err(Error::checkpoint(&self.path, message))
    }

    /// Give every tensor its canonical name: no `bert.`, LayerNorm `weight` and `bias`.
    fn canonical(mut self) -> Self {
        let tensors = std::mem::take(&mut self.tensors);
        for (name, tensor) in tensors {
            let short = name.strip_prefix("bert.").unwrap_or(&name);
            let short = match short.rsplit_once("LayerNorm.") {
                Some((head, "gamma")) => format!("{head}LayerNorm.weight"),
                Some((head, "beta")) => format!("{head}LayerNorm.bias"),
                _ => short.to_string(),
            };
            // A clash (both spellings in one file) keeps the original name, and is then reported as unused.
            let key = if self.tensors.contains_key(&short) { name } else { short };
            self.tensors.insert(key, tensor);
        }
        self
    }
}

/// The names and shapes under which a parameter is stored: three for queries, keys and values, else one.
fn stored_names(spec: &ParamSpec) -> Vec<(String, Vec<usize>)> {
    if !spec.name.contains(".self.qkv.") {
        return vec![(spec.name.clone(), spec.shape.clone())];
    }
    let mut shape = spec.shape.clone();
    shape[0] /= 3;
    ["query", "key", "value"].map(|part| (spec.name.replace(".qkv.", &format!(".{part}.")), shape.clone())).to_vec()
}

fn floats(view: &TensorView<'_>) -> Option<Vec<f32>> {
    let data = view.data();
    Some(match view.dtype() {
        Dtype::F32 => data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Dtype::F64 => data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
        Dtype::F16 => data.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
        Dtype::BF16 => data.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
        _ => return None,
    })
}

/// Read the encoder of a model directory, and the parameters of a head if `head` names any.
///
/// # Errors
/// [`Error::Checkpoint`] when the weight file is missing, damaged, or does not fit the configuration.
pub fn read(directory: &Path, config: &EncoderConfig, head: &[ParamSpec]) -> Result<(Weights, Vec<Extra>, LoadReport)> {
    let path = directory.join(WEIGHTS_FILE);
    if !path.is_file() {
        let message = format!("no {WEIGHTS_FILE} here; other formats are not read yet: save the model as safetensors");
        return Err(Error::checkpoint(directory, message));
    }
    let mut file = TensorFile::read(&path)?.canonical();
    let mut specs = encoder_specs(config);
    specs.extend_from_slice(head);
    let weights = file.take_all(&specs)?;
    let mut extras = Vec::new();
    let h = config.hidden_size;
    for (name, shape) in [("pooler.dense.weight", vec![h, h]), ("pooler.dense.bias", vec![h])] {
        if let Some(values) = file.take(name, &shape)? {
            extras.push(Extra { name: name.into(), shape, values });
        }
    }
    let unused = file.names().map(String::from).collect();
    Ok((weights, extras, LoadReport { path, unused }))
}

/// Write parameters and extras as one safetensors file.
///
/// # Errors
/// [`Error::Io`] when the disk is full or the path cannot be written.
pub fn write(path: &Path, weights: &Weights, extras: &[Extra]) -> Result<()> {
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    for (spec, values) in weights.specs.iter().zip(&weights.values) {
        let names = stored_names(spec);
        let size = values.len() / names.len();
        for ((name, shape), part) in names.into_iter().zip(values.chunks(size.max(1))) {
            tensors.push((name, shape, bytes(part)));
        }
    }
    for extra in extras {
        tensors.push((extra.name.clone(), extra.shape.clone(), bytes(&extra.values)));
    }
    let distinct: BTreeSet<&str> = tensors.iter().map(|(name, ..)| name.as_str()).collect();
    debug_assert_eq!(distinct.len(), tensors.len(), "names of tensors are distinct");
    let views = tensors.iter().map(|(name, shape, data)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), data);
        view.map(|view| (name.as_str(), view)).map_err(|e| Error::checkpoint(path, format!("cannot be written: {e}")))
    });
    let views = views.collect::<Result<Vec<_>>>()?;
    // transformers refuses files without this key.
    let metadata = std::collections::HashMap::from([("format".to_string(), "pt".to_string())]);
    safetensors::serialize_to_file(views, Some(metadata), path).map_err(|e| match e {
        safetensors::SafeTensorError::IoError(source) => Error::Io { path: path.to_path_buf(), source },
        other => Error::checkpoint(path, format!("cannot be written: {other}")),
    })
}
