//! Every candidate pair of the published corpora, in every marking, through BioBERT's vocabulary:
//! no entity is lost, and every word has its characters in the sentence. Needs
//! `BIOREL_CORPORA` and `BIOREL_ENCODERS`.

use std::collections::HashMap;
use std::path::PathBuf;

use biorel::attention::word_weights;
use biorel::config::TooLong;
use biorel::corpus::{Corpus, CorpusKind, Sentence};
use biorel::encode::{Features, Marking, Tokenizer, instances};
use rayon::prelude::*;

#[test]
fn every_pair_keeps_its_entities_and_its_words() {
    let (Some(corpora), Some(encoders)) = (std::env::var_os("BIOREL_CORPORA"), std::env::var_os("BIOREL_ENCODERS"))
    else {
        println!("skipped: BIOREL_CORPORA or BIOREL_ENCODERS is not set");
        return;
    };
    let (corpora, encoders) = (PathBuf::from(corpora), PathBuf::from(encoders));
    let tokenizer = Tokenizer::open(encoders.join("vocab/biobert-cased"), None).expect("BioBERT's vocabulary");
    for (kind, path) in [
        (CorpusKind::Aimed, "aimed/aimed_pairs.tsv"),
        (CorpusKind::Ddi, "ddi/DDICorpus-2013.zip"),
        (CorpusKind::Chemprot, "chemprot"),
    ] {
        let corpus = Corpus::read(kind, &[corpora.join(path)], &Default::default()).expect(path);
        for marking in Marking::ALL {
            for split in &corpus.splits {
                let sentences: HashMap<&str, &Sentence> =
                    split.sentences.iter().map(|sentence| (sentence.id.as_str(), sentence)).collect();
                let all = instances(&split.sentences, &corpus.task, marking).expect("instances");
                let encoded = tokenizer.encode_all(&all, 128, TooLong::Join).expect("encoded");
                // One chemical's systematic name has more than 126 pieces; a tag never does.
                let dropped = encoded.dropped.len();
                assert_eq!(encoded.features.len() + dropped, all.len());
                let visible = matches!(marking, Marking::Markers | Marking::LevitatedVisible);
                assert!(dropped == 0 || (visible && dropped < 20), "{:?}", encoded.dropped);
                let check = |(features, index): (&Features, &usize)| {
                    let (mut words, mut placed) = (0, 0);
                    let instance = &all[*index];
                    let n = features.ids.len();
                    assert!(
                        n <= 128 && features.entities.iter().all(|entity| entity.start < entity.end && entity.end < n)
                    );
                    let even = vec![1.0 / (n - 2) as f32; n - 2];
                    let weights = word_weights(features, instance, &even).expect("weights");
                    assert!((weights.iter().map(|word| word.weight).sum::<f64>() - 1.0).abs() < 1e-6);
                    // Every word that has a piece is there once, in order, and of an uncut instance every letter, digit
                    // and mark: BERT itself leaves out control and private-use characters.
                    let mut numbers: Vec<u32> = features.words[1..n - 1].iter().flatten().copied().collect();
                    numbers.dedup();
                    assert!(weights.iter().map(|word| word.word).eq(numbers), "{}", instance.id);
                    if features.cut == 0 {
                        let shown = |c: &char| c.is_alphanumeric() || c.is_ascii_punctuation();
                        let letters = |text: &str| text.chars().filter(shown).collect::<String>();
                        let all: String = weights.iter().map(|word| letters(&word.text)).collect();
                        assert_eq!(all, letters(&instance.text), "{}", instance.id);
                    }
                    let sentence: Vec<char> = sentences[instance.sentence.as_str()].text.chars().collect();
                    for word in &weights {
                        words += 1;
                        let Some(original) = word.original else { continue };
                        placed += 1;
                        let there: String = sentence[original.start..original.end].iter().collect();
                        // BLUE's marking writes other alphabets in ASCII.
                        let rewritten = marking == Marking::Blue && !there.is_ascii();
                        assert!(there == word.text || rewritten, "{}: {} is not {there}", instance.id, word.text);
                    }
                    for side in 0..2 {
                        assert!(weights.iter().any(|word| word.distance[side] == 0), "{}", instance.id);
                    }
                    let joined = weights.windows(2).any(|pair| pair[1].word > pair[0].word + 1);
                    [words, placed, usize::from(joined)]
                };
                let add = |a: [usize; 3], b: [usize; 3]| [a[0] + b[0], a[1] + b[1], a[2] + b[2]];
                let pairs = encoded.features.par_iter().zip(&encoded.kept);
                let [words, placed, joined] = pairs.map(check).reduce(|| [0; 3], add);
                println!(
                    "{kind:?} {marking} {}: {} pairs, {} cut, {joined} in two windows, {dropped} dropped, {placed} of {words} words placed",
                    split.name,
                    all.len(),
                    encoded.cut
                );
                assert!(10 * placed > 7 * words, "most words are copied from the sentence");
            }
        }
    }
}
