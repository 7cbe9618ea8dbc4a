//! Masked words, for the language model that BERT is pre-trained with (Devlin et al. 2019,
//! section 3.1), by whole words as in their later models: either all pieces of a word are to be
//! predicted or none.

use super::Features;
use crate::rng::{Purpose, Stream};

/// Shares of the pieces to predict that become `[MASK]`, and a random piece; the others stay as they
/// are.
const MASKED: f64 = 0.8;
const RANDOM: f64 = 0.1;

/// How words are masked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Masking {
    /// The share of the pieces of a text that are to be predicted; at least one word is.
    pub rate: f64,
    /// Id of `[MASK]`.
    pub mask: u32,
    /// Number of ids, of which random pieces are drawn.
    pub vocabulary: u32,
    /// The run's seed.
    pub seed: u64,
}

/// A text with masked pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Masked {
    /// Its ids, `[CLS] ... [SEP]`, with `[MASK]` and random pieces.
    pub ids: Vec<u32>,
    /// The pieces to predict, in order.
    pub targets: Vec<usize>,
    /// What they were, `(targets)`.
    pub labels: Vec<u32>,
}

impl Masking {
    /// The random numbers of a batch: a function of the seed and the batch's number.
    pub fn stream(&self, batch: u32) -> Stream {
        Stream::new(self.seed, Purpose::Mask, batch)
    }

    /// Mask whole words in random order until a share of [`Masking::rate`] of the pieces is to be
    /// predicted. A word that would exceed the share is skipped.
    pub fn mask(&self, text: &Features, stream: &mut Stream) -> Masked {
        let mut words: Vec<Vec<usize>> = Vec::new();
        let mut previous = None;
        for (piece, word) in text.words.iter().enumerate() {
            let Some(word) = word else { continue };
            match words.last_mut() {
                Some(pieces) if previous == Some(*word) => pieces.push(piece),
                _ => words.push(vec![piece]),
            }
            previous = Some(*word);
        }
        let pieces: usize = words.iter().map(Vec::len).sum();
        let wanted = ((pieces as f64 * self.rate).round() as usize).max(1);
        stream.shuffle(&mut words);
        let mut targets: Vec<usize> = Vec::new();
        for word in &words {
            if targets.is_empty() || targets.len() + word.len() <= wanted {
                targets.extend(word);
            }
        }
        targets.sort_unstable();
        let mut ids = text.ids.clone();
        let labels = targets.iter().map(|target| ids[*target]).collect();
        for target in &targets {
            let draw = stream.uniform();
            if draw < MASKED {
                ids[*target] = self.mask;
            } else if draw < MASKED + RANDOM {
                ids[*target] = stream.below(self.vocabulary.max(1) as usize) as u32;
            }
        }
        Masked { ids, targets, labels }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::Span;

    /// `[CLS]`, `words` words of one to three pieces, `[SEP]`.
    fn text(words: u32) -> Features {
        let numbers = (0..words).flat_map(|word| vec![Some(word); 1 + word as usize % 3]);
        let words: Vec<_> = [None].into_iter().chain(numbers).chain([None]).collect();
        let ids = (0..words.len() as u32).map(|piece| 1000 + piece).collect();
        let entities = [Span::new(0, 0); 2];
        Features { ids, spans: vec![], words, entities, further: vec![], marker_types: None, cut: 0, label: None }
    }

    const MASKING: Masking = Masking { rate: 0.15, mask: 7, vocabulary: 900, seed: 3 };

    #[test]
    fn whole_words_of_the_right_share_are_masked() {
        let text = text(60); // 120 pieces
        let (mut masked, mut random, mut unchanged, mut chosen) = (0, 0, 0, 0);
        for batch in 0..200 {
            let Masked { ids, targets, labels } = MASKING.mask(&text, &mut MASKING.stream(batch));
            assert!((16..=18).contains(&targets.len()), "{} targets", targets.len());
            for (target, label) in targets.iter().zip(&labels) {
                assert_eq!(text.ids[*target], *label);
                let word = text.words[*target].unwrap();
                let pieces = text.words.iter().enumerate().filter(|(_, other)| **other == Some(word));
                assert!(pieces.into_iter().all(|(piece, _)| targets.contains(&piece)), "half of word {word}");
                match ids[*target] {
                    7 => masked += 1,
                    id if id == *label => unchanged += 1,
                    id if id < 900 => random += 1,
                    id => panic!("{id}"),
                }
            }
            let others = (0..ids.len()).filter(|piece| !targets.contains(piece));
            assert!(others.into_iter().all(|piece| ids[piece] == text.ids[piece]));
            chosen += targets.len();
        }
        let share = |count: usize| count as f64 / chosen as f64;
        for (found, expected) in [(masked, 0.8), (random, 0.1), (unchanged, 0.1)] {
            // Five standard deviations of a proportion.
            let bound = 5.0 * (expected * (1.0 - expected) / chosen as f64).sqrt();
            assert!((share(found) - expected).abs() < bound, "{} instead of {expected}", share(found));
        }
    }

    #[test]
    fn the_mask_is_a_function_of_seed_and_batch() {
        let text = text(30);
        let of = |masking: Masking, batch| masking.mask(&text, &mut masking.stream(batch));
        assert_eq!(of(MASKING, 5), of(MASKING, 5));
        assert_ne!(of(MASKING, 5), of(MASKING, 6));
        assert_ne!(of(MASKING, 5), of(Masking { seed: 4, ..MASKING }, 5));
    }

    #[test]
    fn a_text_of_one_long_word_is_masked_whole() {
        let mut text = text(3);
        text.words.iter_mut().flatten().for_each(|word| *word = 0);
        let masked = MASKING.mask(&text, &mut MASKING.stream(0));
        assert_eq!(masked.targets, (1..text.ids.len() - 1).collect::<Vec<_>>());
    }
}
