//! Splits at random, by fraction.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::FoldUnit;
use crate::corpus::{Corpus, FindingKind, Pair, Sentence, Split};
use crate::rng::{Purpose, Stream};
use crate::{Error, Result};

/// Divide the splits named in `from` (all, if none) at random into parts with these fractions of
/// their pairs; other splits stay as they are. By document, a part has whole documents.
pub fn split_at_random(
    corpus: &Corpus,
    from: &[String],
    parts: &[(String, f64)],
    unit: FoldUnit,
    seed: u64,
) -> Result<Corpus> {
    let chosen = |name: &str| from.is_empty() || from.iter().any(|other| other == name);
    for name in from {
        corpus.split(name)?;
    }
    if unit == FoldUnit::Given {
        return Err(Error::config("by", "choose document or instance"));
    }
    let (old, others): (Vec<&Split>, Vec<&Split>) = corpus.splits.iter().partition(|split| chosen(&split.name));
    if let Some(twice) = others.iter().find(|split| parts.iter().any(|(name, _)| *name == split.name)) {
        let message = format!("{} already has a split `{}`; name it, or divide with divide()", corpus.name, twice.name);
        return Err(Error::config("parts", message));
    }
    let sentences: Vec<&Sentence> = old.iter().flat_map(|split| &split.sentences).collect();
    let fractions: Vec<f64> = parts.iter().map(|(_, fraction)| *fraction).collect();
    let mut stream = Stream::new(seed, Purpose::Sample, 2);
    let lost: Vec<usize> = (corpus.report.findings.iter().enumerate())
        .filter(|(_, finding)| finding.split.as_deref().is_some_and(chosen))
        .map(|(position, _)| position)
        .collect();
    let mut splits: Vec<Split> =
        parts.iter().map(|(name, _)| Split { name: name.clone(), sentences: Vec::new() }).collect();
    let mut divided = corpus.clone();
    let name_of = |part: usize| parts[part].0.clone();
    if unit == FoldUnit::Document {
        // Sorted, so that the shuffle does not depend on the order of the sentences.
        let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
        for sentence in &sentences {
            *sizes.entry(&sentence.document).or_default() += sentence.pairs.len();
        }
        for position in &lost {
            if let Some(document) = corpus.report.findings[*position].document.as_deref() {
                sizes.entry(document).or_default();
            }
        }
        let (with_pairs, without): (Vec<_>, Vec<_>) = sizes.into_iter().partition(|(_, size)| *size > 0);
        // Documents without a pair have parts too, since their lost gold positives are misses there.
        let without = without.into_iter().map(|(document, _)| (document, 1)).collect();
        let mut part_of = deal(with_pairs, &fractions, &mut stream);
        part_of.extend(deal(without, &fractions, &mut stream));
        for sentence in sentences {
            splits[part_of[sentence.document.as_str()]].sentences.push(sentence.clone());
        }
        for position in lost {
            let finding = &mut divided.report.findings[position];
            let part = finding.document.as_deref().and_then(|document| part_of.get(document));
            finding.split = part.map(|part| name_of(*part));
        }
    } else {
        let mut ids: Vec<(&str, usize)> =
            sentences.iter().flat_map(|sentence| &sentence.pairs).map(|pair| (pair.id.as_str(), 1)).collect();
        ids.sort_unstable();
        let part_of = deal(ids, &fractions, &mut stream);
        for (part, split) in splits.iter_mut().enumerate() {
            let own = |pair: &&Pair| part_of[pair.id.as_str()] == part;
            split.sentences = (sentences.iter())
                .map(|sentence| Sentence {
                    pairs: sentence.pairs.iter().filter(own).cloned().collect(),
                    ..(*sentence).clone()
                })
                .filter(|sentence| !sentence.pairs.is_empty())
                .collect();
        }
        let is_lost = |position: &usize| corpus.report.findings[*position].kind == FindingKind::Lost;
        let counted: HashSet<usize> = lost.iter().copied().filter(is_lost).collect();
        let part_of =
            deal(lost.iter().copied().filter(is_lost).map(|position| (position, 1)).collect(), &fractions, &mut stream);
        for position in lost {
            let part = counted.contains(&position).then(|| name_of(part_of[&position]));
            divided.report.findings[position].split = part;
        }
    }
    if let Some(empty) = splits.iter().find(|split| split.pairs() == 0) {
        let message = format!("part `{}` gets no candidate pair; give it a larger fraction", empty.name);
        return Err(Error::config("parts", message));
    }
    splits.extend(others.into_iter().cloned());
    divided.splits = splits;
    Ok(divided)
}

/// The part of each item: in random order, the part that lacks most of its fraction of the size.
fn deal<T: Copy + Eq + std::hash::Hash>(
    mut items: Vec<(T, usize)>,
    fractions: &[f64],
    stream: &mut Stream,
) -> HashMap<T, usize> {
    stream.shuffle(&mut items);
    let total: usize = items.iter().map(|(_, size)| size).sum();
    let mut missing: Vec<f64> = fractions.iter().map(|fraction| fraction * total as f64).collect();
    let mut part_of = HashMap::new();
    for (item, size) in items {
        let part = (0..missing.len()).max_by(|a, b| missing[*a].total_cmp(&missing[*b])).unwrap_or(0);
        missing[part] -= size as f64;
        part_of.insert(item, part);
    }
    part_of
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_gets_its_fraction() {
        for seed in 0..20 {
            let items: Vec<(usize, usize)> = (0..200).map(|item| (item, 1 + item % 7)).collect();
            let total: usize = items.iter().map(|(_, size)| size).sum();
            let part_of = deal(items.clone(), &[0.7, 0.1, 0.2], &mut Stream::new(seed, Purpose::Sample, 2));
            for (part, fraction) in [0.7, 0.1, 0.2].into_iter().enumerate() {
                let size: usize = items.iter().filter(|(item, _)| part_of[item] == part).map(|(_, size)| size).sum();
                assert!((size as f64 - fraction * total as f64).abs() <= 7.0, "{part}: {size} of {total}");
            }
        }
    }
}
