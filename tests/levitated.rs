//! Levitated markers: all pairs of a text in one pass, each with the result that it has alone.

use biorel::config::{Backend, HeadKind, Precision, TrainingSettings};
use biorel::corpus::{Entity, Sentence, Span, Task};
use biorel::encode::{Features, Marking, mark_arguments};
use biorel::model::{EncoderConfig, Network, Source, Weights};
use biorel::ops::compute::Compute;
use biorel::predict::{Predict, Prediction};
use biorel::rng::{Purpose, Stream};
use biorel::train::{Event, Trained, TrainingRun};

const HEADS: [HeadKind; 2] = [HeadKind::Entity, HeadKind::EntityAttention];

fn network(head: HeadKind) -> Network {
    let encoder: EncoderConfig = serde_json::from_str(
        r#"{"vocab_size": 30, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 48, "max_position_embeddings": 64}"#,
    )
    .unwrap();
    Network { encoder, head, labels: 2, padding: None, marker_types: 2, source: Source::Engine }
}

/// The pairs of some texts of 3 words to `longest`. The label is whether the first word of the first
/// entity has one of the smaller ids: it differs between the pairs of a text.
fn pairs(texts: usize, of_each: usize, longest: usize, index: u32) -> Vec<Features> {
    pairs_of_concepts(texts, of_each, longest, index, 0)
}

/// The same with 0 to `further` pairs of mentions more, as pairs of concepts have.
fn pairs_of_concepts(texts: usize, of_each: usize, longest: usize, index: u32, further: usize) -> Vec<Features> {
    let mut stream = Stream::new(1, Purpose::Sample, index);
    let mut items = Vec::new();
    for _ in 0..texts {
        let words = 3 + stream.below(longest - 2);
        let ids: Vec<u32> = [2].into_iter().chain((0..words).map(|_| 5 + stream.below(25) as u32)).chain([3]).collect();
        for number in 0..of_each {
            let mut mentions = || {
                [0, 1].map(|_| {
                    let start = 1 + stream.below(words);
                    Span { start, end: start + 1 + stream.below(words + 1 - start) }
                })
            };
            let entities = mentions();
            let further = (0..number % (further + 1)).map(|_| mentions()).collect();
            items.push(Features {
                spans: vec![Span { start: 0, end: 0 }; ids.len()],
                words: (0..ids.len()).map(|i| (i > 0 && i + 1 < ids.len()).then(|| i as u32 - 1)).collect(),
                entities,
                further,
                marker_types: Some([0, 1].map(|_| stream.below(2) as u32)),
                cut: 0,
                label: Some(usize::from(ids[entities[0].start] < 17)),
                ids: ids.clone(),
            });
        }
    }
    items
}

fn predict(compute: Compute, network: &Network, weights: &Weights, features: &[Features]) -> Vec<Prediction> {
    compute.execute(Predict { network, weights, features, on_batch: &mut |_| Ok(()) }).unwrap()
}

#[test]
fn a_pair_has_the_same_bits_alone_and_among_any_others_in_any_order() {
    let mut items = pairs(6, 9, 38, 1);
    items.extend(pairs(1, 700, 38, 2)); // more than a batch holds
    same_bits(&items);
}

#[test]
fn a_pair_of_concepts_has_the_same_bits_alone_and_among_any_others_in_any_order() {
    let mut items = pairs_of_concepts(6, 9, 38, 7, 3);
    items.extend(pairs_of_concepts(1, 400, 38, 8, 5)); // more than a batch holds
    items.extend(pairs(3, 5, 38, 9));
    same_bits(&items);
}

fn same_bits(items: &[Features]) {
    let mut stream = Stream::new(2, Purpose::Sample, 0);
    for head in HEADS {
        let network = network(head);
        let weights = Weights::initial(network.specs(), 3);
        for (precision, threads) in [(Precision::F32, 1), (Precision::F32, 2), (Precision::Bf16, 2)] {
            let compute = Compute::new(Backend::Cpu, precision, Some(threads)).unwrap();
            let all = predict(compute, &network, &weights, items);
            let distinct = |a: &Prediction, b: &Prediction| a.probabilities != b.probabilities;
            assert!(distinct(&all[0], &all[1]), "{head}: the pairs of a text have the same result");
            for size in [1, 2, 3, 7, 30, items.len()] {
                let mut chosen: Vec<usize> = (0..items.len()).collect();
                stream.shuffle(&mut chosen);
                chosen.truncate(size);
                let subset: Vec<Features> = chosen.iter().map(|index| items[*index].clone()).collect();
                for (found, index) in predict(compute, &network, &weights, &subset).iter().zip(&chosen) {
                    assert_eq!(found, &all[*index], "{head}, {precision:?}, {threads} threads, pair {index} of {size}");
                }
            }
        }
    }
}

#[test]
fn engines_agree_and_attention_is_a_distribution_over_the_text() {
    let mut items = pairs(5, 6, 38, 3);
    items.extend(pairs_of_concepts(4, 6, 38, 10, 4));
    for head in HEADS {
        let network = network(head);
        let weights = Weights::initial(network.specs(), 3);
        let [ours, theirs] = [Backend::Cpu, Backend::Reference].map(|backend| {
            predict(Compute::new(backend, Precision::F32, Some(2)).unwrap(), &network, &weights, &items)
        });
        for ((ours, theirs), item) in ours.iter().zip(&theirs).zip(&items) {
            let close = |a: &[f32], b: &[f32]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
            assert!(close(&ours.probabilities, &theirs.probabilities), "{head}: {ours:?} {theirs:?}");
            assert_eq!(ours.pieces.is_some(), head == HeadKind::EntityAttention);
            if let (Some(ours), Some(theirs)) = (&ours.pieces, &theirs.pieces) {
                assert!(close(ours, theirs), "{head}");
                assert_eq!((ours.len(), ours[0], ours[ours.len() - 1]), (item.ids.len(), 0.0, 0.0));
                assert!((ours.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            }
        }
    }
}

fn train(settings: &TrainingSettings, features: &[Features], threads: usize) -> Trained {
    let network = network(settings.head);
    let mut weights = Weights::initial(network.specs(), settings.seed);
    // As large as in a pre-trained encoder, so that a marker finds its piece.
    for (spec, values) in weights.specs.iter().zip(&mut weights.values) {
        let factor = if spec.name.contains("embeddings.weight") {
            25.0
        } else if spec.decay {
            8.0
        } else {
            1.0
        };
        values.iter_mut().for_each(|value| *value *= factor);
    }
    let on_event = &mut |_: Event| Ok(());
    let (dev, checkpoint) = (None, None);
    let instances = features.into();
    let run = TrainingRun { network: &network, weights: &weights, instances, settings, dev, checkpoint, on_event };
    Compute::new(Backend::Cpu, Precision::F32, Some(threads)).unwrap().execute(run).unwrap()
}

/// Pairs of one text have different labels, so only the markers can tell them apart.
#[test]
fn training_learns_what_only_the_markers_tell() {
    let (items, test) = (pairs(800, 6, 8, 4), pairs(40, 6, 8, 5));
    for head in HEADS {
        let settings = TrainingSettings {
            head,
            learning_rate: 1e-3,
            batch_size: 16,
            epochs: 3,
            dropout: Some(0.0),
            ..Default::default()
        };
        let trained = train(&settings, &items, 2);
        let compute = Compute::new(Backend::Cpu, Precision::F32, Some(2)).unwrap();
        let found = predict(compute, &network(head), &trained.weights, &test);
        let right = found.iter().zip(&test).filter(|(found, item)| Some(found.label()) == item.label).count();
        let share = right as f64 / test.len() as f64;
        assert!(share > 0.8, "{head}: {share} of the pairs are right");
    }
}

/// The nearest mention of the first concept is the same word in all texts: only the further one tells
/// the label.
#[test]
fn training_learns_what_only_further_mentions_tell() {
    let of = |texts, index| {
        let mut items = pairs_of_concepts(texts, 8, 8, index, 1);
        items.retain(|item| !item.further.is_empty());
        for item in &mut items {
            item.ids[1] = 29;
            item.entities[0] = Span { start: 1, end: 2 };
            item.label = Some(usize::from(item.ids[item.further[0][0].start] < 17));
        }
        items
    };
    let (items, test) = (of(1200, 11), of(60, 12));
    let head = HeadKind::EntityAttention;
    let settings = TrainingSettings {
        head,
        learning_rate: 1e-3,
        batch_size: 16,
        epochs: 3,
        dropout: Some(0.0),
        ..Default::default()
    };
    let trained = train(&settings, &items, 2);
    let compute = Compute::new(Backend::Cpu, Precision::F32, Some(2)).unwrap();
    let right = |items: &[Features]| {
        let found = predict(compute, &network(head), &trained.weights, items);
        let right = found.iter().zip(items).filter(|(found, item)| Some(found.label()) == item.label).count();
        right as f64 / items.len() as f64
    };
    let blind: Vec<Features> = test.iter().map(|item| Features { further: vec![], ..item.clone() }).collect();
    let (with, without) = (right(&test), right(&blind));
    assert!(with > 0.8 && with > without + 0.15, "{with} of the pairs are right, {without} without further mentions");
}

/// A batch counts pairs, and its texts are encoded once: the pairs of a text stay together.
#[test]
fn a_step_has_the_pairs_of_few_texts() {
    let items = pairs(20, 5, 38, 6);
    let settings = TrainingSettings { head: HeadKind::Entity, batch_size: 10, epochs: 2, ..Default::default() };
    let trained = train(&settings, &items, 1);
    assert_eq!(trained.history.len(), 20);
    let texts: usize = items.iter().step_by(5).map(|item| item.ids.len()).sum();
    for epoch in trained.history.chunks(10) {
        assert!(epoch.iter().all(|step| step.instances == 10));
        assert_eq!(epoch.iter().map(|step| step.tokens).sum::<usize>(), texts + 4 * items.len());
    }
    assert_eq!(train(&settings, &items, 2).weights, trained.weights, "the same bits with two threads");
}

fn sentence(text: &str, entities: &[(usize, usize, &str)]) -> Sentence {
    let entity = |(number, (start, end, entity_type)): (usize, &(usize, usize, &str))| Entity {
        id: format!("e{number}"),
        spans: vec![Span::new(*start, *end)],
        text: String::new(),
        entity_type: (*entity_type).into(),
    };
    Sentence {
        id: "s".into(),
        document: "d".into(),
        text: text.into(),
        entities: entities.iter().enumerate().map(entity).collect(),
        pairs: vec![],
    }
}

#[test]
fn the_text_is_that_of_all_pairs() {
    let task = Task::chemprot();
    let of = sentence(
        "Aspirin blocks COX-1 and COX aspirin.",
        &[(0, 7, "CHEMICAL"), (15, 20, "GENE-Y"), (25, 28, "GENE-N"), (25, 36, "CHEMICAL")],
    );
    let marked = |arguments, marking| mark_arguments(&of, arguments, "p", None, &task, marking).unwrap();
    for (arguments, tags, types) in [
        ((0, 1), ["@CHEMICAL$", "@GENE$"], [0, 1]),
        ((3, 1), ["@GENE-CHEMICAL$", "@GENE$"], [0, 1]),
        ((3, 2), ["@GENE-CHEMICAL$", "@GENE-CHEMICAL$"], [0, 1]),
    ] {
        let instance = marked(arguments, Marking::Levitated);
        assert_eq!(instance.text, "@CHEMICAL$ blocks @GENE$ and @GENE-CHEMICAL$.");
        let characters: Vec<char> = instance.text.chars().collect();
        let at = instance.entities.map(|span| characters[span.start..span.end].iter().collect::<String>());
        assert_eq!(at, tags);
        assert_eq!(instance.marker_types, Some(types));
    }
    let visible = marked((0, 1), Marking::LevitatedVisible);
    assert_eq!((visible.text.as_str(), visible.entities), (of.text.as_str(), [Span::new(0, 7), Span::new(15, 20)]));
    let other = sentence("A disease.", &[(0, 1, "CHEMICAL"), (2, 9, "DISEASE")]);
    let error = mark_arguments(&other, (0, 1), "p", None, &task, Marking::Levitated).unwrap_err().to_string();
    assert!(error.contains("`DISEASE`") && error.contains("CHEMICAL, GENE"), "{error}");
}
