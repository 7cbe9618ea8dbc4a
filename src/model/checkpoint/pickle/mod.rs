//! A reader of the few pickles that torch writes for tensors. It builds data and never calls
//! anything. It is ours because crates that read pickles do not bound time, memory and names as
//! this one does.
//!
//! A pickle is a program for a small stack machine, and Python's own reader imports and calls
//! whatever it names. This one supports the instructions that build numbers, text, tuples, lists
//! and dicts, and the few names in [`Global`]; at any other instruction or name it stops with an
//! error that names it. Values are small and refer to each other by index, so nothing recurses,
//! nothing is copied deeply, and memory is bounded by [`MAX_STEPS`].

mod machine;
mod value;

use machine::Machine;
use value::refuse;

pub(super) use value::{Fault, Heap, Pickle, Value};

/// Longest pickle that is read. BERT's take 100 KB.
pub(super) const MAX_BYTES: u64 = 16 << 20;
/// Most instructions that are executed. BERT-large takes 15,000.
const MAX_STEPS: usize = 250_000;

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
        // A list that contains itself, and tuples nested as deep as the limits allow: nothing recurses.
        assert!(read(b"]q\x00h\x00a.").is_ok());
        let mut deep = b"N".to_vec();
        deep.extend(std::iter::repeat_n(0x85, MAX_STEPS - 10));
        deep.push(b'.');
        assert!(read(&deep).is_ok());
        deep.splice(1..1, std::iter::repeat_n(0x85, 20));
        assert!(refused(&deep).contains("instructions"));
    }
}
