//! The documents of a BioC-JSON file one by one, found by brackets alone: elements of the list `documents` (or PubTator's
//! `PubTator3`) of a collection, elements of a list, or whole values, one after the other.

use std::sync::Arc;

use super::bytes::{Bytes, RECORD_LIMIT, Stop};

/// The lists of a collection that hold documents.
const LISTS: [&[u8]; 2] = [b"documents", b"PubTator3"];

pub(super) struct Splitter {
    bytes: Bytes,
    /// Opening brackets that are not closed.
    open: Vec<u8>,
    /// Depth of the brackets outside of the value that is being kept.
    base: usize,
    /// The value that is being kept: a document, or a collection whose list has not come yet.
    kept: Vec<u8>,
    /// Where `kept` starts.
    line: usize,
    /// Depth inside the list of documents, while there.
    list: Option<usize>,
    /// The last string at the depth where a collection's keys stand.
    key: Vec<u8>,
    header: Arc<str>,
    large: bool,
}

impl Splitter {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self {
            bytes,
            open: Vec::new(),
            base: 0,
            kept: Vec::new(),
            line: 1,
            list: None,
            key: Vec::new(),
            header: "".into(),
            large: false,
        }
    }

    /// What stands in the collection before its list of documents.
    pub(super) fn header(&self) -> Arc<str> {
        self.header.clone()
    }

    fn broken<T>(&self, message: &str) -> Result<T, Stop> {
        Err(Stop::Broken(self.bytes.line(), message.to_owned()))
    }

    fn keep(&mut self, byte: u8) {
        if self.kept.len() < RECORD_LIMIT {
            self.kept.push(byte);
        } else {
            self.large = true;
        }
    }

    /// The next document, with its line.
    pub(super) fn next(&mut self) -> Result<Option<(usize, Vec<u8>)>, Stop> {
        loop {
            let line = self.bytes.line();
            let Some(byte) = self.bytes.next()? else {
                return match self.open.is_empty() {
                    true => Ok(None),
                    false => self.broken("the file ends in the middle of the JSON; its last document is lost"),
                };
            };
            let keeping = self.open.len() > self.base;
            match byte {
                b'"' => {
                    if !keeping && self.list.is_some() {
                        return self.broken("an element of the list of documents is a string, not a document");
                    }
                    if !keeping && self.open.is_empty() {
                        return self.broken("is not BioC-JSON: a string stands where a document should");
                    }
                    self.string(keeping)?;
                }
                b'{' | b'[' => {
                    let depth = self.open.len();
                    let list = byte == b'[' && self.list.is_none() && depth == self.base + 1 && self.is_list_key();
                    if list {
                        self.header = String::from_utf8_lossy(&std::mem::take(&mut self.kept)).into_owned().into();
                        self.open.push(byte);
                        self.list = Some(depth + 1);
                        self.base = depth + 1;
                        continue;
                    }
                    // A list of documents or collections; what stands in it is looked at like what stands outside.
                    if byte == b'[' && depth == self.base && self.list.is_none() {
                        self.open.push(byte);
                        self.base = depth + 1;
                        continue;
                    }
                    if depth == self.base {
                        (self.line, self.large) = (line, false);
                        self.kept.clear();
                        self.key.clear();
                    }
                    self.open.push(byte);
                    self.keep(byte);
                }
                b'}' | b']' => {
                    let opening = if byte == b'}' { b'{' } else { b'[' };
                    if self.open.pop() != Some(opening) {
                        return self.broken("is not well-formed JSON: a closing bracket without its opening one");
                    }
                    if self.list == Some(self.open.len() + 1) {
                        // The list ends; what follows in the collection is passed over.
                        self.list = None;
                        self.base = self.open.len() - 1;
                        self.kept.clear();
                        self.key = b"\0".to_vec();
                        continue;
                    }
                    if keeping {
                        self.keep(byte);
                    }
                    if self.open.len() < self.base {
                        self.base = self.open.len();
                    } else if keeping && self.open.len() == self.base {
                        let passed = self.key == b"\0";
                        let kept = std::mem::take(&mut self.kept);
                        if passed {
                            self.key.clear();
                            continue;
                        }
                        return if self.large { Err(Stop::TooLarge(self.line)) } else { Ok(Some((self.line, kept))) };
                    }
                }
                _ if keeping => self.keep(byte),
                b',' | b' ' | b'\t' | b'\r' | b'\n' => {}
                _ => return self.broken("is not BioC-JSON: a document must be an object in {}"),
            }
        }
    }

    /// Whether the last key is that of a list of documents.
    fn is_list_key(&self) -> bool {
        LISTS.contains(&self.key.as_slice())
    }

    /// Pass over a string, whose opening quote has been read.
    fn string(&mut self, keeping: bool) -> Result<(), Stop> {
        let at_keys = self.open.len() == self.base + 1 && self.key != b"\0";
        let mut content = Vec::new();
        if keeping {
            self.keep(b'"');
        }
        let mut escaped = false;
        loop {
            let Some(byte) = self.bytes.next()? else {
                return self.broken("the file ends in the middle of a JSON string; its last document is lost");
            };
            if keeping {
                self.keep(byte);
            }
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => break,
                _ if at_keys && content.len() < 16 => content.push(byte),
                _ => {}
            }
        }
        if at_keys {
            self.key = content;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Format, Records};

    fn split(content: &str) -> Vec<Result<(usize, String), String>> {
        let records = Records::of(Format::BiocJson, content.as_bytes());
        let show = |record: crate::Result<super::super::Record>| match record {
            Ok(record) => Ok((record.line, String::from_utf8(record.raw).unwrap())),
            Err(error) => Err(error.to_string()),
        };
        records.map(show).collect()
    }

    fn whole(content: &str) -> Vec<(usize, String)> {
        split(content).into_iter().map(|found| found.expect(content)).collect()
    }

    fn is(found: &[(usize, String)], expected: &[(usize, &str)]) {
        let found: Vec<(usize, &str)> = found.iter().map(|(line, raw)| (*line, raw.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn collections_lists_exports_and_lines() {
        let text = "{\"source\": \"[{\", \"documents\": [\n {\"id\": \"1\", \"passages\": []},\n{\"id\": \"}\\\"]\"}], \"x\": [{}]}";
        is(&whole(text), &[(2, "{\"id\": \"1\", \"passages\": []}"), (3, "{\"id\": \"}\\\"]\"}")]);
        is(
            &whole("[{\"id\":1},\n{\"documents\":[{\"id\":2}]}, {\"id\":3}]"),
            &[(1, "{\"id\":1}"), (2, "{\"id\":2}"), (2, "{\"id\":3}")],
        );
        is(&whole("{\"PubTator3\": [{\"id\":1}]}"), &[(1, "{\"id\":1}")]);
        is(
            &whole("{\"id\":1,\"passages\":[{\"documents\":[1]}]}\n{\"documents\":[{\"id\":2}]}\n{\"id\":3}\n"),
            &[(1, "{\"id\":1,\"passages\":[{\"documents\":[1]}]}"), (2, "{\"id\":2}"), (3, "{\"id\":3}")],
        );
        assert!(whole("").is_empty() && whole(" \n").is_empty() && whole("[]").is_empty());
        assert!(whole("{\"documents\": []}").is_empty());
    }

    #[test]
    fn what_is_not_json_is_told_with_its_line() {
        for (text, part) in [
            ("{\"documents\": [{\"id\": 1},\n{\"id\":", "memory:2: the file ends in the middle"),
            ("{\"id\": \"1", "memory:1: the file ends in the middle of a JSON string"),
            ("[1]", "memory:1: is not BioC-JSON"),
            ("\n\"a\"", "memory:2: is not BioC-JSON"),
            ("{\"a\": [}", "memory:1: is not well-formed JSON"),
            ("]", "memory:1: is not well-formed JSON"),
            ("1|t|A title\n", "memory:1: is not BioC-JSON"),
        ] {
            let found = split(text);
            let message = found.last().unwrap().as_ref().unwrap_err();
            assert!(message.starts_with(part), "{text}: {message}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic_and_it_always_ends(text in "[\\[\\]{}\",:\\\\ a1\\n]{0,40}") {
            let _ = split(&text);
            let _ = split(&format!("{{\"documents\": [{text}"));
        }

        #[test]
        fn documents_come_out_as_they_went_in(ids in proptest::collection::vec("[\\PC\"\\\\]{0,8}", 0..6)) {
            let documents: Vec<String> =
                ids.iter().map(|id| serde_json::json!({"id": id, "passages": [{"text": id}]}).to_string()).collect();
            for text in [
                documents.join("\n"),
                format!("[{}]", documents.join(",")),
                format!("{{\"source\": \"\", \"documents\": [{}], \"infons\": {{}}}}", documents.join(", ")),
            ] {
                let found: Vec<String> = whole(&text).into_iter().map(|(_, raw)| raw).collect();
                proptest::prop_assert_eq!(&found, &documents);
            }
        }
    }
}
