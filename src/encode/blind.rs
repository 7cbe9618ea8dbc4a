//! A sentence without the names of its entities, for levitated markers: what the paper does to the
//! two mentions of a pair, done to every mention, so that one text serves all pairs.
//!
//! Each mention becomes the tag of its type, from its first to its last character. Mentions that
//! overlap become one tag, with the tags of all their types in the order of the text:
//! `@CHEMICAL-GENE$`. Entities of types that form no pair stay as they are.

use super::writer::Writer;
use crate::corpus::{Sentence, Span, Task};

/// A mention and the tag of its type.
pub(super) type Tagged = (Span, String);

/// The mentions of a sentence that form pairs and fit its text of `length` characters, in the order
/// of the text.
pub(super) fn mentions_of(sentence: &Sentence, task: &Task, length: usize) -> Vec<Tagged> {
    let known = task.type_tags();
    let tagged = sentence.entities.iter().map(|entity| (entity.bounding_span(), task.tag(&entity.entity_type)));
    let replaced = |(bounds, tag): &Tagged| {
        !bounds.is_empty() && bounds.end <= length && (known.is_empty() || known.contains(tag))
    };
    let mut mentions: Vec<Tagged> = tagged.filter(replaced).collect();
    mentions.sort();
    mentions
}

impl Writer<'_> {
    /// Write the whole sentence with a tag in place of every mention; returns what was replaced, and
    /// its tag, in the order of the text.
    pub(super) fn blind(&mut self, mentions: &[Tagged]) -> Vec<(Span, Span)> {
        let mut clusters: Vec<(Span, Vec<&str>)> = Vec::new();
        for (span, tag) in mentions {
            match clusters.last_mut() {
                Some((cluster, tags)) if span.overlaps(cluster) => {
                    *cluster = cluster.union(span);
                    if !tags.contains(&tag.as_str()) {
                        tags.push(tag);
                    }
                }
                _ => clusters.push((*span, vec![tag])),
            }
        }
        let mut replaced = Vec::with_capacity(clusters.len());
        let mut from = 0;
        for (span, tags) in clusters {
            self.copy(from, span.start);
            from = span.end;
            replaced.push((span, self.insert(&format!("@{}$", tags.join("-")))));
        }
        self.copy(from, self.characters.len());
        replaced
    }
}

/// The tag that replaced a mention.
pub(super) fn tag_of(replaced: &[(Span, Span)], mention: Span) -> Span {
    let at = replaced.partition_point(|(span, _)| span.end <= mention.start);
    replaced.get(at).filter(|(span, _)| mention.overlaps(span)).map_or(Span::new(0, 0), |(_, tag)| *tag)
}
