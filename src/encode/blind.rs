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
    /// Write the whole sentence with a tag in place of every mention; returns the tags of the two
    /// spans.
    pub(super) fn blind(&mut self, mentions: &[Tagged], bounds: [Span; 2]) -> [Span; 2] {
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
        let mut entities = [Span::new(0, 0); 2];
        let mut from = 0;
        for (span, tags) in clusters {
            self.copy(from, span.start);
            from = span.end;
            let tag = self.insert(&format!("@{}$", tags.join("-")));
            for (entity, argument) in entities.iter_mut().zip(&bounds) {
                if argument.overlaps(&span) {
                    *entity = tag;
                }
            }
        }
        self.copy(from, self.characters.len());
        entities
    }
}
