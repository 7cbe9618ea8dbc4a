//! From the attention over word pieces to the attention over words (the paper's Fig. 3 and Table
//! V).
//!
//! A word's weight is the sum of its pieces' weights: the model's attention is a distribution over
//! pieces, and the sums are the same distribution over words.

use std::ops::Range;

use crate::corpus::Span;
use crate::corpus::{is_marker, is_tag};
use crate::encode::{Features, Instance};
use crate::{Error, Result};

/// One word of an instance and its attention weight.
#[derive(Debug, Clone, PartialEq)]
pub struct WordWeight {
    /// Its number in the marked text, from 0.
    pub word: u32,
    /// Its characters in the marked text.
    pub text: String,
    /// Where they are in the marked text.
    pub span: Span,
    /// Where they are in the sentence; `None` for a tag or a marker, which stand nowhere in it.
    pub original: Option<Span>,
    /// Share of the attention; the words of an instance sum to 1.
    pub weight: f64,
    /// Its word pieces.
    pub pieces: usize,
    /// Distance in words to the first and second entity: 0 inside, 1 next to it. Punctuation marks
    /// and entity markers are not counted as words on the way, so `increased` is 2 from the entity
    /// in `increased by ( @DRUG$`.
    pub distance: [u32; 2],
    /// Whether the word is part of an entity.
    pub is_entity: bool,
}

/// The weight of each word of an instance, from the weights of its pieces: one for each piece
/// between `[CLS]` and `[SEP]`, or one for each piece with `[CLS]` and `[SEP]` at 0.
///
/// The weights must be a distribution: none negative or NaN, and a sum of 1 up to the rounding of
/// f32 or bf16 (1 %), which is divided out.
pub fn word_weights(features: &Features, instance: &Instance, piece_weights: &[f32]) -> Result<Vec<WordWeight>> {
    let fail = |message: String| Error::corpus(format!("instance {}", instance.id), message);
    let pieces = features.ids.len();
    if features.spans.len() != pieces || features.words.len() != pieces || pieces < 2 {
        return Err(fail("its features are not those of `[CLS] ... [SEP]`".into()));
    }
    let weights = match piece_weights {
        [cls, inner @ .., sep] if piece_weights.len() == pieces => {
            if *cls != 0.0 || *sep != 0.0 {
                return Err(fail(format!("[CLS] and [SEP] have the weights {cls} and {sep}, which belong to no word")));
            }
            inner
        }
        inner if inner.len() == pieces - 2 => inner,
        other => return Err(fail(format!("{} weights for {} pieces", other.len(), pieces - 2))),
    };
    if let Some(bad) = weights.iter().find(|weight| !(weight.is_finite() && **weight >= 0.0)) {
        return Err(fail(format!("a piece has the weight {bad}, which is not a share of attention")));
    }
    let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
    if !weights.is_empty() && (total - 1.0).abs() > 0.01 {
        return Err(fail(format!("its attention sums to {total}, not to 1")));
    }

    let runs = runs_of(&features.words[1..pieces - 1]).ok_or_else(|| fail("a piece belongs to no word".into()))?;
    let chars: Vec<char> = instance.text.chars().collect();
    let mut words = Vec::with_capacity(runs.len());
    for (word, run) in runs {
        let spans = &features.spans[run.start + 1..run.end + 1];
        let start = spans.iter().map(|span| span.start).min().unwrap_or(0);
        let end = spans.iter().map(|span| span.end).max().unwrap_or(0);
        let Some(text) = chars.get(start..end) else {
            return Err(fail(format!("a word at {start}..{end} is not in its text of {} characters", chars.len())));
        };
        let span = Span { start, end };
        words.push(WordWeight {
            word,
            text: text.iter().collect(),
            span,
            original: None,
            pieces: run.len(),
            weight: weights[run].iter().map(|weight| f64::from(*weight)).sum::<f64>() / total,
            distance: [0; 2],
            is_entity: false,
        });
    }
    for (side, entity) in instance.entities.iter().enumerate() {
        measure_distances(&mut words, &chars, *entity, side);
    }
    for word in &mut words {
        let further = instance.further.iter().flatten().any(|mention| mention.overlaps(&word.span));
        word.is_entity = word.distance.contains(&0) || further;
        word.original = original_of(instance, word);
    }
    Ok(words)
}

/// The stretches of pieces with one word number; `None` if a piece has none.
fn runs_of(words: &[Option<u32>]) -> Option<Vec<(u32, Range<usize>)>> {
    let mut runs: Vec<(u32, Range<usize>)> = Vec::new();
    for (position, word) in words.iter().enumerate() {
        let word = (*word)?;
        match runs.last_mut() {
            Some((last, run)) if *last == word => run.end = position + 1,
            _ => runs.push((word, position..position + 1)),
        }
    }
    Some(runs)
}

/// Where a word stands in the sentence: where its ends were copied from or, if an end was rewritten
/// (`TNFα` as `TNFa`), where the adjacent copied text was.
fn original_of(instance: &Instance, word: &WordWeight) -> Option<Span> {
    let Span { start, end } = word.span;
    // Tags and markers; with levitated markers the other entities of the sentence are tags too.
    let rewritten = !word.is_entity && !is_tag(&word.text);
    let mut place = Span { start: usize::MAX, end: 0 };
    for part in &instance.copied {
        let stop = part.marked + part.length;
        if (part.marked <= start && start < stop) || (rewritten && stop == start) {
            place.start = part.original + (start - part.marked);
        }
        if (part.marked < end && end <= stop) || (rewritten && part.marked == end && place.end == 0) {
            place.end = part.original + (end - part.marked);
        }
    }
    (place.start < place.end).then_some(place)
}

/// Count, from the entity outwards on both sides, the words that a reader would count, those
/// between two windows too.
fn measure_distances(words: &mut [WordWeight], text: &[char], entity: Span, side: usize) {
    let before = words.iter().take_while(|word| word.span.end <= entity.start).count();
    let inside = words.iter().skip(before).take_while(|word| word.span.start < entity.end).count();
    let (mut distance, mut edge) = (1, entity.start);
    for word in words[..before].iter_mut().rev() {
        distance += words_within(text, word.span.end, edge);
        word.distance[side] = distance;
        distance += u32::from(counts(word));
        edge = word.span.start;
    }
    (distance, edge) = (1, entity.end);
    for word in &mut words[before + inside..] {
        distance += words_within(text, edge, word.span.start);
        word.distance[side] = distance;
        distance += u32::from(counts(word));
        edge = word.span.end;
    }
}

/// Whether a reader counts it as a word: neither a punctuation mark nor an entity marker.
fn counts(word: &WordWeight) -> bool {
    word.text.chars().any(char::is_alphanumeric) && !is_marker(&word.text)
}

/// Words in a stretch of text of which no piece is left.
fn words_within(text: &[char], start: usize, end: usize) -> u32 {
    let stretch = text.get(start..end).unwrap_or_default();
    stretch.split(|c| !c.is_alphanumeric()).filter(|word| !word.is_empty()).count() as u32
}
