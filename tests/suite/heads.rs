//! The operations that heads are trained with.

use std::ops::Range;

use biorel::ops::{Classified, Classifier, Loss, Ops, RowGroups, Targets, WordScoreGradients, WordScores};

use super::{Draws, Results, collect, dropout};

/// The operations of this file.
pub const HEAD_OPERATIONS: [&str; 3] = ["mean-rows", "pool-words", "classify"];

/// Groups of one row and of several; a row in two groups, and rows in none.
pub fn mean_rows<O: Ops>(ops: &O, results: &mut Results, width: usize) {
    let cases = [
        RowGroups::of_rows(vec![3, 0, 5]),
        RowGroups { parts: 2, rows: vec![1, 2, 4, 1], starts: vec![0, 1, 2, 3, 4] },
        RowGroups { parts: 2, rows: vec![0, 3, 3, 4, 1, 2, 2, 5], starts: vec![0, 2, 3, 6, 8] },
    ];
    for (number, groups) in cases.iter().enumerate() {
        let mut draws = Draws::new((width + number) as u32);
        let mut up = |shape: &[usize]| ops.upload(&draws.normal(shape.iter().product()), shape).unwrap();
        let (x, onto) = (up(&[7, width]), up(&[7, width]));
        let dy = up(&[groups.len() / groups.parts, groups.parts * width]);
        let means = ops.mean_rows(&x, groups).unwrap();
        let dx = ops.mean_rows_backward(&dy, groups, 7, None).unwrap();
        let added = ops.mean_rows_backward(&dy, groups, 7, Some(onto.clone())).unwrap();
        let also_added = ops.mean_rows_backward(&dy, groups, 7, Some(up(&[7, width]))).unwrap();
        let case = format!("mean rows {width} {number}");
        collect(ops, results, &case, &[("means", &means), ("dx", &dx), ("added", &added), ("x", &x)]);
        collect(ops, results, &case, &[("onto", &onto), ("unshared added", &also_added)]);
    }
}

/// Words of instances; the first two read the same ones where pairs do.
pub fn pool_words<O: Ops>(ops: &O, results: &mut Results, words: &[Range<usize>], tokens: usize, width: usize) {
    let mut draws = Draws::new((tokens + width) as u32);
    let mut up = |shape: &[usize], scale: f32| {
        let values: Vec<f32> = draws.normal(shape.iter().product()).iter().map(|x| x * scale).collect();
        ops.upload(&values, shape).unwrap()
    };
    let small = 1.0 / (width as f32).sqrt();
    let (last, key, dy) = (up(&[tokens, width], 1.0), up(&[1, width], small), up(&[words.len(), width], 1.0));
    let case = format!("pool words {words:?} {width}");
    if words.windows(2).all(|pair| pair[0] != pair[1]) {
        let (summaries, pooled) = ops.pool_words(&last, &WordScores::Key(&key), words).unwrap();
        let (d_last, scores) = ops.pool_words_backward(pooled, &dy, None).unwrap();
        let WordScoreGradients::Key(d_key) = scores else { panic!("the gradients of other scores") };
        collect(ops, results, &case, &[("summaries", &summaries), ("dlast", &d_last), ("dkey", &d_key)]);
    }
    let (keys, entities) = (up(&[tokens, width], 1.0), up(&[words.len(), 2 * width], 1.0));
    let (query, score, onto) =
        (up(&[width, 2 * width], small), up(&[1, width], 1.0), up(&[words.len(), 2 * width], 1.0));
    let scores = WordScores::Pairs { keys: &keys, entities: &entities, query: &query, score: &score };
    for onto in [None, Some(onto)] {
        let case = format!("{case} pairs {}", onto.is_some());
        let (summaries, pooled) = ops.pool_words(&last, &scores, words).unwrap();
        let (d_last, scores) = ops.pool_words_backward(pooled, &dy, onto).unwrap();
        let WordScoreGradients::Pairs { keys, bias, entities, query, score } = scores else {
            panic!("the gradients of other scores")
        };
        collect(ops, results, &case, &[("summaries", &summaries), ("dlast", &d_last), ("dkeys", &keys)]);
        collect(
            ops,
            results,
            &case,
            &[("dbias", &bias), ("dentities", &entities), ("dquery", &query), ("dscore", &score)],
        );
    }
}

/// One array of vectors or two, with dropout and groups of labels.
pub fn classify<O: Ops>(ops: &O, results: &mut Results, rows: usize, labels: usize, widths: &[usize]) {
    let mut draws = Draws::new((300 * rows + labels) as u32);
    let mut up = |shape: &[usize]| ops.upload(&draws.normal(shape.iter().product()), shape).unwrap();
    let parts: Vec<_> = widths.iter().map(|width| up(&[rows, *width])).collect();
    let (weight, bias) = (up(&[labels, widths.iter().sum()]), up(&[labels]));
    let gold = draws.below(rows, labels);
    let weights: Vec<f64> = (0..labels).map(|label| label as f64 * 0.7 + 0.1).collect();
    let half = [labels / 2, labels - labels / 2];
    let groups: &[usize] = if labels > 3 { &half } else { &[labels] };
    for (name, weights, focal_gamma, rate) in [("plain", None, 0.0, 0.0), ("focal", Some(&weights), 2.0, 0.3)] {
        let loss = Loss { weights: weights.map(Vec::as_slice), focal_gamma, total: rows as f64 * 0.9 };
        let mask = dropout(rate);
        let parts: Vec<_> = parts.iter().collect();
        let of = Classifier { parts: &parts, weight: &weight, bias: &bias, dropout: mask.as_ref() };
        let found = ops.classify(&of, &Targets { labels: &gold, groups, loss: &loss }).unwrap();
        let Classified { loss, parts: d_parts, weight: d_weight, bias: d_bias } = found;
        let case = format!("classify {rows} {labels} {widths:?} {name}");
        collect(ops, results, &case, &[("loss", &loss), ("dweight", &d_weight), ("dbias", &d_bias)]);
        assert_eq!(d_parts.len(), widths.len());
        d_parts.iter().for_each(|part| collect(ops, results, &case, &[("dvectors", part)]));
    }
}
