//! Sentences with their entities and candidate pairs, and spans of characters.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A half-open range of characters, `start <= i < end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    /// First character.
    pub start: usize,
    /// One past the last character.
    pub end: usize,
}

impl Span {
    /// The span from `start` up to but not including `end`.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end }
    }

    /// Number of characters.
    pub fn len(&self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// Whether the span contains no character.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the two spans share a character.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// Whether the two spans share a character or are adjacent.
    pub fn touches(&self, other: &Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    /// The smallest span that contains both.
    pub fn union(&self, other: &Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    /// The smallest span that contains all `spans`; an empty one at 0 if there are none.
    pub fn bounding(spans: &[Self]) -> Self {
        spans.iter().copied().reduce(|bounding, span| bounding.union(&span)).unwrap_or(Self::new(0, 0))
    }
}

/// A named mention in a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entity {
    /// Identifier, unique in its sentence.
    pub id: String,
    /// Type as the corpus names it: `protein`, `drug`, `CHEMICAL`, `GENE-Y`, ...
    pub entity_type: String,
    /// The mention's text as the corpus states it.
    pub text: String,
    /// One or more segments, sorted; more than one for a discontinuous mention.
    pub spans: Vec<Span>,
}

impl Entity {
    /// From the first character of the first segment to the last character of the last one.
    pub fn bounding_span(&self) -> Span {
        Span::bounding(&self.spans)
    }
}

/// A candidate relation between two entities of one sentence, or two concepts of one document, with its
/// gold label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// Identifier, unique in its corpus.
    pub id: String,
    /// Index of the first argument in [`Sentence::entities`].
    pub entity1: usize,
    /// Index of the second argument in [`Sentence::entities`].
    pub entity2: usize,
    /// Index into [`Task::labels`]. A pair with several gold labels gives several `Pair`s.
    pub label: usize,
    /// The row that states it, in a user's table.
    pub row: Option<TableRow>,
    /// At document scope, the two concepts.
    #[serde(default)]
    pub concepts: Option<ConceptPair>,
}

/// The two concepts of a pair at document scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConceptPair {
    /// Their identifiers.
    pub names: [String; 2],
    /// Pairs of their mentions besides the nearest one, which is the pair's own, nearest first, as
    /// indices of [`Sentence::entities`].
    pub further: Vec<(usize, usize)>,
}

/// The row of a user's table that states a pair, ordered by table, then by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableRow {
    /// Number of the table among those that were read together, from 0.
    pub table: usize,
    /// Number of the row in its table, from 0, not counting the header.
    pub row: usize,
}

/// One sentence with its entities and its candidate pairs; at document scope, one document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sentence {
    /// Identifier, unique in its corpus.
    pub id: String,
    /// Identifier of the document: the unit that cross-validation keeps together.
    pub document: String,
    /// The text that all spans refer to.
    pub text: String,
    /// The mentions, in the corpus's order.
    pub entities: Vec<Entity>,
    /// The candidate pairs, in the corpus's order.
    pub pairs: Vec<Pair>,
}

impl Sentence {
    /// Check what all later stages rely on: each entity has sorted, non-empty segments inside the
    /// text, and each pair names two different entities. The readers guarantee it; sentences built
    /// by a user must pass it.
    ///
    /// # Errors
    /// [`Error::Corpus`], naming the sentence and the entity or pair.
    pub fn check(&self) -> Result<()> {
        let fail = |message: String| Err(Error::corpus(format!("sentence {}", self.id), message));
        let length = self.text.chars().count();
        for (number, entity) in self.entities.iter().enumerate() {
            let name =
                if entity.id.is_empty() { format!("entities[{number}]") } else { format!("entity {}", entity.id) };
            if entity.spans.is_empty() {
                return fail(format!("{name} has no offsets"));
            }
            let mut last = 0;
            for span in &entity.spans {
                if span.start >= span.end {
                    return fail(format!("{name}: start {} is not before end {}", span.start, span.end));
                }
                if span.end > length {
                    return fail(format!("{name}: end {} is outside of the text ({length} characters)", span.end));
                }
                if span.start < last {
                    return fail(format!("{name}: segments overlap or are not in order"));
                }
                last = span.end;
            }
        }
        for pair in &self.pairs {
            let further = pair.concepts.iter().flat_map(|concepts| &concepts.further).copied();
            let mut mentions = further.chain([(pair.entity1, pair.entity2)]);
            if mentions.any(|(first, second)| first.max(second) >= self.entities.len()) {
                return fail(format!("pair {} names an entity that the sentence does not have", pair.id));
            }
            // A composite mention refers to several concepts.
            if pair.entity1 == pair.entity2 && pair.concepts.is_none() {
                return fail(format!("pair {} has the same entity twice", pair.id));
            }
        }
        Ok(())
    }
}

/// A named part of a corpus: `train`, `dev`, `test`, or `all`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Its name.
    pub name: String,
    /// Its sentences, including those without a pair, in the corpus's order.
    pub sentences: Vec<Sentence>,
}

impl Split {
    /// Number of candidate pairs.
    pub fn pairs(&self) -> usize {
        self.sentences.iter().map(|sentence| sentence.pairs.len()).sum()
    }
}
