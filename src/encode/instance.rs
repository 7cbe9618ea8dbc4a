//! Marking the two entities of a pair in the text for the encoder.
//!
//! | | `typed` (the paper) | `blue` (the BLUE benchmark) | `markers` |
//! |---|---|---|---|
//! | a mention | `@DRUG$`, `@GENE$`: its type's tag | the same; ChemProt: by position, see below | `[E1] aspirin [/E1]` |
//! | in several segments | from its first to its last character | the same | the same |
//! | overlapping mentions | one tag `@CHEMICAL-GENE$` in the order of the arguments | one tag `@DRUG-DRUG$`, `@CHEM-GENE$`; also for mentions that touch | nested or crossing markers |
//! | the rest of the text | unchanged | outer white space stripped; ChemProt: Greek letters and signs in ASCII | unchanged |
//!
//! With `levitated` and `levitated-visible` the text is the same for all pairs of a sentence, and
//! marker tokens that follow it point at the two mentions of a pair (see [`super::Batch`]).
//! `levitated` replaces every mention of the sentence by its type's tag (see [`super::blind`]);
//! `levitated-visible` leaves the text unchanged. At document scope a pair of concepts has several
//! pairs of mentions, each with markers of its own; the other markings mark the nearest pair.
//!
//! BLUE's ChemProt tags are positional: the first mention in the text is always `@CHEMICAL$` and
//! the second `@GENE$`, whatever their types. Its text is in ASCII, mostly with one character for
//! one (α becomes `a`), as in the published files.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

use super::Instance;
use super::blind::{mentions_of, tag_of};
use super::writer::Writer;
use crate::corpus::{ConceptPair, Entity, Pair, Sentence, Span, Task};
use crate::{Error, Result};

/// How the two entities are marked in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, IntoStaticStr, VariantArray)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Marking {
    /// The paper's anonymisation: each mention becomes the tag of its type.
    #[default]
    Typed,
    /// Exactly the text of the BLUE benchmark.
    Blue,
    /// The mentions stay in the text, between markers.
    Markers,
    /// Markers behind the text, in which every mention of the sentence becomes the tag of its type.
    Levitated,
    /// Markers behind the text, which is unchanged.
    LevitatedVisible,
}

named!(Marking, "marking");

impl Marking {
    /// Whether the markers are tokens behind the text, so that all pairs of a sentence share it.
    pub fn is_levitated(self) -> bool {
        matches!(self, Self::Levitated | Self::LevitatedVisible)
    }
}

/// The instance of a gold pair.
///
/// # Errors
/// [`Error::Corpus`] if the pair or its entities do not fit the sentence.
pub fn mark(sentence: &Sentence, pair: &Pair, task: &Task, marking: Marking) -> Result<Instance> {
    let arguments = (pair.entity1, pair.entity2);
    let label = Some(pair.label);
    let instance = mark_mentions(sentence, arguments, pair.concepts.as_ref(), &pair.id, label, task, marking)?;
    Ok(Instance { row: pair.row, ..instance })
}

/// All gold pairs of the sentences as instances: those of a user's table in the order of its rows,
/// others in the order of the sentences.
///
/// # Errors
/// As [`mark`], for the first pair that does not fit.
pub fn instances(sentences: &[Sentence], task: &Task, marking: Marking) -> Result<Vec<Instance>> {
    let of = |sentence: &Sentence| sentence.pairs.iter().map(|pair| mark(sentence, pair, task, marking)).collect();
    let parts: Vec<Result<Vec<Instance>>> = sentences.par_iter().map(of).collect();
    let parts: Result<Vec<Vec<Instance>>> = parts.into_iter().collect();
    let mut instances: Vec<Instance> = parts?.into_iter().flatten().collect();
    // A stable sort keeps the order of pairs that are not from a table.
    instances.sort_by_key(|instance| instance.row);
    Ok(instances)
}

/// The instance of any two entities of a sentence (by index), with or without a label: what
/// prediction uses.
///
/// # Errors
/// [`Error::Corpus`] if an entity does not exist or its offsets do not fit the text.
pub fn mark_arguments(
    sentence: &Sentence,
    arguments: (usize, usize),
    id: &str,
    label: Option<usize>,
    task: &Task,
    marking: Marking,
) -> Result<Instance> {
    mark_mentions(sentence, arguments, None, id, label, task, marking)
}

/// The instance of two concepts of a document, with their nearest mentions as `arguments`, without a
/// label: what prediction uses at document scope.
///
/// # Errors
/// As [`mark_arguments`].
pub fn mark_concepts(
    sentence: &Sentence,
    arguments: (usize, usize),
    concepts: &ConceptPair,
    id: &str,
    task: &Task,
    marking: Marking,
) -> Result<Instance> {
    mark_mentions(sentence, arguments, Some(concepts), id, None, task, marking)
}

fn mark_mentions(
    sentence: &Sentence,
    arguments: (usize, usize),
    concepts: Option<&ConceptPair>,
    id: &str,
    label: Option<usize>,
    task: &Task,
    marking: Marking,
) -> Result<Instance> {
    let characters: Vec<char> = sentence.text.chars().collect();
    let entity = |index: usize| {
        let entity = sentence.entities.get(index).filter(|entity| {
            let bounds = entity.bounding_span();
            !bounds.is_empty() && bounds.end <= characters.len()
        });
        entity.ok_or_else(|| {
            let message = format!("pair {id}: entity {index} does not exist or its offsets do not fit the text");
            Error::corpus(format!("sentence {}", sentence.id), message)
        })
    };
    let arguments = [entity(arguments.0)?, entity(arguments.1)?];
    let bounds = arguments.map(Entity::bounding_span);
    // Only levitated markers can point at several mentions of a concept.
    let further = concepts.filter(|_| marking.is_levitated()).map_or(&[][..], |concepts| &concepts.further);
    let mut further = further
        .iter()
        .map(|&(first, second)| Ok([entity(first)?.bounding_span(), entity(second)?.bounding_span()]))
        .collect::<Result<Vec<[Span; 2]>>>()?;
    let positional = marking == Marking::Blue && task.name == "chemprot";
    let tags = match positional {
        true => ["CHEMICAL".to_owned(), "GENE".to_owned()],
        false => arguments.map(|entity| task.tag(&entity.entity_type)),
    };
    let mut writer = Writer::new(&characters, positional);
    let entities = match marking {
        Marking::Typed => writer.replace(Span::new(0, characters.len()), bounds, &tags, Span::overlaps, false),
        Marking::Blue => {
            writer.replace(without_outer_spaces(&characters, bounds), bounds, &tags, Span::touches, positional)
        }
        Marking::Markers => writer.surround(bounds),
        Marking::Levitated => {
            let tags = writer.blind(&mentions_of(sentence, task, characters.len()));
            further.iter_mut().for_each(|bounds| *bounds = bounds.map(|bounds| tag_of(&tags, bounds)));
            bounds.map(|bounds| tag_of(&tags, bounds))
        }
        Marking::LevitatedVisible => {
            writer.copy(0, characters.len());
            bounds
        }
    };
    let marker_types =
        match marking.is_levitated() {
            true => Some(marker_types(arguments, task).map_err(|message| {
                Error::corpus(format!("sentence {}", sentence.id), format!("pair {id}: {message}"))
            })?),
            false => None,
        };
    Ok(Instance {
        id: id.to_owned(),
        document: sentence.document.clone(),
        sentence: sentence.id.clone(),
        text: writer.text,
        entities,
        mentions: arguments.map(|entity| mention(entity, &characters)),
        copied: writer.copied,
        marker_types,
        label,
        row: None,
        concepts: concepts.map(|concepts| concepts.names.clone()),
        further,
    })
}

/// The numbers of the arguments' types among the task's.
fn marker_types(arguments: [&Entity; 2], task: &Task) -> std::result::Result<[u32; 2], String> {
    let number = |entity: &Entity| {
        task.type_number(&entity.entity_type).ok_or_else(|| {
            let known = task.type_tags().join(", ");
            format!("an entity has the type `{}`, and levitated markers exist for {known}", entity.entity_type)
        })
    };
    Ok([number(arguments[0])?, number(arguments[1])?])
}

/// The mention as the corpus states it, or else as it is in the text.
fn mention(entity: &Entity, characters: &[char]) -> String {
    if entity.text.is_empty() {
        let bounds = entity.bounding_span();
        characters[bounds.start..bounds.end].iter().collect()
    } else {
        entity.text.clone()
    }
}

/// The text without outer white space, except where it belongs to a mention.
fn without_outer_spaces(characters: &[char], bounds: [Span; 2]) -> Span {
    let both = bounds[0].union(&bounds[1]);
    let first = characters.iter().position(|c| !c.is_whitespace()).unwrap_or(0);
    let last = characters.iter().rposition(|c| !c.is_whitespace()).map_or(0, |last| last + 1);
    Span::new(first, last).union(&both)
}
