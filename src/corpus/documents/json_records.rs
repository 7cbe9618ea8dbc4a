//! Splits a JSON file into its documents, by its brackets alone. They are the elements of a
//! collection's list `documents` (or PubTator's `PubTator3`), the elements of a list, or values one
//! after the other.
//!
//! Ours, because the documents are needed one by one from a stream, as the bytes in the file (they
//! are written back unchanged), with their lines and a limit of 64 MiB each: serde_json reads a
//! list only as a whole, and one malformed document would cost the file.

use std::mem;
use std::sync::Arc;

use super::bytes::{Bytes, RECORD_LIMIT, Stop};

/// The lists of documents in a collection.
const LISTS: [&[u8]; 2] = [b"documents", b"PubTator3"];

/// How much of a key is stored: more than the longest of [`LISTS`].
const KEY_LIMIT: usize = 16;

pub(super) struct Splitter {
    bytes: Bytes,
    /// Opening brackets that are not closed yet.
    open: Vec<u8>,
    state: State,
    header: Arc<str>,
}

/// The part of the file that the next byte belongs to.
#[derive(Default)]
enum State {
    /// Between values: at the top of the file, or in a list of documents or collections.
    #[default]
    Between,
    /// In a document, or in a collection before its list of documents. `key` is the last string
    /// directly inside the value, where the keys of a collection are.
    Value { value: Value, key: Vec<u8> },
    /// Between the documents of a collection.
    Documents,
    /// In a document of a collection.
    Document(Value),
    /// In a collection after its list of documents. `depth` is the number of brackets around the
    /// collection.
    Rest { depth: usize },
}

/// A value that is being read.
struct Value {
    bytes: Vec<u8>,
    /// The line of its first byte.
    line: usize,
    /// Number of brackets around it.
    depth: usize,
    /// Whether it is larger than the limit, so that `bytes` is incomplete.
    large: bool,
}

impl Value {
    fn new(first: u8, line: usize, depth: usize) -> Self {
        Self { bytes: vec![first], line, depth, large: false }
    }

    fn push(&mut self, byte: u8) {
        if self.bytes.len() < RECORD_LIMIT {
            self.bytes.push(byte);
        } else {
            self.large = true;
        }
    }
}

impl Splitter {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self { bytes, open: Vec::new(), state: State::Between, header: "".into() }
    }

    /// The fields of the collection before its list of documents.
    pub(super) fn header(&self) -> Arc<str> {
        self.header.clone()
    }

    fn malformed<T>(&self, message: &str) -> Result<T, Stop> {
        Err(Stop::Malformed(self.bytes.line(), message.to_owned()))
    }

    /// The next document, with its line.
    pub(super) fn next(&mut self) -> Result<Option<(usize, Vec<u8>)>, Stop> {
        loop {
            let line = self.bytes.line();
            let Some(byte) = self.bytes.next()? else {
                return match self.open.is_empty() {
                    true => Ok(None),
                    false => self.malformed("the file ends in the middle of the JSON; its last document is lost"),
                };
            };
            match byte {
                b'"' => self.string()?,
                b'{' | b'[' => self.opening(byte, line),
                b'}' | b']' => match self.closing(byte)? {
                    Some(Value { line, large: true, .. }) => return Err(Stop::TooLarge(line)),
                    Some(Value { line, bytes, .. }) => return Ok(Some((line, bytes))),
                    None => {}
                },
                _ => match &mut self.state {
                    State::Value { value, .. } | State::Document(value) => value.push(byte),
                    State::Rest { .. } => {}
                    State::Between | State::Documents => {
                        if !matches!(byte, b',' | b' ' | b'\t' | b'\r' | b'\n') {
                            return self.malformed("is not JSON of documents: a document must be an object in {}");
                        }
                    }
                },
            }
        }
    }

    /// An opening bracket at `line`.
    fn opening(&mut self, byte: u8, line: usize) {
        let depth = self.open.len();
        self.open.push(byte);
        match &mut self.state {
            // A list of documents or collections: its elements are read as if they were at the top.
            State::Between if byte == b'[' => {}
            State::Between => self.state = State::Value { value: Value::new(byte, line, depth), key: Vec::new() },
            State::Value { value, key }
                if byte == b'[' && depth == value.depth + 1 && LISTS.contains(&key.as_slice()) =>
            {
                self.header = String::from_utf8_lossy(&value.bytes).into();
                self.state = State::Documents;
            }
            State::Documents => self.state = State::Document(Value::new(byte, line, depth)),
            State::Value { value, .. } | State::Document(value) => value.push(byte),
            State::Rest { .. } => {}
        }
    }

    /// A closing bracket. Returns the document that ends with it, if one does.
    fn closing(&mut self, byte: u8) -> Result<Option<Value>, Stop> {
        let opening = if byte == b'}' { b'{' } else { b'[' };
        if self.open.pop() != Some(opening) {
            return self.malformed("is not well-formed JSON: a closing bracket without its opening one");
        }
        let depth = self.open.len();
        if let State::Value { value, .. } | State::Document(value) = &mut self.state {
            value.push(byte);
        }
        let (next, ended) = match mem::take(&mut self.state) {
            State::Value { value, .. } if depth == value.depth => (State::Between, Some(value)),
            State::Document(value) if depth == value.depth => (State::Documents, Some(value)),
            // The collection around the list is still open.
            State::Documents => (State::Rest { depth: depth - 1 }, None),
            State::Rest { depth: around } if depth == around => (State::Between, None),
            same => (same, None),
        };
        self.state = next;
        Ok(ended)
    }

    /// Read a string to its end; its opening quote has been read.
    fn string(&mut self) -> Result<(), Stop> {
        let depth = self.open.len();
        let is_key = match &mut self.state {
            State::Between if depth == 0 => {
                return self.malformed("is not JSON of documents: there is a string instead of a document");
            }
            State::Documents => {
                return self.malformed("an element of the list of documents is a string, not a document");
            }
            State::Value { value, .. } => depth == value.depth + 1,
            _ => false,
        };
        self.push(b'"');
        let (mut content, mut escaped) = (Vec::new(), false);
        loop {
            let Some(byte) = self.bytes.next()? else {
                return self.malformed("the file ends in the middle of a JSON string; its last document is lost");
            };
            self.push(byte);
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => break,
                _ if is_key && content.len() < KEY_LIMIT => content.push(byte),
                _ => {}
            }
        }
        if let State::Value { key, .. } = &mut self.state
            && is_key
        {
            *key = content;
        }
        Ok(())
    }

    fn push(&mut self, byte: u8) {
        if let State::Value { value, .. } | State::Document(value) = &mut self.state {
            value.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DocumentFormat, Records};

    fn split(content: &str) -> Vec<Result<(usize, String), String>> {
        let records = Records::of(DocumentFormat::BiocJson, content.as_bytes());
        let show = |record: crate::Result<super::super::Record>| match record {
            Ok(record) => Ok((record.line, String::from_utf8(record.raw).unwrap())),
            Err(error) => Err(error.to_string()),
        };
        records.map(show).collect()
    }

    fn records(content: &str) -> Vec<(usize, String)> {
        split(content).into_iter().map(|found| found.expect(content)).collect()
    }

    fn is(found: &[(usize, String)], expected: &[(usize, &str)]) {
        let found: Vec<(usize, &str)> = found.iter().map(|(line, raw)| (*line, raw.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn collections_lists_exports_and_lines() {
        let text = "{\"source\": \"[{\", \"documents\": [\n {\"id\": \"1\", \"passages\": []},\n{\"id\": \"}\\\"]\"}], \"x\": [{}]}";
        is(&records(text), &[(2, "{\"id\": \"1\", \"passages\": []}"), (3, "{\"id\": \"}\\\"]\"}")]);
        is(
            &records("[{\"id\":1},\n{\"documents\":[{\"id\":2}]}, {\"id\":3}]"),
            &[(1, "{\"id\":1}"), (2, "{\"id\":2}"), (2, "{\"id\":3}")],
        );
        is(&records("{\"PubTator3\": [{\"id\":1}]}"), &[(1, "{\"id\":1}")]);
        is(
            &records("{\"id\":1,\"passages\":[{\"documents\":[1]}]}\n{\"documents\":[{\"id\":2}]}\n{\"id\":3}\n"),
            &[(1, "{\"id\":1,\"passages\":[{\"documents\":[1]}]}"), (2, "{\"id\":2}"), (3, "{\"id\":3}")],
        );
        assert!(records("").is_empty() && records(" \n").is_empty() && records("[]").is_empty());
        assert!(records("{\"documents\": []}").is_empty());
    }

    #[test]
    fn malformed_json_is_reported_with_its_line() {
        for (text, part) in [
            ("{\"documents\": [{\"id\": 1},\n{\"id\":", "memory:2: the file ends in the middle"),
            ("{\"id\": \"1", "memory:1: the file ends in the middle of a JSON string"),
            ("[1]", "memory:1: is not JSON of documents"),
            ("\n\"a\"", "memory:2: is not JSON of documents"),
            ("{\"a\": [}", "memory:1: is not well-formed JSON"),
            ("]", "memory:1: is not well-formed JSON"),
            ("1|t|A title\n", "memory:1: is not JSON of documents"),
        ] {
            let found = split(text);
            let message = found.last().unwrap().as_ref().unwrap_err();
            assert!(message.starts_with(part), "{text}: {message}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_input_ends_without_a_panic(text in "[\\[\\]{}\",:\\\\ a1\\n]{0,40}") {
            let _ = split(&text);
            let _ = split(&format!("{{\"documents\": [{text}"));
        }

        #[test]
        fn documents_are_returned_unchanged(ids in proptest::collection::vec("[\\PC\"\\\\]{0,8}", 0..6)) {
            let documents: Vec<String> =
                ids.iter().map(|id| serde_json::json!({"id": id, "passages": [{"text": id}]}).to_string()).collect();
            for text in [
                documents.join("\n"),
                format!("[{}]", documents.join(",")),
                format!("{{\"source\": \"\", \"documents\": [{}], \"infons\": {{}}}}", documents.join(", ")),
            ] {
                let found: Vec<String> = records(&text).into_iter().map(|(_, raw)| raw).collect();
                proptest::prop_assert_eq!(&found, &documents);
            }
        }
    }
}
