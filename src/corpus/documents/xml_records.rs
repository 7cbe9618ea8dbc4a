//! Splits a BioC-XML file into its `<document>` elements, found by tags alone. Everything around
//! them, including a document type, is skipped.

use std::sync::Arc;

use super::bytes::{Bytes, RECORD_LIMIT, Stop};

pub(super) struct Splitter {
    bytes: Bytes,
    header: Arc<str>,
    first: bool,
}

/// Longest header that is kept. No collection's is as long.
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
        let mut kept = Vec::new();
        let mut depth = 0_usize;
        let mut start = 0;
        let mut large = false;
        loop {
            let line = self.bytes.line();
            let Some(byte) = self.bytes.next()? else {
                return match (depth, self.first) {
                    (0, true) => Err(Stop::Broken(line, "there is no <document> in it: is it BioC-XML?".into())),
                    (0, false) => Ok(None),
                    _ => {
                        let message = "the file ends in the middle of a <document>, which is lost";
                        Err(Stop::Broken(start, message.into()))
                    }
                };
            };
            let from = kept.len();
            kept.push(byte);
            if byte == b'<' {
                self.tag(&mut kept)?;
                let tag = &kept[from..];
                let name = tag_name(tag);
                if name == b"document" && !tag.ends_with(b"/>") {
                    if depth == 0 {
                        if self.first {
                            self.first = false;
                            self.header = String::from_utf8_lossy(&kept[..from]).into_owned().into();
                        }
                        kept.drain(..from);
                        start = line;
                    }
                    depth += 1;
                } else if name == b"/document" && depth > 0 {
                    depth -= 1;
                    if depth == 0 {
                        return if large { Err(Stop::TooLarge(start)) } else { Ok(Some((start, kept))) };
                    }
                }
            }
            if depth == 0 {
                // Nothing between documents is kept, and the header only up to its limit.
                if !self.first || kept.len() > HEADER_LIMIT {
                    kept.clear();
                }
            } else if kept.len() > RECORD_LIMIT {
                large = true;
                kept.clear();
            }
        }
    }

    /// Read on to the end of a tag, a comment or a CDATA section, whose `<` has been read.
    fn tag(&mut self, kept: &mut Vec<u8>) -> Result<(), Stop> {
        let from = kept.len() - 1;
        let mut quote = None;
        while let Some(byte) = self.bytes.next()? {
            // Of a section that is too large only the end matters.
            if kept.len() - from > RECORD_LIMIT {
                let recent = kept.split_off(kept.len() - 8);
                let opening: Vec<u8> = kept[from..from + 9].to_vec();
                kept.truncate(from);
                kept.extend(opening);
                kept.extend(recent);
            }
            kept.push(byte);
            let so_far = &kept[from..];
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
    fn documents_whatever_stands_around_and_in_them() {
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
    fn what_is_broken_is_told_with_its_line() {
        assert!(split("<a/>")[0].as_ref().unwrap_err().starts_with("memory:1: there is no <document>"));
        assert!(split("\n<document><x>")[0].as_ref().unwrap_err().starts_with("memory:2: the file ends"));
        assert!(split("\n<document><!-- >")[0].as_ref().unwrap_err().starts_with("memory:2: the file ends"));
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic_and_it_always_ends(text in "[<>/!?'\"\\[\\]a\\n -]{0,40}") {
            let _ = split(&text);
            let _ = split(&format!("<document>{text}"));
        }
    }
}
