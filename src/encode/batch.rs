//! Packed batches: sentences one after the other in a single row of tokens.

use std::ops::Range;

use super::{Features, Masked};

/// Sentences one after the other in a single row of tokens, without padding unless requested
/// ([`Padding`]).
///
/// An instance has a sentence of its own, except with levitated markers: there the instances of one
/// text share its sentence, and each adds groups of [`MARKERS`] tokens behind it: one for each pair of
/// mentions of its entities, which is a single one except at document scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Vocabulary ids of all sentences, `(tokens)`; those of markers follow the vocabulary.
    pub ids: Vec<u32>,
    /// Position of each token in its sentence, `(tokens)`. A marker has that of the piece at which
    /// it points.
    pub positions: Vec<u32>,
    /// Cumulative sequence lengths: the start of each sentence, and the number of tokens,
    /// `(sentences + 1)`.
    pub cu_seqlens: Vec<usize>,
    /// Index of the label of each instance, `(instances)`; empty when they are to be predicted.
    pub labels: Vec<u32>,
    /// The number of pieces of each sentence without its padding or markers, `(sentences)`; only
    /// these are attended to by the whole sentence. `None`: all of them.
    pub valid_lengths: Option<Vec<usize>>,
    /// The ids of the markers; `None` without levitated markers.
    pub markers: Option<MarkerIds>,
    /// Where each instance is, `(instances)`.
    pub instances: Vec<InstanceTokens>,
}

/// The tokens of an instance in its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceTokens {
    /// From `[CLS]` to `[SEP]`.
    pub pieces: Range<usize>,
    /// What a head reads as words: all positions of the sentence but the first and the last, so
    /// `[SEP]` and padding too where there is padding.
    pub words: Range<usize>,
    /// The tokens that stand for the two entities: their first pieces, or their start markers; a pair
    /// of tokens for each pair of mentions.
    pub entities: Vec<[usize; 2]>,
}

/// Number of marker tokens of a pair of mentions: start and end of the first entity, start and end of
/// the second.
pub const MARKERS: usize = 4;

/// The ids of levitated markers: one for each of the [`MARKERS`] roles and each entity type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkerIds {
    /// The first id, behind the word pieces.
    pub first: u32,
    /// Number of entity types.
    pub types: u32,
}

impl MarkerIds {
    /// Number of ids.
    pub fn len(self) -> usize {
        MARKERS * self.types as usize
    }

    /// Whether there are no markers.
    pub fn is_empty(self) -> bool {
        self.types == 0
    }

    fn id(self, role: usize, entity_type: u32) -> u32 {
        self.first + role as u32 * self.types + entity_type
    }
}

/// Padding of all sentences to one length, as in the paper's reference code, whose heads also read
/// the padding ([`crate::config::Compat`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Padding {
    /// Pieces of every sentence.
    pub length: usize,
    /// Id of `[PAD]`.
    pub id: u32,
}

impl Batch {
    /// A batch without instances.
    fn empty() -> Self {
        Self {
            ids: vec![],
            positions: vec![],
            cu_seqlens: vec![0],
            labels: vec![],
            valid_lengths: None,
            markers: None,
            instances: vec![],
        }
    }

    /// Sentences of ids, divided by `cu_seqlens`; the first word of a sentence stands for its first
    /// entity and the last word for its second.
    pub fn of_ids(ids: &[u32], cu_seqlens: &[usize], labels: Vec<u32>) -> Self {
        let mut batch = Self { labels, ..Self::empty() };
        for bounds in cu_seqlens.windows(2) {
            let length = bounds[1] - bounds[0];
            batch.push_sentence(&ids[bounds[0]..bounds[1]], [1, length.saturating_sub(2).max(1)]);
        }
        batch
    }

    /// Pack the given instances in the given order.
    pub fn pack<'a>(features: impl IntoIterator<Item = &'a Features>) -> Self {
        let mut batch = Self::empty();
        for item in features {
            batch.push_sentence(&item.ids, item.entities.map(|entity| entity.start));
            batch.labels.extend(item.label.map(|label| label as u32));
        }
        batch
    }

    fn push_sentence(&mut self, ids: &[u32], entities: [usize; 2]) {
        let start = self.ids.len();
        self.ids.extend(ids);
        self.positions.extend(0..ids.len() as u32);
        let end = self.ids.len();
        self.cu_seqlens.push(end);
        self.instances.push(InstanceTokens {
            pieces: start..end,
            words: start + 1..end.saturating_sub(1).max(start + 1),
            entities: vec![entities.map(|piece| start + piece)],
        });
    }

    /// As [`Batch::pack`], with every sentence padded; a longer one stays unchanged.
    pub fn pad<'a>(features: impl IntoIterator<Item = &'a Features>, padding: Padding) -> Self {
        let mut batch = Self { valid_lengths: Some(vec![]), ..Self::empty() };
        for item in features {
            let (start, length) = (batch.ids.len(), item.ids.len().max(padding.length));
            let mut ids = item.ids.clone();
            ids.resize(length, padding.id);
            batch.push_sentence(&ids, item.entities.map(|entity| entity.start));
            if let Some(last) = batch.instances.last_mut() {
                last.pieces = start..start + item.ids.len();
            }
            batch.labels.extend(item.label.map(|label| label as u32));
            batch.valid_lengths.get_or_insert_default().push(item.ids.len());
        }
        batch
    }

    /// Pack instances with levitated markers (Ye et al. 2022; Zhong and Chen 2021): `[CLS] text
    /// [SEP]`, then four markers for each pair of mentions of each instance of the text. With `share`,
    /// neighbours of equal text share a sentence; their results are the same either way.
    pub fn levitate<'a>(features: impl IntoIterator<Item = &'a Features>, markers: MarkerIds, share: bool) -> Self {
        let mut batch = Self { valid_lengths: Some(vec![]), markers: Some(markers), ..Self::empty() };
        let mut text: Option<&[u32]> = None;
        for item in features {
            let shared = share && text == Some(&item.ids);
            text = Some(&item.ids);
            let (pieces, words) = match batch.instances.last() {
                Some(last) if shared => {
                    batch.cu_seqlens.pop();
                    (last.pieces.clone(), last.words.clone())
                }
                _ => {
                    batch.push_sentence(&item.ids, [0; 2]);
                    batch.valid_lengths.get_or_insert_default().push(item.ids.len());
                    batch.cu_seqlens.pop();
                    let Some(own) = batch.instances.pop() else { unreachable!("it was just added") };
                    (own.pieces, own.words)
                }
            };
            let types = item.marker_types.unwrap_or_default();
            let mut entities = Vec::with_capacity(1 + item.further.len());
            for mentions in [&item.entities].into_iter().chain(&item.further) {
                let at = batch.ids.len();
                entities.push([at, at + MARKERS / 2]);
                for (argument, (entity, entity_type)) in mentions.iter().zip(types).enumerate() {
                    let last = entity.end.saturating_sub(1).max(entity.start);
                    for (end, piece) in [entity.start, last].into_iter().enumerate() {
                        batch.ids.push(markers.id(2 * argument + end, entity_type));
                        batch.positions.push(piece as u32);
                    }
                }
            }
            batch.cu_seqlens.push(batch.ids.len());
            batch.instances.push(InstanceTokens { pieces, words, entities });
            batch.labels.extend(item.label.map(|label| label as u32));
        }
        batch
    }

    /// Texts with masked pieces. Each of these is an instance, whose two entities it stands for, and
    /// the label is the piece that it was.
    pub fn masked(texts: impl IntoIterator<Item = Masked>) -> Self {
        let mut batch = Self::empty();
        for text in texts {
            batch.push_sentence(&text.ids, [0; 2]);
            let Some(whole) = batch.instances.pop() else { unreachable!("it was just added") };
            let instances = text.targets.iter().map(|target| {
                let token = whole.pieces.start + target;
                InstanceTokens { entities: vec![[token; 2]], ..whole.clone() }
            });
            batch.instances.extend(instances);
            batch.labels.extend(text.labels);
        }
        batch
    }

    /// Pieces of a sentence without its padding or markers.
    pub fn pieces(&self, sentence: usize) -> usize {
        match &self.valid_lengths {
            Some(valid) => valid[sentence],
            None => self.cu_seqlens[sentence + 1] - self.cu_seqlens[sentence],
        }
    }

    /// The first token of each sentence, `(sentences)`.
    pub fn first_tokens(&self) -> &[usize] {
        &self.cu_seqlens[..self.cu_seqlens.len() - 1]
    }

    /// How many tokens behind the text belong together: the markers of a pair of mentions, or 0.
    pub fn group(&self) -> usize {
        if self.markers.is_some() { MARKERS } else { 0 }
    }

    /// Number of instances.
    pub fn len(&self) -> usize {
        self.instances.len()
    }

    /// Whether there is no instance.
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }

    /// Number of tokens, `[CLS]`, `[SEP]` and markers included.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Number of positions of the longest sentence: its tokens without markers.
    pub fn longest(&self) -> usize {
        match self.markers {
            Some(_) => self.valid_lengths.iter().flatten().copied().max().unwrap_or(0),
            None => self.cu_seqlens.windows(2).map(|w| w[1] - w[0]).max().unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::Span;

    fn features(ids: &[u32], entities: [(usize, usize); 2], label: usize) -> Features {
        Features {
            ids: ids.to_vec(),
            spans: vec![Span::new(0, 0); ids.len()],
            words: vec![None; ids.len()],
            entities: entities.map(|(start, end)| Span { start, end }),
            further: vec![],
            marker_types: Some([0, 1]),
            cut: 0,
            label: Some(label),
        }
    }

    #[test]
    fn pairs_of_a_text_share_its_sentence() {
        let items = [
            features(&[1, 7, 8, 9, 2], [(1, 2), (2, 4)], 0),
            features(&[1, 7, 8, 9, 2], [(2, 4), (1, 2)], 1),
            features(&[1, 5, 2], [(1, 2), (1, 2)], 2),
        ];
        let ids = MarkerIds { first: 100, types: 2 };
        let batch = Batch::levitate(&items, ids, true);
        assert_eq!(batch.ids, [1, 7, 8, 9, 2, 100, 102, 105, 107, 100, 102, 105, 107, 1, 5, 2, 100, 102, 105, 107]);
        assert_eq!(batch.positions, [0, 1, 2, 3, 4, 1, 1, 2, 3, 2, 3, 1, 1, 0, 1, 2, 1, 1, 1, 1]);
        assert_eq!(batch.cu_seqlens, [0, 13, 20]);
        assert_eq!(batch.valid_lengths.as_deref(), Some(&[5, 3][..]));
        assert_eq!(batch.labels, [0, 1, 2]);
        assert_eq!((batch.len(), batch.longest(), batch.group()), (3, 5, 4));
        let entities: Vec<_> = batch.instances.iter().flat_map(|instance| instance.entities.clone()).collect();
        assert_eq!(entities, [[5, 7], [9, 11], [16, 18]]);
        assert_eq!(batch.instances[1].words, 1..4);
        let apart = Batch::levitate(&items, ids, false);
        assert_eq!(apart.cu_seqlens, [0, 9, 18, 25]);
        assert_eq!(apart.instances[1], InstanceTokens { pieces: 9..14, words: 10..13, entities: vec![[14, 16]] });
    }
    #[test]
    fn every_pair_of_mentions_has_markers_of_its_own() {
        let spans = |pair: [(usize, usize); 2]| pair.map(|(start, end)| Span { start, end });
        let mut first = features(&[1, 7, 8, 9, 2], [(1, 2), (2, 4)], 0);
        first.further = vec![spans([(3, 4), (2, 3)])];
        let second = features(&[1, 7, 8, 9, 2], [(2, 3), (1, 2)], 1);
        let batch = Batch::levitate([&first, &second], MarkerIds { first: 100, types: 2 }, true);
        assert_eq!(batch.ids[5..], [100, 102, 105, 107, 100, 102, 105, 107, 100, 102, 105, 107]);
        assert_eq!(batch.positions[5..], [1, 1, 2, 3, 3, 3, 2, 2, 2, 2, 1, 1]);
        assert_eq!((batch.cu_seqlens.as_slice(), batch.len(), batch.group()), (&[0, 17][..], 2, 4));
        assert_eq!(batch.instances[0].entities, [[5, 7], [9, 11]]);
        assert_eq!(batch.instances[1].entities, [[13, 15]]);
    }
}
