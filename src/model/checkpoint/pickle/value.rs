//! The values that a pickle builds, and the names it may ask for.

use crate::model::checkpoint::stored::Dtype;

/// Why a pickle was not read.
#[derive(Debug, PartialEq)]
pub(in crate::model::checkpoint) enum Fault {
    /// It continues beyond the end of the bytes.
    End,
    /// It does something that no tensor needs, or is malformed.
    Refused(String),
}

pub(super) fn refuse<T>(what: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Refused(what.into()))
}

/// The only names that a pickle may ask for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Global {
    /// `collections.OrderedDict`
    OrderedDict,
    /// `torch._utils._rebuild_tensor`, `_rebuild_tensor_v2`: storage, offset, size, stride, ...
    RebuildTensor,
    /// `torch._utils._rebuild_parameter`: tensor, ...
    RebuildParameter,
    /// `torch.FloatStorage` and its like.
    Storage(Dtype),
}

impl Global {
    pub(super) fn named(module: &str, name: &str) -> Result<Self, Fault> {
        Ok(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Self::RebuildParameter,
            ("torch" | "torch.storage", storage) if storage.ends_with("Storage") => Self::Storage(match storage {
                "DoubleStorage" => Dtype::F64,
                "FloatStorage" => Dtype::F32,
                "HalfStorage" => Dtype::F16,
                "BFloat16Storage" => Dtype::Bf16,
                "LongStorage" => Dtype::Other(8),
                "IntStorage" => Dtype::Other(4),
                "ShortStorage" => Dtype::Other(2),
                "CharStorage" | "ByteStorage" | "BoolStorage" => Dtype::Other(1),
                _ => return refuse(format!("contains a `{module}.{name}`, which no BERT has")),
            }),
            _ => {
                return refuse(format!(
                    "asks for `{}.{}`, which no tensor needs; nothing was executed and nothing loaded",
                    module.escape_debug(),
                    name.escape_debug()
                ));
            }
        })
    }
}

/// A value; larger ones are in the [`Heap`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::model::checkpoint) enum Value<'a> {
    /// `None`
    None,
    /// `True`, `False`
    Bool(bool),
    /// An integer.
    Int(i128),
    /// A float; no tensor needs its value.
    Float,
    /// Text, or a byte string of Python 2.
    Text(&'a str),
    /// Index of a tuple or list.
    Sequence(usize),
    /// Index of a dict.
    Dict(usize),
    /// Index of a tensor.
    Tensor(usize),
    Global(GlobalRef),
    Storage(usize),
}

/// Hides [`Global`] from other modules.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::model::checkpoint) struct GlobalRef(pub(super) Global);

/// A storage that a pickle refers to: a run of numbers elsewhere in the file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::model::checkpoint) struct Storage<'a> {
    /// Element type.
    pub(in crate::model::checkpoint) dtype: Dtype,
    /// Its name.
    pub(in crate::model::checkpoint) key: &'a str,
    /// Its declared number of elements.
    pub(in crate::model::checkpoint) elements: usize,
    /// The part that a view covers, in elements: start and length.
    pub(in crate::model::checkpoint) view: (usize, usize),
}

/// A tensor: a strided view of a storage.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::model::checkpoint) struct Tensor<'a> {
    /// Where its numbers are.
    pub(in crate::model::checkpoint) storage: Storage<'a>,
    /// First element in the storage.
    pub(in crate::model::checkpoint) offset: usize,
    /// Shape.
    pub(in crate::model::checkpoint) shape: Vec<usize>,
    /// Distance in elements between neighbours along each axis.
    pub(in crate::model::checkpoint) strides: Vec<usize>,
}

/// The objects that a pickle built.
#[derive(Debug, Default)]
pub(in crate::model::checkpoint) struct Heap<'a> {
    pub(super) sequences: Vec<Vec<Value<'a>>>,
    pub(super) dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    /// Storages in the order in which they are first referred to.
    pub(in crate::model::checkpoint) storages: Vec<Storage<'a>>,
    pub(super) tensors: Vec<Tensor<'a>>,
}

impl<'a> Heap<'a> {
    /// The elements of a tuple or list.
    pub(in crate::model::checkpoint) fn sequence(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        let Value::Sequence(index) = value else { return None };
        self.sequences.get(index).map(Vec::as_slice)
    }

    /// The entries of a dict.
    pub(in crate::model::checkpoint) fn dict(&self, value: Value<'a>) -> Option<&[(Value<'a>, Value<'a>)]> {
        let Value::Dict(index) = value else { return None };
        self.dicts.get(index).map(Vec::as_slice)
    }

    /// The last value under a text key of a dict.
    pub(in crate::model::checkpoint) fn entry(&self, value: Value<'a>, key: &str) -> Option<Value<'a>> {
        self.dict(value)?.iter().rev().find(|(k, _)| *k == Value::Text(key)).map(|(_, value)| *value)
    }

    /// A tensor.
    pub(in crate::model::checkpoint) fn tensor(&self, value: Value<'a>) -> Option<&Tensor<'a>> {
        let Value::Tensor(index) = value else { return None };
        self.tensors.get(index)
    }

    pub(super) fn new_sequence(&mut self, values: Vec<Value<'a>>) -> Value<'a> {
        self.sequences.push(values);
        Value::Sequence(self.sequences.len() - 1)
    }

    pub(super) fn new_dict(&mut self, entries: Vec<(Value<'a>, Value<'a>)>) -> Value<'a> {
        self.dicts.push(entries);
        Value::Dict(self.dicts.len() - 1)
    }
}

/// A finished pickle.
#[derive(Debug)]
pub(in crate::model::checkpoint) struct Pickle<'a> {
    /// Its object.
    pub(in crate::model::checkpoint) root: Value<'a>,
    /// All objects that it refers to.
    pub(in crate::model::checkpoint) heap: Heap<'a>,
    /// Its length in bytes.
    pub(in crate::model::checkpoint) length: usize,
}
