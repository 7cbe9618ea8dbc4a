//! The stack machine that executes a pickle's instructions: data in, data out.

use std::collections::HashMap;

use super::value::{Fault, Global, GlobalRef, Heap, Pickle, Storage, Tensor, Value, refuse};

/// The state of a pickle that is being read.
pub(super) struct Machine<'a> {
    input: &'a [u8],
    at: usize,
    stack: Vec<Value<'a>>,
    /// Heights of the stack at each `MARK`.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    heap: Heap<'a>,
}

impl<'a> Machine<'a> {
    /// At the first instruction.
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new(), heap: Heap::default() }
    }

    /// The pickle, with the result of the last instruction.
    pub(super) fn finish(self, root: Value<'a>) -> Pickle<'a> {
        Pickle { root, heap: self.heap, length: self.at }
    }

    /// Execute one instruction; the last one returns the result.
    pub(super) fn step(&mut self) -> Result<Option<Value<'a>>, Fault> {
        let [code] = self.array()?;
        match code {
            b'.' => return self.pop().map(Some),
            // PROTO needs no check: unknown instructions are refused one by one. FRAME is a hint
            // for buffering.
            0x80 => drop(self.array::<1>()?),
            0x95 => drop(self.array::<8>()?),
            b'(' => self.marks.push(self.stack.len()),
            b'N' => self.stack.push(Value::None),
            0x88 => self.stack.push(Value::Bool(true)),
            0x89 => self.stack.push(Value::Bool(false)),
            b'K' => self.array().map(|b| u8::from_le_bytes(b).into()).map(|n| self.stack.push(Value::Int(n)))?,
            b'M' => self.array().map(|b| u16::from_le_bytes(b).into()).map(|n| self.stack.push(Value::Int(n)))?,
            b'J' => self.array().map(|b| i32::from_le_bytes(b).into()).map(|n| self.stack.push(Value::Int(n)))?,
            0x8a => {
                let [size] = self.array()?;
                let value = self.long(size)?;
                self.stack.push(value);
            }
            b'G' => {
                self.array::<8>()?;
                self.stack.push(Value::Float);
            }
            0x8c | b'U' => {
                let [size] = self.array()?;
                self.text(size.into())?;
            }
            b'X' | b'T' => {
                let size = self.array().map(u32::from_le_bytes)?;
                self.text(size as usize)?;
            }
            b')' => self.push_sequence(Vec::new()),
            b']' => self.push_sequence(Vec::new()),
            b't' => {
                let values = self.pop_to_mark()?;
                self.push_sequence(values);
            }
            0x85..=0x87 => {
                let values = self.pop_many(usize::from(code) - 0x84)?;
                self.push_sequence(values);
            }
            b'a' => {
                let value = self.pop()?;
                self.append(vec![value])?;
            }
            b'e' => {
                let values = self.pop_to_mark()?;
                self.append(values)?;
            }
            b'}' => {
                let dict = self.heap.new_dict(Vec::new());
                self.stack.push(dict);
            }
            b's' => {
                let values = self.pop_many(2)?;
                self.set(&values)?;
            }
            b'u' => {
                let values = self.pop_to_mark()?;
                self.set(&values)?;
            }
            b'q' => {
                let [index] = self.array()?;
                self.memorize(index.into())?;
            }
            b'r' => {
                let index = self.array().map(u32::from_le_bytes)?;
                self.memorize(index)?;
            }
            0x94 => {
                let index = u32::try_from(self.memo.len()).map_err(|_| Fault::Refused("is too long".into()))?;
                self.memorize(index)?;
            }
            b'h' => {
                let [index] = self.array()?;
                self.recall(index.into())?;
            }
            b'j' => {
                let index = self.array().map(u32::from_le_bytes)?;
                self.recall(index)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.stack.push(Value::Global(GlobalRef(Global::named(module, name)?)));
            }
            0x93 => match self.pop_many(2)?.as_slice() {
                [Value::Text(module), Value::Text(name)] => {
                    let global = Global::named(module, name)?;
                    self.stack.push(Value::Global(GlobalRef(global)));
                }
                _ => return refuse("asks for a name that is not text"),
            },
            b'R' => {
                let [callable, arguments] = self.pair()?;
                let value = self.reduce(callable, arguments)?;
                self.stack.push(value);
            }
            b'b' => {
                let [object, state] = self.pair()?;
                // Only torch's `_metadata` (version numbers of modules) takes this path.
                if !matches!((object, state), (Value::Dict(_), Value::Dict(_))) {
                    return refuse("sets the state of an object that is not a dict");
                }
                self.stack.push(object);
            }
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.heap.storages.push(storage);
                self.stack.push(Value::Storage(self.heap.storages.len() - 1));
            }
            other => {
                return refuse(format!(
                    "has the instruction {:?} (0x{other:02x}), which no tensor needs; nothing was executed and nothing \
                     loaded",
                    char::from(other)
                ));
            }
        }
        Ok(None)
    }

    fn take(&mut self, size: usize) -> Result<&'a [u8], Fault> {
        let end = self.at.checked_add(size).ok_or(Fault::End)?;
        let bytes = self.input.get(self.at..end).ok_or(Fault::End)?;
        self.at = end;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        self.take(N)?.try_into().map_err(|_| Fault::End)
    }

    fn line(&mut self) -> Result<&'a str, Fault> {
        let rest = self.input.get(self.at..).ok_or(Fault::End)?;
        let Some(length) = rest.iter().take(256).position(|b| *b == b'\n') else {
            return if rest.len() < 256 {
                Err(Fault::End)
            } else {
                refuse("asks for a name of more than 256 characters")
            };
        };
        let line = self.take(length)?;
        self.at += 1;
        std::str::from_utf8(line).map_err(|_| Fault::Refused("asks for a name that is not UTF-8".into()))
    }

    fn text(&mut self, size: usize) -> Result<(), Fault> {
        let bytes = self.take(size)?;
        let text = std::str::from_utf8(bytes).map_err(|_| Fault::Refused("contains text that is not UTF-8".into()))?;
        self.stack.push(Value::Text(text));
        Ok(())
    }

    /// A little-endian two's complement integer of `size` bytes.
    fn long(&mut self, size: u8) -> Result<Value<'a>, Fault> {
        let bytes = self.take(size.into())?;
        let fill = if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
        let mut wide = [fill; 16];
        match wide.get_mut(..bytes.len()) {
            Some(low) => low.copy_from_slice(bytes),
            None => return refuse("contains an integer of more than 16 bytes"),
        }
        Ok(Value::Int(i128::from_le_bytes(wide)))
    }

    fn pop(&mut self) -> Result<Value<'a>, Fault> {
        // The values below a mark belong to the enclosing object.
        if self.marks.last().is_some_and(|mark| self.stack.len() <= *mark) {
            return refuse("takes from an empty stack");
        }
        self.stack.pop().ok_or_else(|| Fault::Refused("takes from an empty stack".into()))
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Value<'a>>, Fault> {
        let mut values = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        values.reverse();
        Ok(values)
    }

    fn pair(&mut self) -> Result<[Value<'a>; 2], Fault> {
        let second = self.pop()?;
        Ok([self.pop()?, second])
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value<'a>>, Fault> {
        match self.marks.pop() {
            Some(mark) if mark <= self.stack.len() => Ok(self.stack.split_off(mark)),
            _ => refuse("goes back to a mark that is not there"),
        }
    }

    fn push_sequence(&mut self, values: Vec<Value<'a>>) {
        let value = self.heap.new_sequence(values);
        self.stack.push(value);
    }

    fn append(&mut self, values: Vec<Value<'a>>) -> Result<(), Fault> {
        match self.stack.last() {
            Some(Value::Sequence(index)) => {
                self.heap.sequences.get_mut(*index).map(|list| list.extend(values)).ok_or(Fault::End)
            }
            _ => refuse("appends to something that is not a list"),
        }
    }

    fn set(&mut self, values: &[Value<'a>]) -> Result<(), Fault> {
        let (pairs, rest) = values.as_chunks();
        match self.stack.last() {
            Some(Value::Dict(index)) if rest.is_empty() => {
                let entries = pairs.iter().map(|[key, value]| (*key, *value));
                self.heap.dicts.get_mut(*index).map(|dict| dict.extend(entries)).ok_or(Fault::End)
            }
            _ => refuse("sets an entry of something that is not a dict"),
        }
    }

    fn memorize(&mut self, index: u32) -> Result<(), Fault> {
        let value = self.pop()?;
        self.stack.push(value);
        self.memo.insert(index, value);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Result<(), Fault> {
        match self.memo.get(&index) {
            Some(value) => self.stack.push(*value),
            None => return refuse("recalls what it did not memorize"),
        }
        Ok(())
    }

    /// The result that a call of one of the allowed names would have.
    fn reduce(&mut self, callable: Value<'a>, arguments: Value<'a>) -> Result<Value<'a>, Fault> {
        let (Value::Global(GlobalRef(global)), Some(arguments)) = (callable, self.heap.sequence(arguments)) else {
            return refuse("calls something that is not a function");
        };
        match (global, arguments) {
            (Global::OrderedDict, []) => Ok(self.heap.new_dict(Vec::new())),
            // Python 2 passes the entries as a list of lists.
            (Global::OrderedDict, [entries]) => {
                let pair = |value: &Value<'a>| match self.heap.sequence(*value) {
                    Some([key, value]) => Ok((*key, *value)),
                    _ => refuse("makes a dict of items that are not pairs"),
                };
                let entries = self.heap.sequence(*entries).unwrap_or_default().iter().map(pair);
                let entries = entries.collect::<Result<Vec<_>, _>>()?;
                Ok(self.heap.new_dict(entries))
            }
            (Global::RebuildTensor, [Value::Storage(storage), offset, size, strides, ..]) => {
                let storage = *self.heap.storages.get(*storage).ok_or(Fault::End)?;
                let numbers = |value: &Value<'a>| {
                    self.heap.sequence(*value).and_then(|values| values.iter().map(|v| number(*v)).collect())
                };
                let (offset, shape, strides) = (number(*offset), numbers(size), numbers(strides));
                let (Some(offset), Some(shape), Some(strides)) = (offset, shape, strides) else {
                    return refuse("makes a tensor whose size or stride is not a tuple of counts");
                };
                let shape: Vec<usize> = shape;
                let strides: Vec<usize> = strides;
                if shape.len() != strides.len() || shape.len() > 16 {
                    return refuse("makes a tensor whose size and stride do not fit");
                }
                self.heap.tensors.push(Tensor { storage, offset, shape, strides });
                Ok(Value::Tensor(self.heap.tensors.len() - 1))
            }
            (Global::RebuildParameter, [tensor @ Value::Tensor(_), ..]) => Ok(*tensor),
            _ => refuse("calls a function with arguments that it does not take"),
        }
    }

    /// `("storage", type, key, location, elements)`, in the legacy form with the view as a sixth.
    fn storage(&self, id: Value<'a>) -> Result<Storage<'a>, Fault> {
        let Some(
            [
                Value::Text("storage"),
                Value::Global(GlobalRef(Global::Storage(dtype))),
                Value::Text(key),
                Value::Text(_),
                elements,
                view @ ..,
            ],
        ) = self.heap.sequence(id)
        else {
            return refuse("refers to an external object that is not a storage");
        };
        let Some(elements) = number(*elements) else { return refuse("refers to a storage without a size") };
        let view = match view {
            [] | [Value::None] => (0, elements),
            [view] => match self.heap.sequence(*view) {
                Some([_, start, length]) => match (number(*start), number(*length)) {
                    (Some(start), Some(length)) => (start, length),
                    _ => return refuse("refers to a part of a storage that is not a range"),
                },
                _ => return refuse("refers to a part of a storage that is not a range"),
            },
            _ => return refuse("refers to an external object that is not a storage"),
        };
        if view.0.checked_add(view.1).is_none_or(|end| end > elements) {
            return refuse("refers to a part of a storage outside of it");
        }
        Ok(Storage { dtype: *dtype, key, elements, view })
    }
}

fn number(value: Value<'_>) -> Option<usize> {
    match value {
        Value::Int(number) => usize::try_from(number).ok(),
        _ => None,
    }
}
