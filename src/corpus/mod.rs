//! Corpora as their authors published them, read into [`Sentence`]s.
//!
//! All offsets are **characters** (Unicode scalar values), end-exclusive, into [`Sentence::text`], whatever the
//! file's own convention was; the readers convert and check them.

/// A half-open range of characters, `start <= i < end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// First character.
    pub start: usize,
    /// One past the last character.
    pub end: usize,
}

/// A named mention in a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entity {
    /// Identifier, unique in its sentence.
    pub id: String,
    /// Type as the corpus names it: `protein`, `drug`, `CHEMICAL`, `GENE-Y`, ...
    pub kind: String,
    /// The mention's text as the corpus states it.
    pub text: String,
    /// One or more segments, sorted; more than one for a discontinuous mention.
    pub spans: Vec<Span>,
}

/// A candidate relation between two entities of one sentence, with its gold label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Identifier, unique in its corpus.
    pub id: String,
    /// Index of the first argument in [`Sentence::entities`].
    pub entity1: usize,
    /// Index of the second argument in [`Sentence::entities`].
    pub entity2: usize,
    /// Index into [`Task::labels`]. A pair with several gold labels gives several `Pair`s.
    pub label: usize,
}

/// One sentence with its entities and its candidate pairs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    /// Identifier, unique in its corpus.
    pub id: String,
    /// Identifier of the document: the unit that cross-validation keeps together.
    pub document: String,
    /// The text that all spans index.
    pub text: String,
    /// The mentions, in the corpus's order.
    pub entities: Vec<Entity>,
    /// The candidate pairs, in the corpus's order.
    pub pairs: Vec<Pair>,
}

/// What is to be decided about a pair, and how the field scores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// `ppi`, `ddi`, `chemprot`, or the name of the user's table.
    pub name: String,
    /// All labels in a fixed order.
    pub labels: Vec<String>,
    /// Index of the label that means "no relation", if the task has one.
    pub negative: Option<usize>,
}
