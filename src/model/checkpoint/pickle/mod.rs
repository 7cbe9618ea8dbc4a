//! A reader of the few pickles that torch writes for tensors. It builds data and never calls anything.
//!
//! A pickle is a program for a small stack machine, and Python's own reader will import and call whatever it names. This
//! one knows the instructions that build numbers, text, tuples, lists and dicts, and the handful of names in [`Global`];
//! at the first other instruction or name it stops with an error that says which. Values are small and refer to each
//! other by index, so nothing recurses, nothing is copied deeply, and memory is bounded by [`MAX_STEPS`].

mod machine;

use super::stored::Dtype;
use machine::Machine;

/// Longest pickle that is looked at. BERT's take 100 KB.
pub(super) const MAX_BYTES: u64 = 16 << 20;
/// Most instructions that are followed. BERT-large takes 15,000.
const MAX_STEPS: usize = 250_000;

/// Why a pickle was not read.
#[derive(Debug, PartialEq)]
pub(super) enum Fault {
    /// It goes on after the end of the bytes.
    End,
    /// It does something that no tensor needs, or makes no sense.
    Refused(String),
}

fn refuse<T>(what: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Refused(what.into()))
}

/// The only names that a pickle may ask for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Global {
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
    fn named(module: &str, name: &str) -> Result<Self, Fault> {
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
                _ => return refuse(format!("holds a `{module}.{name}`, which no BERT has")),
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

/// A value; what does not fit in a few bytes is in the [`Heap`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
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

/// Keeps [`Global`] out of what other modules can match on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct GlobalRef(Global);

/// A storage that a pickle refers to: a run of numbers elsewhere in the file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Storage<'a> {
    /// Element type.
    pub(super) dtype: Dtype,
    /// Its name.
    pub(super) key: &'a str,
    /// Elements that the whole of it is said to have.
    pub(super) elements: usize,
    /// The part that is meant, in elements: start and length.
    pub(super) view: (usize, usize),
}

/// A tensor: a strided view of a storage.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tensor<'a> {
    /// Where its numbers are.
    pub(super) storage: Storage<'a>,
    /// First element in the storage.
    pub(super) offset: usize,
    /// Shape.
    pub(super) shape: Vec<usize>,
    /// Distance in elements between neighbours along each axis.
    pub(super) strides: Vec<usize>,
}

/// What a pickle built.
#[derive(Debug, Default)]
pub(super) struct Heap<'a> {
    sequences: Vec<Vec<Value<'a>>>,
    dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    /// Storages in the order in which they are first referred to.
    pub(super) storages: Vec<Storage<'a>>,
    tensors: Vec<Tensor<'a>>,
}

impl<'a> Heap<'a> {
    /// The elements of a tuple or list.
    pub(super) fn sequence(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        let Value::Sequence(index) = value else { return None };
        self.sequences.get(index).map(Vec::as_slice)
    }

    /// The entries of a dict.
    pub(super) fn dict(&self, value: Value<'a>) -> Option<&[(Value<'a>, Value<'a>)]> {
        let Value::Dict(index) = value else { return None };
        self.dicts.get(index).map(Vec::as_slice)
    }

    /// The last value under a text key of a dict.
    pub(super) fn entry(&self, value: Value<'a>, key: &str) -> Option<Value<'a>> {
        self.dict(value)?.iter().rev().find(|(k, _)| *k == Value::Text(key)).map(|(_, value)| *value)
    }

    /// A tensor.
    pub(super) fn tensor(&self, value: Value<'a>) -> Option<&Tensor<'a>> {
        let Value::Tensor(index) = value else { return None };
        self.tensors.get(index)
    }

    fn new_sequence(&mut self, values: Vec<Value<'a>>) -> Value<'a> {
        self.sequences.push(values);
        Value::Sequence(self.sequences.len() - 1)
    }

    fn new_dict(&mut self, entries: Vec<(Value<'a>, Value<'a>)>) -> Value<'a> {
        self.dicts.push(entries);
        Value::Dict(self.dicts.len() - 1)
    }
}

/// A finished pickle.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    /// The object it is about.
    pub(super) root: Value<'a>,
    /// Everything it refers to.
    pub(super) heap: Heap<'a>,
    /// Bytes that it took.
    pub(super) length: usize,
}

/// Read the pickle at the start of `input`.
pub(super) fn read(input: &[u8]) -> Result<Pickle<'_>, Fault> {
    let mut machine = Machine::new(input);
    for _ in 0..MAX_STEPS {
        if let Some(root) = machine.step()? {
            return Ok(machine.finish(root));
        }
    }
    refuse(format!("has more than {MAX_STEPS} instructions, which no BERT needs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(pickle: &[u8]) -> String {
        match read(pickle) {
            Err(Fault::Refused(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_that_no_tensor_needs_are_refused_before_anything_else() {
        for (pickle, name) in [
            (&b"cos\nsystem\n(S'true'\ntR."[..], "os.system"),
            (b"\x80\x02cposix\nsystem\nq\x00X\x04\x00\x00\x00trueq\x01\x85q\x02Rq\x03.", "posix.system"),
            (b"\x80\x02cbuiltins\neval\nq\x00.", "builtins.eval"),
            (b"\x80\x04\x8c\x08builtins\x94\x8c\x04exec\x94\x93.", "builtins.exec"),
            (b"\x80\x02ctorch\nload\n.", "torch.load"),
            (b"\x80\x02ctorch.storage\n_load_from_bytes\n.", "torch.storage._load_from_bytes"),
            (b"\x80\x02ctorch._utils\n_rebuild_wrapper_subclass\n.", "_rebuild_wrapper_subclass"),
            (b"\x80\x02ctorch\nSomeStorage\n.", "torch.SomeStorage"),
            (b"\x80\x02ccollections\ndefaultdict\n.", "collections.defaultdict"),
            // Nested: the inner call would be an argument of an allowed one.
            (b"\x80\x02ccollections\nOrderedDict\n(cos\nsystem\n", "os.system"),
        ] {
            assert!(refused(pickle).contains(name), "{name}: {}", refused(pickle));
        }
    }

    #[test]
    fn instructions_that_no_tensor_needs() {
        // INST, OBJ, NEWOBJ, NEWOBJ_EX, EXT1, PERSID (text), DUP, POP, BUILDs on other things.
        for pickle in
            [&b"(ios\nsystem\n."[..], b"(o.", b"\x81.", b"\x92.", b"\x82\x01.", b"Pid\n.", b"2.", b"0.", b"]}b."]
        {
            refused(pickle);
        }
        // Stacks and marks that are not there, calls of data, foreign persistent ids.
        for pickle in [&b"."[..], b"t.", b"K\x01a.", b"}K\x01s.", b"h\x07.", b"))R.", b"NQ.", b"(K\x01(.", b"N(0."] {
            refused(pickle);
        }
    }

    #[test]
    fn integers_of_every_width() {
        fn int(pickle: &[u8]) -> Result<Value<'_>, Fault> {
            read(pickle).map(|p| p.root)
        }
        assert_eq!(int(b"K\xff."), Ok(Value::Int(255)));
        assert_eq!(int(b"M\x01\x02."), Ok(Value::Int(513)));
        assert_eq!(int(b"J\xff\xff\xff\xff."), Ok(Value::Int(-1)));
        assert_eq!(int(b"\x8a\x00."), Ok(Value::Int(0)));
        assert_eq!(int(b"\x8a\x01\x80."), Ok(Value::Int(-128)));
        assert_eq!(int(b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."), Ok(Value::Int(0x1950_a86a_20f9_469c_fc6c)));
        assert!(refused(b"\x8a\x11aaaaaaaaaaaaaaaaa.").contains("16 bytes"));
    }

    #[test]
    fn loops_and_depth_cost_nothing() {
        // A list that holds itself, and tuples nested as deep as the limits allow: nothing recurses.
        assert!(read(b"]q\x00h\x00a.").is_ok());
        let mut deep = b"N".to_vec();
        deep.extend(std::iter::repeat_n(0x85, MAX_STEPS - 10));
        deep.push(b'.');
        assert!(read(&deep).is_ok());
        deep.splice(1..1, std::iter::repeat_n(0x85, 20));
        assert!(refused(&deep).contains("instructions"));
    }
}
