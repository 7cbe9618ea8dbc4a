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
//! `levitated-visible` leaves the text unchanged.
//!
//! BLUE's ChemProt tags are positional: the first mention in the text is always `@CHEMICAL$` and
//! the second `@GENE$`, whatever their types. Its text is in ASCII, mostly with one character for
//! one (α becomes `a`), as in the published files.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

use super::blind::mentions_of;
use super::{Copied, Instance};
use crate::corpus::{Entity, Pair, Sentence, Span, Task};
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
    let instance = mark_arguments(sentence, arguments, &pair.id, Some(pair.label), task, marking)?;
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
        Marking::Levitated => writer.blind(&mentions_of(sentence, task, characters.len()), bounds),
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

/// Builds a marked text and records what was copied from where.
pub(super) struct Writer<'a> {
    pub(super) characters: &'a [char],
    romanised: bool,
    text: String,
    /// Characters in `text`.
    length: usize,
    copied: Vec<Copied>,
}

impl<'a> Writer<'a> {
    fn new(characters: &'a [char], romanised: bool) -> Self {
        Self {
            characters,
            romanised,
            text: String::with_capacity(characters.len() + 32),
            length: 0,
            copied: Vec::new(),
        }
    }

    /// Insert text that is not in the sentence; returns its span.
    pub(super) fn insert(&mut self, text: &str) -> Span {
        let start = self.length;
        self.text.push_str(text);
        self.length += text.chars().count();
        Span::new(start, self.length)
    }

    /// Copy characters of the sentence.
    pub(super) fn copy(&mut self, from: usize, to: usize) {
        for original in from..to {
            let character = self.characters[original];
            match romanise(character).filter(|_| self.romanised) {
                Some(letters) if letters.len() != 1 => {
                    self.insert(letters);
                    continue;
                }
                Some(letter) => self.text.push_str(letter),
                None => self.text.push(character),
            }
            let marked = self.length;
            self.length += 1;
            match self.copied.last_mut() {
                Some(last) if last.marked + last.length == marked && last.original + last.length == original => {
                    last.length += 1;
                }
                _ => self.copied.push(Copied { marked, original, length: 1 }),
            }
        }
    }

    /// Write the `part` of the sentence with each of the two spans replaced by its tag, or both by
    /// one tag if they `meet`. Positional tags follow the order of the text, others the arguments.
    fn replace(
        &mut self,
        part: Span,
        bounds: [Span; 2],
        tags: &[String; 2],
        meet: fn(&Span, &Span) -> bool,
        positional: bool,
    ) -> [Span; 2] {
        let [one, two] = bounds;
        if meet(&one, &two) {
            let both = one.union(&two);
            self.copy(part.start, both.start);
            let first = if positional { "CHEM" } else { &tags[0] };
            let tag = self.insert(&format!("@{first}-{}$", tags[1]));
            self.copy(both.end, part.end);
            return [tag, tag];
        }
        let swapped = two.start < one.start;
        let (left, right) = if swapped { (two, one) } else { (one, two) };
        let (left_tag, right_tag) = if swapped && !positional { (&tags[1], &tags[0]) } else { (&tags[0], &tags[1]) };
        self.copy(part.start, left.start);
        let left_at = self.insert(&format!("@{left_tag}$"));
        self.copy(left.end, right.start);
        let right_at = self.insert(&format!("@{right_tag}$"));
        self.copy(right.end, part.end);
        if swapped { [right_at, left_at] } else { [left_at, right_at] }
    }

    /// Write the whole sentence with markers around both spans. Each entity's span includes its
    /// markers.
    fn surround(&mut self, bounds: [Span; 2]) -> [Span; 2] {
        const OPEN: [&str; 2] = ["[E1] ", "[E2] "];
        const CLOSE: [&str; 2] = [" [/E1]", " [/E2]"];
        // The span that starts first, or extends further from the same start, is the outer one: its marker
        // opens first and, if both end together, closes last. Of two equal spans the first argument's is
        // the outer one.
        let outer_first =
            if (bounds[1].start, bounds[0].end) < (bounds[0].start, bounds[1].end) { [1, 0] } else { [0, 1] };
        let [outer, inner] = outer_first;
        let mut entities = [Span::new(0, 0); 2];
        let mut from = 0;
        let mut positions: Vec<usize> = bounds.iter().flat_map(|bounds| [bounds.start, bounds.end]).collect();
        positions.sort_unstable();
        positions.dedup();
        for position in positions {
            self.copy(from, position);
            from = position;
            for which in [inner, outer] {
                if bounds[which].end == position {
                    entities[which].end = self.insert(CLOSE[which]).end;
                }
            }
            for which in [outer, inner] {
                if bounds[which].start == position {
                    entities[which].start = self.insert(OPEN[which]).start;
                }
            }
        }
        self.copy(from, self.characters.len());
        entities
    }
}

/// BLUE's ASCII for a character; `None` for one that BLUE leaves unchanged, or drops (it is kept
/// here). Nearly all are one letter for one; θ and ψ give two.
fn romanise(character: char) -> Option<&'static str> {
    Some(match character {
        'α' | 'ά' | 'á' => "a",
        'Α' | 'Ά' | 'Å' | 'Ã' => "A",
        'β' | 'ß' => "b",
        'Β' => "B",
        'γ' => "g",
        'Γ' => "G",
        'δ' => "d",
        'Δ' => "D",
        'ε' | 'έ' | 'é' | 'ɛ' | 'ί' => "e",
        'Ε' | 'Έ' | '∑' => "E",
        'ζ' => "z",
        'Ζ' => "Z",
        'η' | 'ή' => "h",
        'Η' | 'Ή' => "H",
        'θ' => "th",
        'Θ' => "TH",
        'ι' | 'ï' => "i",
        'Ι' | 'Ί' => "I",
        'κ' | 'к' => "k",
        'Κ' => "K",
        'λ' => "l",
        'Λ' => "L",
        'μ' | 'µ' | 'ø' => "m",
        'Μ' => "M",
        'ν' => "n",
        'Ν' => "N",
        'ξ' | 'χ' | '\u{e232}' | '\u{e2f6}' => "x",
        'Ξ' | 'Χ' => "X",
        'ο' | 'ό' | 'ö' | 'œ' => "o",
        'Ο' | 'Ό' => "O",
        'π' => "p",
        'Π' => "P",
        'ρ' | '®' => "r",
        'Ρ' => "R",
        'σ' | 'ς' => "s",
        'Σ' => "S",
        'τ' => "t",
        'Τ' | '™' => "T",
        'υ' | 'ÿ' => "y",
        'ύ' | 'ü' => "u",
        'Υ' | 'Ύ' => "Y",
        'φ' | 'ƒ' => "f",
        'Φ' => "F",
        'ψ' => "ps",
        'Ψ' => "PS",
        'ω' | 'ώ' | 'Ω' | 'Ώ' => "w",
        'ç' | '©' => "c",
        '·' | '∗' | '⋅' | '°' | '×' | '•' | '\u{f8ff}' => "*",
        '±' | '⁺' => "+",
        '\u{2002}' | '\u{a0}' | '\u{2009}' | '\u{2005}' | '\u{200a}' => " ",
        '\u{303}' | '∼' | '∞' => "~",
        '…' => ".",
        '″' | '‴' => "\"",
        '´' => "'",
        '⁵' | '₅' => "5",
        '⁷' => "7",
        '⁹' => "9",
        '⁻' | '₋' => "-",
        '₀' => "0",
        '₁' | '¹' => "1",
        '₂' | '²' => "2",
        '₃' | '³' => "3",
        '₄' => "4",
        '→' | '≥' | '≫' | '⩾' => ">",
        '≤' | '↔' | '↓' | '⩽' | '≪' => "<",
        '≈' | '═' | '≃' => "=",
        '〈' => "(",
        '〉' => ")",
        _ => return None,
    })
}
