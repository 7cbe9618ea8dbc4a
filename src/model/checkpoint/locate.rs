//! Which files of a model directory contain its weights.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use super::format::{Format, WEIGHTS_FILE};
use super::stored::Contents;
use super::{flax, pytorch, safetensors, tensorflow};
use crate::{Error, Result};

const SHARDED: &str = "model.safetensors.index.json";
const TORCH: &str = "pytorch_model.bin";
const TORCH_SHARDED: &str = "pytorch_model.bin.index.json";
const FLAX: &str = "flax_model.msgpack";
/// Longest index of shards that is read.
const LONGEST_INDEX: u64 = 64 << 20;

/// List the tensors of a directory's weights. Of several formats the first is used: safetensors,
/// `pytorch_model.bin`, TensorFlow, Flax; within the first two a single file before a sharded one.
pub(super) fn open(directory: &Path) -> Result<Contents> {
    let existing = |name: &str| Some(directory.join(name)).filter(|path| path.is_file());
    if let Some(path) = existing(WEIGHTS_FILE) {
        return one(Format::Safetensors, &path, safetensors::list);
    }
    if let Some(index) = existing(SHARDED) {
        return sharded(Format::Safetensors, directory, &index, safetensors::list);
    }
    if let Some(path) = existing(TORCH) {
        return one(Format::PyTorch, &path, pytorch::list);
    }
    if let Some(index) = existing(TORCH_SHARDED) {
        return sharded(Format::PyTorch, directory, &index, pytorch::list);
    }
    if let Some(index) = tensorflow_index(directory)? {
        return one(Format::TensorFlow, &index, tensorflow::list);
    }
    if let Some(path) = existing(FLAX) {
        return one(Format::Flax, &path, flax::list);
    }
    let keras = if existing("tf_model.h5").is_some() { "; tf_model.h5 (Keras) is not read" } else { "" };
    let message = format!(
        "no weights here: looked for {WEIGHTS_FILE}, {SHARDED}, {TORCH}, {TORCH_SHARDED}, a TensorFlow checkpoint \
         (*.index) and {FLAX}{keras}"
    );
    Err(Error::checkpoint(directory, message))
}

type List = fn(&mut Contents, &Path) -> Result<()>;

fn one(format: Format, path: &Path, list: List) -> Result<Contents> {
    let mut contents = Contents::new(format, path);
    list(&mut contents, path)?;
    Ok(contents)
}

/// The shards that an index names, as transformers writes it: `weight_map` gives the file of each
/// tensor.
fn sharded(format: Format, directory: &Path, index: &Path, list: List) -> Result<Contents> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let size = std::fs::metadata(index).map_err(Error::io(index))?.len();
    if size > LONGEST_INDEX {
        return Err(Error::checkpoint(index, format!("an index of {size} bytes; more than any model needs")));
    }
    let text = std::fs::read_to_string(index).map_err(Error::io(index))?;
    let weights: Index = serde_json::from_str(&text)
        .map_err(|e| Error::checkpoint(index, format!("not an index of shards ({e}); fetch it again")))?;
    let mut contents = Contents::new(format, index);
    for name in weights.weight_map.values().collect::<BTreeSet<_>>() {
        let mut parts = Path::new(name).components();
        let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) && !name.contains('\\');
        if !plain {
            let message = format!("names the file `{}`, which is not in its own directory", name.escape_debug());
            return Err(Error::checkpoint(index, message));
        }
        let path = directory.join(name);
        if !path.is_file() {
            let message = format!("its part `{name}` is missing; fetch it into the same directory");
            return Err(Error::checkpoint(index, message));
        }
        list(&mut contents, &path)?;
    }
    for (tensor, file) in &weights.weight_map {
        if !contents.tensors.contains_key(tensor) {
            return Err(Error::tensor(index, tensor, format!("is not in `{file}`, although the index says so")));
        }
    }
    Ok(contents)
}

/// The index of the directory's TensorFlow checkpoint. Of several, the file `checkpoint` names the
/// current one.
fn tensorflow_index(directory: &Path) -> Result<Option<PathBuf>> {
    let entries = std::fs::read_dir(directory).map_err(Error::io(directory))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()).map_err(Error::io(directory)));
    let mut found = paths.collect::<Result<Vec<_>>>()?;
    found.retain(|path| path.extension().is_some_and(|extension| extension == "index") && path.is_file());
    found.sort();
    if found.len() < 2 {
        return Ok(found.pop());
    }
    // The first line reads: model_checkpoint_path: "model.ckpt-1000000"
    let latest = std::fs::read_to_string(directory.join("checkpoint")).unwrap_or_default();
    let latest = latest.lines().find_map(|line| line.strip_prefix("model_checkpoint_path:"));
    let latest = latest.map(|name| name.trim().trim_matches('"')).and_then(|name| Path::new(name).file_name());
    if let Some(path) = found.iter().find(|path| latest.is_some() && path.file_stem() == latest) {
        return Ok(Some(path.clone()));
    }
    let names: Vec<_> = found.iter().filter_map(|path| path.file_name()).map(|name| name.to_string_lossy()).collect();
    let message = format!("contains several TensorFlow checkpoints ({}); keep one of them here", names.join(", "));
    Err(Error::checkpoint(directory, message))
}
