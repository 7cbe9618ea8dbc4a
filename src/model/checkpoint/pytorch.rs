//! `pytorch_model.bin`, as `torch.save` writes it, in its two forms.
//!
//! **zip** (torch 1.6 and newer): `NAME/data.pkl` is the pickle, `NAME/data/KEY` the bytes of each
//! storage, stored without compression. **Legacy** (before 1.6): five pickles in a row (magic
//! number, protocol, system, object, keys of the storages) and then each storage: 8 bytes with its
//! number of elements, and the elements.

use std::collections::{BTreeMap, HashMap};
use std::io::BufReader;
use std::path::Path;

use zip::{CompressionMethod, ZipArchive};

use super::format::Format;
use super::pickle::{self, Fault, Heap, Value};
use super::stored::{Contents, DataFile, Stored};
use crate::{Error, Result};

const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;
const PROTOCOL: i128 = 1001;
/// Where training scripts put the parameters when they save other state too.
const NESTED: [&str; 3] = ["state_dict", "model_state_dict", "model"];

/// The position and size of each storage, in bytes.
type Locations<'a> = HashMap<&'a str, (u64, u64)>;

/// The contents of a file: tensors, and the names of other entries.
#[derive(Default)]
struct Listed {
    tensors: Vec<(String, Stored)>,
    others: Vec<String>,
}

/// Add the tensors of a file.
pub(super) fn list(contents: &mut Contents, path: &Path) -> Result<()> {
    let file = DataFile::open(path)?;
    let index = contents.files.len();
    let start = file.slice(0, file.len.min(4))?;
    let listed = match start.as_slice() {
        b"PK\x03\x04" => list_zip(&file, index)?,
        [0x80, ..] => {
            contents.format = Format::PyTorchLegacy;
            list_legacy(&file, index)?
        }
        _ if start.len() < 4 => return Err(Error::checkpoint(path, "is empty or nearly so; fetch it again")),
        _ => return Err(Error::checkpoint(path, "is neither a zip archive nor a pickle, so torch did not write it")),
    };
    contents.files.push(file);
    contents.others.extend(listed.others);
    listed.tensors.into_iter().try_for_each(|(name, stored)| contents.insert(name, stored))
}

fn refused(path: &Path, fault: Fault) -> Error {
    match fault {
        Fault::End => Error::checkpoint(path, "its pickle is cut off; the file is incomplete: fetch it again"),
        Fault::Refused(what) => {
            let advice = "if you trust the file, open it with PyTorch and save the state dict as safetensors";
            Error::checkpoint(path, format!("its pickle {what}; {advice}"))
        }
    }
}

fn list_zip(file: &DataFile, index: usize) -> Result<Listed> {
    let path = &file.path;
    let mut archive =
        ZipArchive::new(BufReader::new(file.reader())).map_err(|e| file.corrupt(format!("not a zip archive ({e})")))?;
    let mut members: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for member in 0..archive.len() {
        let member = archive.by_index_raw(member).map_err(|e| file.corrupt(format!("not a zip archive ({e})")))?;
        let name = member.name().map_err(|e| file.corrupt(format!("not a zip archive ({e})")))?.into_owned();
        if member.compression() != CompressionMethod::Stored || member.encrypted() {
            let message = format!("its member `{name}` is compressed or encrypted, as torch.save never does; not read");
            return Err(Error::checkpoint(path, message));
        }
        let location = member.data_start().map(|start| (start, member.size()));
        let Some((start, size)) =
            location.filter(|(start, size)| start.checked_add(*size).is_some_and(|end| end <= file.len))
        else {
            return Err(file.corrupt(format!("member `{name}` lies outside of the file")));
        };
        members.insert(name, (start, size));
    }
    // In the archive's single folder; TorchScript and others nest deeper.
    let roots = members.iter().filter_map(|(name, location)| Some((name.strip_suffix("data.pkl")?, *location)));
    let mut roots = roots.filter(|(root, _)| root.is_empty() || root.find('/') == Some(root.len() - 1));
    let Some((root, location)) = roots.next() else {
        return Err(Error::checkpoint(path, "is a zip archive without a data.pkl, so torch.save did not write it"));
    };
    if let Some((start, size)) = members.get(&format!("{root}byteorder"))
        && file.slice(*start, (*size).min(16))? != b"little"
    {
        return Err(Error::checkpoint(
            path,
            "was written on a big-endian machine; save it again on a little-endian machine",
        ));
    }
    let bytes = file.slice(location.0, bounded(path, location.1)?)?;
    let pickle = pickle::read(&bytes).map_err(|fault| refused(path, fault))?;
    let data = format!("{root}data/");
    let locations =
        members.iter().filter_map(|(name, location)| Some((name.strip_prefix(&data)?, *location))).collect();
    list_tensors((path, index), &pickle.heap, pickle.root, &locations)
}

fn bounded(path: &Path, size: u64) -> Result<u64> {
    if size <= pickle::MAX_BYTES {
        return Ok(size);
    }
    Err(Error::checkpoint(path, format!("its pickle takes {size} bytes; more than any model needs")))
}

fn list_legacy(file: &DataFile, index: usize) -> Result<Listed> {
    // The length of the pickles is not stored: read more of the file until they fit.
    let mut window = 1 << 18;
    loop {
        let bytes = file.slice(0, file.len.min(window))?;
        match pickles(&bytes) {
            Err(Fault::End) if window < file.len.min(pickle::MAX_BYTES) => window *= 8,
            Err(fault) => return Err(refused(&file.path, fault)),
            Ok(pickles) => return list_storages((file, index), &pickles),
        }
    }
}

/// The object, the keys of its storages, and where these start.
struct Legacy<'a> {
    object: pickle::Pickle<'a>,
    keys: Vec<&'a str>,
    end: usize,
}

fn pickles(bytes: &[u8]) -> std::result::Result<Legacy<'_>, Fault> {
    let mut at = 0;
    let mut next = || {
        let pickle = pickle::read(bytes.get(at..).unwrap_or_default())?;
        at += pickle.length;
        Ok(pickle)
    };
    let refuse = |what: &str| Err(Fault::Refused(what.to_string()));
    let magic = next()?;
    if magic.root != Value::Int(MAGIC) {
        return refuse("does not start with torch's number");
    }
    if next()?.root != Value::Int(PROTOCOL) {
        return refuse("has a protocol of torch that is not known");
    }
    let system = next()?;
    if system.heap.entry(system.root, "little_endian") != Some(Value::Bool(true)) {
        return refuse("was written on a big-endian machine");
    }
    let (object, keys) = (next()?, next()?);
    let Some(keys) = keys.heap.sequence(keys.root).and_then(|list| list.iter().map(text_of).collect()) else {
        return refuse("has no list of storages");
    };
    Ok(Legacy { object, keys, end: at })
}

fn text_of<'a>(value: &Value<'a>) -> Option<&'a str> {
    if let Value::Text(text) = value { Some(text) } else { None }
}

fn list_storages((file, index): (&DataFile, usize), legacy: &Legacy<'_>) -> Result<Listed> {
    let mut declared: HashMap<&str, (usize, usize)> = HashMap::new();
    for storage in &legacy.object.heap.storages {
        declared.insert(storage.key, (storage.elements, storage.dtype.size()));
    }
    let mut locations = Locations::new();
    let mut at = legacy.end as u64;
    for key in &legacy.keys {
        let Some((elements, size)) = declared.get(key) else {
            return Err(file.corrupt(format!("storage `{}` has no type", key.escape_debug())));
        };
        let count: [u8; 8] = file.slice(at, 8)?.try_into().unwrap_or_default();
        if u64::from_le_bytes(count) != *elements as u64 {
            return Err(file.corrupt(format!("storage `{}` has another size than declared", key.escape_debug())));
        }
        let end = (*elements as u64).checked_mul(*size as u64).and_then(|bytes| (at + 8).checked_add(bytes));
        let Some(end) = end.filter(|end| *end <= file.len) else {
            return Err(file
                .corrupt(format!("storage `{}` of {elements} elements continues beyond the end", key.escape_debug())));
        };
        locations.insert(key, (at + 8, end - at - 8));
        at = end;
    }
    list_tensors((&file.path, index), &legacy.object.heap, legacy.object.root, &locations)
}

/// List every tensor of the saved dict, or of the dict of parameters inside it.
fn list_tensors(
    (path, file): (&Path, usize),
    heap: &Heap<'_>,
    root: Value<'_>,
    locations: &Locations<'_>,
) -> Result<Listed> {
    let mut listed = Listed::default();
    let has_tensors =
        |value: &Value<'_>| heap.dict(*value).is_some_and(|dict| dict.iter().any(|(_, v)| heap.tensor(*v).is_some()));
    let mut parameters = root;
    if !has_tensors(&root)
        && let Some(nested) = NESTED.iter().filter_map(|key| heap.entry(root, key)).find(has_tensors)
    {
        let others = heap.dict(root).unwrap_or_default().iter().filter(|(_, value)| *value != nested);
        listed.others.extend(others.filter_map(|(key, _)| text_of(key)).map(String::from));
        parameters = nested;
    }
    let Some(entries) = heap.dict(parameters) else {
        return Err(Error::checkpoint(path, "contains no dict of tensors; save the model's state_dict()"));
    };
    for (key, value) in entries {
        let Some(name) = text_of(key) else {
            return Err(Error::checkpoint(
                path,
                "contains a dict whose keys are not names; save the model's state_dict()",
            ));
        };
        let Some(tensor) = heap.tensor(*value) else {
            listed.others.push(name.to_string());
            continue;
        };
        let storage = tensor.storage;
        let Some((start, bytes)) = locations.get(storage.key) else {
            let message = format!("its storage `{}` is not in the file", storage.key.escape_debug());
            return Err(Error::tensor(path, name, message));
        };
        let size = storage.dtype.size() as u64;
        let needed = (storage.elements as u64).checked_mul(size);
        let offset =
            (storage.view.0 as u64).checked_add(tensor.offset as u64).and_then(|first| first.checked_mul(size));
        let (Some(_), Some(offset)) = (needed.filter(|needed| needed <= bytes), offset) else {
            let message = format!("its storage is said to have {} elements, in {bytes} bytes", storage.elements);
            return Err(Error::tensor(path, name, message));
        };
        let stored = Stored {
            dtype: storage.dtype,
            shape: tensor.shape.clone(),
            strides: tensor.strides.clone(),
            file,
            offset: start + offset.min(*bytes),
            checksum: None,
        };
        // The tensor must lie in its own part of the storage, which lies in the file.
        let room = (storage.view.1 as u64).saturating_sub(tensor.offset as u64).saturating_mul(size);
        if offset > *bytes || !stored.fits(room.min(bytes - offset)) {
            let message = format!("shape {:?} goes beyond its storage of {} elements", tensor.shape, storage.elements);
            return Err(Error::tensor(path, name, message));
        }
        listed.tensors.push((name.to_string(), stored));
    }
    Ok(listed)
}
