//! From marked instances to the encoder's input: `[CLS] pieces [SEP]`, within a window that keeps
//! both entities.
//!
//! Which pieces are kept if an instance has more than `max_length`, special tokens included:
//!
//! 1. **One window.** If the two entities and everything between them fit, the window is one
//!    contiguous range of pieces with both in its middle: the remaining room is shared evenly
//!    between the two sides, and what one side does not need goes to the other. No word is cut at
//!    the window's edge, so the window may have a few pieces fewer than the maximum.
//! 2. **Two windows**, if the caller chose [`TooLong::Join`] and one window does not fit: one
//!    around each entity, built in the same way with half of the room each, one after the other.
//! 3. Otherwise the instance is an error or is dropped and reported, as the caller chose. With
//!    [`TooLong::Join`] it is dropped, because its mentions alone must fill the room (a chemical's
//!    full name).
//!
//! A pair of concepts of a document (document scope) that is too long is encoded in one of the windows
//! that start at every half window, the same for all pairs of the document, so that they share it:
//! in the window that has the nearest pair of mentions and most of the further ones. If no window has
//! the nearest pair, it is as above. Further pairs of mentions outside of the window are not read.
//!
//! Words are always numbered in the whole marked text, so distances in words stay correct.

use std::ops::Range;

use rayon::prelude::*;

use super::tokenizer::{Piece, Tokenizer};
use super::{Features, Instance};
use crate::config::TooLong;
use crate::corpus::Span;
use crate::corpus::find_tags;
use crate::{Error, Result};

/// An instance that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// Its index among the instances given.
    pub index: usize,
    /// Its identifier.
    pub id: String,
    /// Its gold label, for `Confusion::with_lost`.
    pub label: Option<usize>,
}

/// Encoded instances, and those that were dropped.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// One for each instance that was kept, in order.
    pub features: Vec<Features>,
    /// Index of each of them among the instances given.
    pub kept: Vec<usize>,
    /// The instances that were left out, in order.
    pub dropped: Vec<Dropped>,
    /// Number of kept instances that were cut to a window.
    pub cut: usize,
}

impl Encoded {
    /// Number of dropped gold positives of each label, for `Confusion::with_lost`.
    pub fn lost(&self, labels: usize, negative: Option<usize>) -> Vec<u64> {
        let mut lost = vec![0; labels];
        for label in self.dropped.iter().filter_map(|dropped| dropped.label).filter(|label| Some(*label) != negative) {
            if let Some(count) = lost.get_mut(label) {
                *count += 1;
            }
        }
        lost
    }
}

impl Tokenizer {
    /// Encode one instance in at most `max_length` pieces, `[CLS]` and `[SEP]` included. `None`
    /// when it does not fit and `too_long` is not [`TooLong::Error`].
    pub fn features(&self, instance: &Instance, max_length: usize, too_long: TooLong) -> Result<Option<Features>> {
        self.features_with(&mut None, instance, max_length, too_long)
    }

    /// As [`Tokenizer::features`], with the pieces of the last instance, which the next one has too if
    /// it has the same text.
    ///
    /// # Errors
    /// As [`Tokenizer::features`].
    pub fn features_with(
        &self,
        last: &mut Option<TextPieces>,
        instance: &Instance,
        max_length: usize,
        too_long: TooLong,
    ) -> Result<Option<Features>> {
        let room = room_of(max_length)?;
        let fail = |message: String| Err(Error::corpus(format!("instance {}", instance.id), message));
        let length = instance.text.chars().count();
        let further = instance.further.iter().flat_map(|pair| pair.iter().zip(&instance.mentions));
        for (span, mention) in instance.entities.iter().zip(&instance.mentions).chain(further) {
            if span.start >= span.end || span.end > length {
                let Span { start, end } = span;
                return fail(format!("entity `{mention}` at {start}..{end} is not in its text of {length} characters"));
            }
        }
        let tags = tags_of(instance);
        let TextPieces { pieces, .. } = match last {
            Some(known) if known.text == instance.text && known.tags == tags => known,
            other => {
                let pieces = self.pieces_with_tags(&instance.text, tags.clone())?;
                other.insert(TextPieces { text: instance.text.clone(), tags, pieces })
            }
        };
        let mut entities = [0..0, 0..0];
        for (range, (span, mention)) in entities.iter_mut().zip(instance.entities.iter().zip(&instance.mentions)) {
            match pieces_of(pieces, *span) {
                Some(found) => *range = found,
                None => {
                    return fail(format!(
                        "entity `{mention}` has no word piece: its characters are all ignored by the tokenizer"
                    ));
                }
            }
        }
        // A further mention without pieces is not read.
        let further = instance
            .further
            .iter()
            .filter_map(|[one, other]| Some([pieces_of(pieces, *one)?, pieces_of(pieces, *other)?]));
        let further: Vec<[Range<usize>; 2]> = further.collect();
        let shared = instance.concepts.is_some().then(|| shared_window(pieces, &entities, &further, room)).flatten();
        let windows = match shared.map_or_else(|| windows_of(pieces, &entities, room, too_long), |one| Ok(vec![one])) {
            Ok(windows) => windows,
            Err(_) if too_long != TooLong::Error => return Ok(None),
            Err(needed) => {
                return fail(format!(
                    "its entities `{}` and `{}` need {needed} pieces, and max_length={max_length} leaves room for {room}; \
                     raise max_length or let long instances be dropped or joined",
                    instance.mentions[0], instance.mentions[1]
                ));
            }
        };
        Ok(Some(self.assemble(pieces, &windows, &entities, &further, instance)))
    }

    /// All pieces of a text without marked entities, `[CLS] ... [SEP]`.
    ///
    /// # Errors
    /// As [`Tokenizer::pieces`].
    pub fn text_features(&self, text: &str) -> Result<Features> {
        let nowhere = Span::new(0, 0);
        let mut features = Features {
            ids: vec![self.cls_id()],
            spans: vec![nowhere],
            words: vec![None],
            entities: [nowhere; 2],
            further: Vec::new(),
            marker_types: None,
            cut: 0,
            label: None,
        };
        for piece in self.pieces(text)? {
            features.ids.push(piece.id);
            features.spans.push(piece.span);
            features.words.push(Some(piece.word));
        }
        features.ids.push(self.sep_id());
        features.spans.push(nowhere);
        features.words.push(None);
        Ok(features)
    }

    /// A text in parts of at most `max_length` pieces, `[CLS] ... [SEP]`, of about the same length.
    /// No word is cut, unless it is longer than a part.
    ///
    /// # Errors
    /// As [`Tokenizer::pieces`].
    pub fn parts(&self, text: &str, max_length: usize) -> Result<Vec<Features>> {
        let room = room_of(max_length)?;
        let pieces = self.pieces(text)?;
        let size = pieces.len().div_ceil(pieces.len().div_ceil(room).max(1));
        let mut parts = Vec::new();
        let mut rest = &pieces[..];
        while let Some(first) = rest.first() {
            let within = |end: &usize| rest.get(*end).is_none_or(|next| rest[*end - 1].word != next.word);
            let end = (1..=rest.len().min(size)).rev().find(within).unwrap_or(rest.len().min(room));
            let (part, others) = rest.split_at(end);
            let word = |piece: &Piece| Some(piece.word - first.word);
            parts.push(Features {
                ids: [self.cls_id()].into_iter().chain(part.iter().map(|p| p.id)).chain([self.sep_id()]).collect(),
                spans: vec![],
                words: [None].into_iter().chain(part.iter().map(word)).chain([None]).collect(),
                entities: [Span::new(0, 0); 2],
                further: vec![],
                marker_types: None,
                cut: 0,
                label: None,
            });
            rest = others;
        }
        Ok(parts)
    }

    /// Encode many instances, in parallel and in order.
    pub fn encode_all(&self, instances: &[Instance], max_length: usize, too_long: TooLong) -> Result<Encoded> {
        room_of(max_length)?;
        // All results are collected first, so that the first error by position is reported, whichever
        // thread fails first.
        let of_text = |instances: &[Instance]| {
            let mut last = None;
            let features = |instance| self.features_with(&mut last, instance, max_length, too_long);
            instances.iter().map(features).collect::<Vec<_>>()
        };
        let texts: Vec<&[Instance]> = instances.chunk_by(|one, next| one.text == next.text).collect();
        let results: Vec<_> = texts.into_par_iter().map(of_text).collect();
        let mut encoded = Encoded { features: Vec::new(), kept: Vec::new(), dropped: Vec::new(), cut: 0 };
        for (index, (result, instance)) in results.into_iter().flatten().zip(instances).enumerate() {
            match result? {
                Some(features) => {
                    encoded.cut += usize::from(features.cut > 0);
                    encoded.features.push(features);
                    encoded.kept.push(index);
                }
                None => encoded.dropped.push(Dropped { index, id: instance.id.clone(), label: instance.label }),
            }
        }
        Ok(encoded)
    }

    fn assemble(
        &self,
        pieces: &[Piece],
        windows: &[Range<usize>],
        entities: &[Range<usize>; 2],
        further: &[[Range<usize>; 2]],
        instance: &Instance,
    ) -> Features {
        let kept: usize = windows.iter().map(Range::len).sum();
        let mut features = Features {
            ids: Vec::with_capacity(kept + 2),
            spans: Vec::with_capacity(kept + 2),
            words: Vec::with_capacity(kept + 2),
            entities: [Span { start: 0, end: 0 }; 2],
            further: Vec::new(),
            marker_types: instance.marker_types,
            cut: pieces.len() - kept,
            label: instance.label,
        };
        let mut push = |id, span, word| {
            features.ids.push(id);
            features.spans.push(span);
            features.words.push(word);
        };
        push(self.cls_id(), Span { start: 0, end: 0 }, None);
        for piece in windows.iter().flat_map(|window| &pieces[window.clone()]) {
            push(piece.id, piece.span, Some(piece.word));
        }
        let end = pieces[..windows.last().map_or(0, |window| window.end)].last().map_or(0, |piece| piece.span.end);
        push(self.sep_id(), Span { start: end, end }, None);
        // The mentions are shifted by [CLS] and the windows before their own.
        let shifted = |range: &Range<usize>| {
            let mut before = 1;
            for window in windows {
                if window.start <= range.start && range.end <= window.end {
                    let start = before + range.start - window.start;
                    return Some(Span { start, end: start + range.len() });
                }
                before += window.len();
            }
            None
        };
        for (entity, range) in features.entities.iter_mut().zip(entities) {
            *entity = shifted(range).unwrap_or(*entity);
        }
        features.further = further.iter().filter_map(|[one, other]| Some([shifted(one)?, shifted(other)?])).collect();
        features
    }
}

/// The number of pieces that fit between `[CLS]` and `[SEP]`.
fn room_of(max_length: usize) -> Result<usize> {
    match max_length.checked_sub(2) {
        Some(room) if room >= 2 => Ok(room),
        _ => Err(Error::config(
            "max_length",
            format!("must be at least 4 ([CLS], two entities, [SEP]), not {max_length}"),
        )),
    }
}

/// The spans of an instance's text that are one word each: tags, markers, and whatever replaces a
/// mention.
fn tags_of(instance: &Instance) -> Vec<Span> {
    let copied = |span: &Span| {
        instance.copied.iter().any(|part| part.marked < span.end && span.start < part.marked + part.length)
    };
    let mut tags = find_tags(&instance.text);
    tags.extend(instance.entities.iter().filter(|span| !copied(span)));
    tags.sort();
    tags.dedup_by(|later, earlier| {
        let overlap = later.start < earlier.end;
        if overlap {
            earlier.end = earlier.end.max(later.end);
        }
        overlap
    });
    tags
}

/// The pieces that have characters in `span`.
fn pieces_of(pieces: &[Piece], span: Span) -> Option<Range<usize>> {
    let inside = |piece: &Piece| piece.span.start < span.end && span.start < piece.span.end;
    let first = pieces.iter().position(inside)?;
    let last = pieces.iter().rposition(inside)?;
    Some(first..last + 1)
}

/// The pieces of a text, for the next instance of the same text.
pub struct TextPieces {
    text: String,
    tags: Vec<Span>,
    pieces: Vec<Piece>,
}

/// Of the windows that start at every half window, the one with the nearest pair of mentions and most
/// of the further ones; of several the first. `None` if no window has the nearest pair.
fn shared_window(
    pieces: &[Piece],
    nearest: &[Range<usize>; 2],
    further: &[[Range<usize>; 2]],
    room: usize,
) -> Option<Range<usize>> {
    if pieces.len() <= room {
        return Some(0..pieces.len());
    }
    let starts_word = |at: usize| at == 0 || at == pieces.len() || pieces[at].word != pieces[at - 1].word;
    let windows = (0..).map(|number| number * (room / 2).max(1)).take_while(|start| *start < pieces.len());
    let windows = windows.filter_map(|start| {
        // No word is cut at an edge.
        let end = (start..=pieces.len().min(start + room)).rev().find(|end| starts_word(*end))?;
        let start = (start..end).find(|start| starts_word(*start))?;
        Some(start..end)
    });
    let has = |window: &Range<usize>, pair: &[Range<usize>; 2]| {
        pair.iter().all(|mention| window.start <= mention.start && mention.end <= window.end)
    };
    let mut best: Option<(usize, Range<usize>)> = None;
    for window in windows.filter(|window| has(window, nearest)) {
        let count = further.iter().filter(|pair| has(&window, pair)).count();
        if best.as_ref().is_none_or(|(most, _)| count > *most) {
            best = Some((count, window));
        }
    }
    best.map(|(_, window)| window)
}

/// The windows to keep, or the number of pieces that would be needed.
fn windows_of(
    pieces: &[Piece],
    entities: &[Range<usize>; 2],
    room: usize,
    too_long: TooLong,
) -> std::result::Result<Vec<Range<usize>>, usize> {
    let whole = 0..pieces.len();
    if whole.len() <= room {
        return Ok(vec![whole]);
    }
    let [first, second] = if entities[0].start <= entities[1].start {
        [&entities[0], &entities[1]]
    } else {
        [&entities[1], &entities[0]]
    };
    let both = first.start..first.end.max(second.end);
    if both.len() <= room {
        return Ok(vec![widen(pieces, both.clone(), room - both.len())]);
    }
    if too_long != TooLong::Join {
        return Err(both.len());
    }
    let alone = first.len() + second.len();
    if first.end > second.start || alone > room {
        return Err(alone.min(both.len()));
    }
    // One window did not fit, so more than `spare` pieces are between the entities: the two windows cannot touch.
    let spare = room - alone;
    Ok(vec![widen(pieces, first.clone(), spare / 2), widen(pieces, second.clone(), spare - spare / 2)])
}

/// Widen a range of pieces by `spare` in all, evenly on both sides as far as there are pieces,
/// without cutting a word.
fn widen(pieces: &[Piece], range: Range<usize>, spare: usize) -> Range<usize> {
    let (left, right) = (range.start, pieces.len() - range.end);
    let after = (spare - (spare / 2).min(left)).min(right);
    let before = (spare - after).min(left);
    let mut window = range.start - before..range.end + after;
    let cuts = |at: usize| at > 0 && at < pieces.len() && pieces[at].word == pieces[at - 1].word;
    while window.start < range.start && cuts(window.start) {
        window.start += 1;
    }
    while window.end > range.end && cuts(window.end) {
        window.end -= 1;
    }
    window
}
