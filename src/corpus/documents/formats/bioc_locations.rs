//! Locates the annotations of a BioC document, whatever unit its offsets count.
//!
//! Offsets should count the characters of the document. Published files also have the following,
//! which is converted to characters if all annotations of the document, or of a passage, then fit
//! its text:
//!
//! * UTF-16 code units or UTF-8 bytes;
//! * characters of the *escaped* XML (`&apos;` is six), in the offsets of passages (BC5CDR's
//!   official release), of annotations, or of both;
//! * one location that covers a mention in several segments;
//! * an annotation that is listed in another passage than its offsets.

use super::bioc_record::{Annotation, Bioc};
use crate::corpus::Span;
use crate::corpus::documents::offsets::{Converter, DISCONTINUOUS, OffsetUnit, written};

/// The locations of all annotations, and what was repaired.
pub(super) struct Locations {
    /// One for each annotation.
    pub(super) found: Vec<Location>,
    /// The offset of each passage, in characters.
    pub(super) starts: Vec<usize>,
    /// The reason of the finding, if the offsets do not count characters.
    pub(super) reason: Option<&'static str>,
}

/// The location of an annotation.
pub(super) enum Location {
    /// The passage, the characters in it, and the reason if it was repaired.
    At(usize, Vec<Span>, Option<&'static str>),
    /// The file states no location.
    Missing,
    /// The stated location does not fit; the message says why.
    Wrong(String),
}

/// An interpretation of the offsets of a passage's annotations.
#[derive(Clone, Copy)]
struct Reading {
    /// The offset of the passage's start.
    base: usize,
    /// The unit of offsets.
    unit: OffsetUnit,
    /// The unit of lengths.
    lengths: OffsetUnit,
    /// Whether one location may cover a mention in several segments.
    discontinuous: bool,
}

/// The texts of all passages, indexed by characters and by another unit.
struct Texts<'a> {
    characters: Vec<Converter<'a>>,
    /// Empty if the unit is characters.
    counted: Vec<Converter<'a>>,
}

impl<'a> Texts<'a> {
    fn new(bioc: &'a Bioc, unit: OffsetUnit) -> Self {
        let all = |unit| bioc.passages.iter().map(|passage| Converter::new(&passage.text, unit)).collect();
        Self {
            characters: all(OffsetUnit::Characters),
            counted: if unit == OffsetUnit::Characters { vec![] } else { all(unit) },
        }
    }

    fn of(&self, passage: usize, unit: OffsetUnit) -> &Converter<'a> {
        if unit == OffsetUnit::Characters { &self.characters[passage] } else { &self.counted[passage] }
    }
}

pub(super) fn locate(bioc: &Bioc) -> Locations {
    let ascii = bioc.passages.iter().all(|passage| passage.text.is_ascii());
    let all = |unit: OffsetUnit| -> Vec<Location> {
        let readings: Vec<Reading> = bioc
            .passages
            .iter()
            .map(|passage| Reading { base: passage.offset, unit, lengths: unit, discontinuous: false })
            .collect();
        let texts = Texts::new(bioc, unit);
        bioc.annotations.iter().map(|annotation| locate_one(bioc, &texts, annotation, &readings, false)).collect()
    };
    let fits = |locations: &[Location]| !locations.iter().any(|location| matches!(location, Location::Wrong(_)));
    let found = all(OffsetUnit::Characters);
    if fits(&found) {
        return Locations { found, starts: starts(bioc, OffsetUnit::Characters), reason: None };
    }
    for unit in [OffsetUnit::Utf16, OffsetUnit::Bytes].into_iter().filter(|_| !ascii) {
        let found = all(unit);
        if fits(&found) {
            return Locations { found, starts: starts(bioc, unit), reason: unit.reason() };
        }
    }
    for unit in OffsetUnit::ESCAPED {
        let texts = Texts::new(bioc, unit);
        let Some((readings, escaped)) = readings(bioc, &texts, unit) else { continue };
        let found: Vec<Location> =
            bioc.annotations.iter().map(|annotation| locate_one(bioc, &texts, annotation, &readings, true)).collect();
        if fits(&found) {
            let moved = starts(bioc, unit);
            // If only annotations count escaped characters, the offsets of passages stay: moved, passages
            // would overlap.
            let starts =
                if escaped && are_disjoint(bioc, &moved) { moved } else { starts(bioc, OffsetUnit::Characters) };
            let reason = unit.reason().filter(|_| escaped);
            return Locations { found, starts, reason };
        }
    }
    Locations { found, starts: starts(bioc, OffsetUnit::Characters), reason: None }
}

/// For each passage the first interpretation under which all its annotations fit, and whether any
/// counts escaped characters; `None` if there is none for some passage.
fn readings(bioc: &Bioc, texts: &Texts, unit: OffsetUnit) -> Option<(Vec<Reading>, bool)> {
    let surplus = surplus(bioc, unit);
    let mut escaped = false;
    let mut chosen = Vec::with_capacity(bioc.passages.len());
    for (number, passage) in bioc.passages.iter().enumerate() {
        let own: Vec<&Annotation> =
            bioc.annotations.iter().filter(|annotation| annotation.passage == Some(number)).collect();
        let bases = [
            Some(passage.offset),
            passage.offset.checked_sub(surplus[number]),
            passage.offset.checked_add(surplus[number]),
        ];
        let counts = [(OffsetUnit::Characters, OffsetUnit::Characters), (unit, OffsetUnit::Characters), (unit, unit)];
        // First as the file says, then in order of the difference from it.
        let tried = [false, true].into_iter().flat_map(|discontinuous| {
            bases.into_iter().flatten().flat_map(move |base| {
                counts.into_iter().map(move |(unit, lengths)| Reading { base, unit, lengths, discontinuous })
            })
        });
        // An annotation of another passage does not rule out an interpretation that fits others.
        let fits = |reading: &Reading, strict: bool| {
            let mut some = own.is_empty();
            let all = own.iter().all(|annotation| {
                let fits = annotation.segments.is_empty() || fit(texts, annotation, number, *reading).is_some();
                some |= fits;
                fits || (!strict && is_outside(bioc, annotation, number, *reading))
            });
            all && some
        };
        let tried: Vec<Reading> = tried.collect();
        let reading =
            [true, false].into_iter().find_map(|strict| tried.iter().find(|reading| fits(reading, strict)))?;
        escaped |= reading.base != passage.offset || reading.unit != OffsetUnit::Characters;
        chosen.push(*reading);
    }
    Some((chosen, escaped))
}

/// Locate an annotation in its own passage, or, if that consists of sentences, in the sentence that
/// it fits; with `anywhere` also in other passages, if it does not fit its own.
fn locate_one(bioc: &Bioc, texts: &Texts, annotation: &Annotation, readings: &[Reading], anywhere: bool) -> Location {
    if annotation.segments.is_empty() {
        return Location::Missing;
    }
    let all = 0..bioc.passages.len();
    let candidates: Vec<usize> = match annotation.passage {
        Some(passage) => vec![passage],
        None => all.clone().collect(),
    };
    let others = all.filter(|passage| anywhere && !candidates.contains(passage) && !bioc.passages[*passage].duplicate);
    for passage in candidates.iter().copied().chain(others) {
        if let Some((spans, discontinuous)) = fit(texts, annotation, passage, readings[passage]) {
            let reason = match (discontinuous, candidates.contains(&passage)) {
                (true, _) => Some(DISCONTINUOUS),
                (false, false) => {
                    Some("an annotation is listed in another passage than its offsets; the offsets are used")
                }
                _ => None,
            };
            return Location::At(passage, spans, reason);
        }
    }
    let segments: Vec<(usize, usize)> =
        annotation.segments.iter().map(|&(offset, length)| (offset, offset.saturating_add(length))).collect();
    let found = match candidates.as_slice() {
        [passage] => match within(texts, annotation, *passage, readings[*passage]) {
            Some(segments) => texts.of(*passage, readings[*passage].lengths).found(&segments),
            None => format!("which is before its passage, which starts at {}", bioc.passages[*passage].offset),
        },
        _ => "which fits no passage".to_owned(),
    };
    let text = text_of(annotation).map(|text| format!(", but its text is `{text}`")).unwrap_or_default();
    Location::Wrong(format!("has offsets {}, {found}{text}", written(&segments)))
}

fn text_of(annotation: &Annotation) -> Option<&str> {
    annotation.text.as_deref().filter(|text| !text.is_empty())
}

/// The segments of an annotation from the start of a passage, in the unit of the reading; if only
/// lengths count characters, both ends in characters. `None` if it starts before the passage.
fn within(texts: &Texts, annotation: &Annotation, passage: usize, reading: Reading) -> Option<Vec<(usize, usize)>> {
    let converter = texts.of(passage, reading.unit);
    let segment = |&(offset, length): &(usize, usize)| {
        let start = offset.checked_sub(reading.base)?;
        if reading.lengths == reading.unit {
            return Some((start, start.checked_add(length)?));
        }
        let start = converter.character(start)?;
        Some((start, start.checked_add(length)?))
    };
    annotation.segments.iter().map(segment).collect()
}

/// The spans of an annotation in a passage, and whether they are segments of its single location.
fn fit(texts: &Texts, annotation: &Annotation, passage: usize, reading: Reading) -> Option<(Vec<Span>, bool)> {
    let segments = within(texts, annotation, passage, reading)?;
    let converter = texts.of(passage, reading.lengths);
    let text = text_of(annotation);
    if let Some(spans) = converter.fit(&segments, text) {
        return Some((spans, false));
    }
    let ([segment], Some(text), true) = (segments.as_slice(), text, reading.discontinuous) else { return None };
    converter.fit_discontinuous(*segment, text).map(|spans| (spans, true))
}

/// Whether all offsets of an annotation are outside a passage.
fn is_outside(bioc: &Bioc, annotation: &Annotation, passage: usize, reading: Reading) -> bool {
    let length = reading.unit.length(&bioc.passages[passage].text);
    annotation.segments.iter().all(|(offset, _)| offset.checked_sub(reading.base).is_none_or(|start| start >= length))
}

/// For each passage, how much longer its predecessors are in a unit than in characters.
fn surplus(bioc: &Bioc, unit: OffsetUnit) -> Vec<usize> {
    let mut order: Vec<usize> = (0..bioc.passages.len()).collect();
    order.sort_by_key(|&index| (bioc.passages[index].offset, index));
    let (mut before, mut sum) = (vec![0; bioc.passages.len()], 0);
    for index in order {
        let passage = &bioc.passages[index];
        before[index] = sum;
        if !passage.duplicate {
            sum += unit.length(&passage.text) - OffsetUnit::Characters.length(&passage.text);
        }
    }
    before
}

/// The offset of each passage in characters: smaller than in the file by the surplus of its
/// predecessors.
fn starts(bioc: &Bioc, unit: OffsetUnit) -> Vec<usize> {
    let earlier = surplus(bioc, unit);
    bioc.passages.iter().zip(earlier).map(|(passage, earlier)| passage.offset.saturating_sub(earlier)).collect()
}

/// Whether no two passages overlap.
fn are_disjoint(bioc: &Bioc, starts: &[usize]) -> bool {
    let passages = bioc.passages.iter().zip(starts).filter(|(passage, _)| !passage.duplicate);
    let mut locations: Vec<(usize, usize)> =
        passages.map(|(passage, &start)| (start, start + OffsetUnit::Characters.length(&passage.text))).collect();
    locations.sort_unstable();
    locations.windows(2).all(|pair| pair[0].1 <= pair[1].0)
}
