//! DDI in the splits of the BLUE benchmark: 18,779 / 7,244 / 5,761 pairs.
//!
//! The development set is known from BLUE's published file: all pairs of 942 training sentences but
//! two. Of BLUE's training set we know only the size: 18,779 pairs, 2,937 of them positive. Leaving
//! eight sentences of one document out of the rest of Train gives exactly both figures. This is an
//! inference. Each pair that is left out is reported.
//!
//! BLUE drew sentences, not documents: most of its development documents are in its training set
//! too, so scores on dev are too high. The test documents are in neither.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Finding, FindingKind, Report, Sentence, Split};
use crate::{Error, Result};

/// One line per document: `DrugBank.d3: 1 9 10` stands for the sentences DDI-DrugBank.d3.s1, .s9
/// and .s10.
const DEV: &str = include_str!("blue_ddi_dev_sentences.txt");

/// Sentences of Train that are neither in dev nor, as inferred, in train.
const LEFT_OUT_SENTENCES: [&str; 8] = [
    "DDI-DrugBank.d64.s0",
    "DDI-DrugBank.d64.s4",
    "DDI-DrugBank.d64.s6",
    "DDI-DrugBank.d64.s29",
    "DDI-DrugBank.d64.s30",
    "DDI-DrugBank.d64.s79",
    "DDI-DrugBank.d64.s85",
    "DDI-DrugBank.d64.s87",
];

/// Pairs of a development sentence that BLUE's published file does not have.
const LEFT_OUT_PAIRS: [&str; 2] = ["DDI-MedLine.d104.s8.p1", "DDI-MedLine.d104.s8.p2"];

/// Identifiers of the development sentences.
fn dev_sentences() -> BTreeSet<String> {
    DEV.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(": "))
        .flat_map(|(document, numbers)| numbers.split(' ').map(move |n| format!("DDI-{document}.s{n}")))
        .collect()
}

/// Build the three splits from the sentences of Train and of the test files.
pub(super) fn splits(
    path: &Path,
    train: Vec<Sentence>,
    test: Vec<Sentence>,
    report: &mut Report,
) -> Result<Vec<Split>> {
    let ids = dev_sentences();
    let (mut dev, mut rest): (Vec<_>, Vec<_>) = train.into_iter().partition(|sentence| ids.contains(&sentence.id));
    if dev.len() != ids.len() || test.is_empty() {
        let message = format!(
            "splits=\"blue\" needs the complete DDIExtraction 2013 corpus: {} of its {} development sentences and {} test \
             sentences were found. Read the original archive, or use splits=\"full\"",
            dev.len(),
            ids.len(),
            test.len()
        );
        return Err(Error::corpus(path, message));
    }
    // Findings in a training sentence are reported under the split that it was moved to.
    for finding in &mut report.findings {
        let sentence = finding.id.rsplit_once('.').map_or("", |(sentence, _)| sentence);
        if finding.split.as_deref() == Some("train") && ids.contains(sentence) {
            finding.split = Some("dev".to_owned());
        }
    }
    let mut leave_out = |split: &str, document: &str, pair: &str, reason: &str| {
        let finding = Finding::new(FindingKind::Skipped, pair, reason);
        report.findings.push(finding.of_document(document).within(split));
    };
    for sentence in &mut dev {
        let document = &sentence.document;
        sentence.pairs.retain(|pair| {
            let left_out = LEFT_OUT_PAIRS.contains(&pair.id.as_str());
            if left_out {
                leave_out("dev", document, &pair.id, "not in BLUE's published development set");
            }
            !left_out
        });
    }
    rest.retain(|sentence| {
        let left_out = LEFT_OUT_SENTENCES.contains(&sentence.id.as_str());
        for pair in sentence.pairs.iter().filter(|_| left_out) {
            let reason = "not in BLUE's training set, as inferred from its published size";
            leave_out("train", &sentence.document, &pair.id, reason);
        }
        !left_out
    });
    let named = [("train", rest), ("dev", dev), ("test", test)];
    Ok(named.into_iter().map(|(name, sentences)| Split { name: name.to_owned(), sentences }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_development_sentences_is_complete() {
        let ids = dev_sentences();
        assert_eq!(ids.len(), 942);
        let documents: BTreeSet<_> = ids.iter().map(|id| id.rsplit_once('.').unwrap().0).collect();
        assert_eq!(documents.len(), 403);
        assert!(LEFT_OUT_SENTENCES.iter().all(|id| !ids.contains(*id)));
    }
}
