//! XML with corpus errors: file and line in every message, no document type, no expansion of
//! entities.

use std::collections::HashMap;
use std::path::Path;

use roxmltree::{Document, Node, ParsingOptions};

use super::offsets::{CharIndex, parse_offsets};
use super::{Entity, Sentence, Span};
use crate::{Error, Result};

/// Parse a document. A document type, and with it all entity declarations, is refused.
pub(super) fn parse<'a>(path: &Path, text: &'a str) -> Result<Document<'a>> {
    let options = ParsingOptions { allow_dtd: false, ..ParsingOptions::default() };
    Document::parse_with_options(text, options).map_err(|error| {
        let line = error.pos().row as usize;
        match error {
            roxmltree::Error::DtdDetected => {
                let line = 1 + text.split("<!DOCTYPE").next().unwrap_or_default().matches('\n').count();
                let message = "has a document type (<!DOCTYPE>), which can expand entities; refused. Remove it";
                Error::corpus_line(path, line, message)
            }
            roxmltree::Error::UnknownEntityReference(name, _) => {
                let message = format!("refers to the entity `&{name};`, which XML does not define; refused");
                Error::corpus_line(path, line, message)
            }
            error => Error::corpus_line(path, line, format!("is not well-formed XML: {error}")),
        }
    })
}

/// A parsed document with its path.
pub(super) struct File<'a, 'i> {
    pub(super) path: &'a Path,
    pub(super) document: &'a Document<'i>,
}

/// An `<entity>` before its offsets are converted.
pub(super) struct RawEntity<'a> {
    pub(super) id: &'a str,
    pub(super) entity_type: &'a str,
    pub(super) text: &'a str,
    /// The offsets as the file writes them.
    pub(super) written: &'a str,
    pub(super) segments: Vec<(usize, usize)>,
    /// Byte offset of the element in the file: its line is counted only for a message.
    pub(super) at: usize,
}

impl<'a, 'i> File<'a, 'i> {
    /// The line of a node.
    pub(super) fn line(&self, node: Node) -> usize {
        self.document.text_pos_at(node.range().start).row as usize
    }

    /// An error at a node.
    pub(super) fn error(&self, node: Node, message: impl Into<String>) -> Error {
        Error::corpus_line(self.path, self.line(node), message)
    }

    /// A required attribute.
    pub(super) fn attribute(&self, node: Node<'a, 'i>, name: &str) -> Result<&'a str> {
        node.attribute(name).ok_or_else(|| {
            let id = node.attribute("id").map(|id| format!(" {id}")).unwrap_or_default();
            self.error(node, format!("<{}>{id} has no `{name}`", node.tag_name().name()))
        })
    }

    /// The `<entity>` elements of a sentence.
    pub(super) fn entities(&self, sentence: Node<'a, 'i>) -> Result<Vec<RawEntity<'a>>> {
        children(sentence, "entity")
            .map(|node| {
                let id = self.attribute(node, "id")?;
                let written = self.attribute(node, "charOffset")?;
                let segments = parse_offsets(written).ok_or_else(|| {
                    let message =
                        format!("entity {id}: charOffset `{written}` is not `start-end` or `start-end;start-end`");
                    self.error(node, message)
                })?;
                let entity_type = node.attribute("type").unwrap_or_default();
                let text = self.attribute(node, "text")?;
                Ok(RawEntity { id, entity_type, text, written, segments, at: node.range().start })
            })
            .collect()
    }

    /// The error for offsets that do not match the mention.
    pub(super) fn mismatch(&self, sentence: &str, text: &str, entity: &RawEntity, spans: Option<&[Span]>) -> Error {
        let index = CharIndex::new(text);
        let found = match spans {
            None => "which is not a valid range".to_owned(),
            Some(spans) => match spans.iter().map(|&span| index.slice(span)).collect::<Option<Vec<_>>>() {
                Some(slices) => format!("which is `{}` in the sentence", slices.join(" ")),
                None => format!("which is outside of the sentence's {} characters", index.len()),
            },
        };
        let message = format!(
            "entity {} of sentence {sentence} has charOffset {}, {found}, but its text is `{}`",
            entity.id, entity.written, entity.text
        );
        Error::corpus_line(self.path, self.document.text_pos_at(entity.at).row as usize, message)
    }

    /// Index of each entity of a sentence by its identifier.
    pub(super) fn by_id(&self, node: Node, sentence: &Sentence) -> Result<HashMap<String, usize>> {
        let mut by_id = HashMap::new();
        for (index, Entity { id, .. }) in sentence.entities.iter().enumerate() {
            if by_id.insert(id.clone(), index).is_some() {
                return Err(self.error(node, format!("entity id {id} appears twice in sentence {}", sentence.id)));
            }
        }
        Ok(by_id)
    }

    /// The two entities that a `<pair>` or `<interaction>` names.
    pub(super) fn arguments(&self, node: Node<'a, 'i>, by_id: &HashMap<String, usize>) -> Result<(usize, usize)> {
        let argument = |name| {
            let id = self.attribute(node, name)?;
            by_id.get(id).copied().ok_or_else(|| {
                let whose = node.attribute("id").unwrap_or("without id");
                let message =
                    format!("{} {whose}: {name} is {id}, which its sentence does not have", node.tag_name().name());
                self.error(node, message)
            })
        };
        Ok((argument("e1")?, argument("e2")?))
    }
}

/// Child elements of that name.
pub(super) fn children<'a, 'i: 'a>(node: Node<'a, 'i>, name: &'static str) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(move |child| child.has_tag_name(name))
}
