//! Splits a BioC-XML file into its `<document>` elements, by their tags alone. Everything around
//! them, including a document type, is skipped.
//!
//! Ours, because the elements are needed as the bytes in the file (they are written back
//! unchanged), with their lines and a limit of 64 MiB each. quick-xml's events give byte positions
//! but no lines, buffer a text or comment of any length, and stop at malformed markup inside a
//! document, which would cost the file; roxmltree then parses one document at a time.

use std::sync::Arc;

use super::bytes::{Bytes, RECORD_LIMIT, Stop};

pub(super) struct Splitter {
    bytes: Bytes,
    header: Arc<str>,
    first: bool,
}

/// Longest header that is kept; those of real collections are much shorter.
const HEADER_LIMIT: usize = 1 << 16;

impl Splitter {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self { bytes, header: "".into(), first: true }
    }

    /// The file before its first document.
    pub(super) fn header(&self) -> Arc<str> {
        self.header.clone()
    }

    /// The next document, with its line.
    pub(super) fn next(&mut self) -> Result<Option<(usize, Vec<u8>)>, Stop> {
        let mut raw = Vec::new();
        let mut depth = 0_usize;
        let mut start = 0;
        let mut large = false;
        loop {
            let line = self.bytes.line();
            let Some(byte) = self.bytes.next()? else {
                return match (depth, self.first) {
                    (0, true) => Err(Stop::Malformed(line, "there is no <document>: is it BioC-XML?".into())),
                    (0, false) => Ok(None),
                    _ => {
                        let message = "the file ends in the middle of a <document>, which is lost";
                        Err(Stop::Malformed(start, message.into()))
                    }
                };
            };
            let from = raw.len();
            raw.push(byte);
            if byte == b'<' {
                self.tag(&mut raw)?;
                let tag = &raw[from..];
                let name = tag_name(tag);
                if name == b"document" && !tag.ends_with(b"/>") {
                    if depth == 0 {
                        if self.first {
                            self.first = false;
                            self.header = String::from_utf8_lossy(&raw[..from]).into_owned().into();
                        }
                        raw.drain(..from);
                        start = line;
                    }
                    depth += 1;
                } else if name == b"/document" && depth > 0 {
                    depth -= 1;
                    if depth == 0 {
                        return if large { Err(Stop::TooLarge(start)) } else { Ok(Some((start, raw))) };
                    }
                }
            }
            if depth == 0 {
                // What is between documents is dropped, and the header is kept only up to its limit.
                if !self.first || raw.len() > HEADER_LIMIT {
                    raw.clear();
                }
            } else if raw.len() > RECORD_LIMIT {
                large = true;
                raw.clear();
            }
        }
    }

    /// Read up to the end of a tag, a comment or a CDATA section; its `<` has been read.
    fn tag(&mut self, raw: &mut Vec<u8>) -> Result<(), Stop> {
        let from = raw.len() - 1;
        let mut quote = None;
        while let Some(byte) = self.bytes.next()? {
            // Of a section that is too large only its start and its end matter.
            if raw.len() - from > RECORD_LIMIT {
                let recent = raw.split_off(raw.len() - 8);
                let opening: Vec<u8> = raw[from..from + 9].to_vec();
                raw.truncate(from);
                raw.extend(opening);
                raw.extend(recent);
            }
            raw.push(byte);
            let so_far = &raw[from..];
            let (section, end): (bool, &[u8]) = if so_far.starts_with(b"<!--") {
                (so_far.len() >= 7, b"-->")
            } else if so_far.starts_with(b"<![CDATA[") {
                (so_far.len() >= 12, b"]]>")
            } else if so_far.starts_with(b"<?") {
                (so_far.len() >= 4, b"?>")
            } else if byte == b'>' && quote.is_none() {
                return Ok(());
            } else {
                match quote {
                    None if byte == b'"' || byte == b'\'' => quote = Some(byte),
                    Some(open) if open == byte => quote = None,
                    _ => {}
                }
                continue;
            };
            if section && so_far.ends_with(end) {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// `document` of `<document>`, `/document` of `</document>`.
fn tag_name(tag: &[u8]) -> &[u8] {
    let inner = &tag[1..];
    let end = inner.iter().position(|byte| byte.is_ascii_whitespace() || *byte == b'>').unwrap_or(inner.len());
    inner[..end].strip_suffix(b"/").filter(|name| !name.is_empty()).unwrap_or(&inner[..end])
}

#[cfg(test)]
mod tests {
    use super::super::{DocumentFormat, Records};

    fn split(content: &str) -> Vec<Result<(usize, String), String>> {
        let records = Records::of(DocumentFormat::BiocXml, content.as_bytes());
        let show = |record: crate::Result<super::super::Record>| match record {
            Ok(record) => Ok((record.line, String::from_utf8(record.raw).unwrap())),
            Err(error) => Err(error.to_string()),
        };
        records.map(show).collect()
    }

    #[test]
    fn documents_are_found_between_comments_sections_and_quotes() {
        let text = "<?xml version='1.0'?>\n<!DOCTYPE collection SYSTEM 'BioC.dtd'>\n<collection><!-- <document> -->\n\
            <document a='>'><text><![CDATA[</document>]]></text><!--</document>--></document>\n<documents/><document/>\n\
            <document\n></document ></collection>";
        let found: Vec<(usize, String)> = split(text).into_iter().map(Result::unwrap).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].0, 4);
        assert!(found[0].1.starts_with("<document a='>'>") && found[0].1.ends_with("--></document>"));
        assert_eq!(found[1], (6, "<document\n></document >".to_owned()));
    }

    #[test]
    fn malformed_xml_is_reported_with_its_line() {
        assert!(split("<a/>")[0].as_ref().unwrap_err().starts_with("memory:1: there is no <document>"));
        assert!(split("\n<document><x>")[0].as_ref().unwrap_err().starts_with("memory:2: the file ends"));
        assert!(split("\n<document><!-- >")[0].as_ref().unwrap_err().starts_with("memory:2: the file ends"));
    }

    proptest::proptest! {
        #[test]
        fn any_input_ends_without_a_panic(text in "[<>/!?'\"\\[\\]a\\n -]{0,40}") {
            let _ = split(&text);
            let _ = split(&format!("<document>{text}"));
        }
    }
}
