//! Arguments that every engine must refuse, and batches without tokens, which it must accept.

use biorel::ops::{
    AttentionShape, Classifier, ClsAttention, Loss, Norm, Ops, Rotation, RowGroups, Targets, Window, WordScores,
};

/// Shapes that do not fit are errors, not panics.
pub fn refuses_mismatched_shapes<O: Ops>(ops: &O) {
    let up = |shape: &[usize]| ops.zeros(shape).unwrap();
    assert!(ops.upload(&[1.0], &[2]).is_err());
    assert!(ops.linear(&up(&[2, 3]), &up(&[4, 5]), None).is_err());
    assert!(ops.linear(&up(&[2, 3]), &up(&[4, 3]), Some(&up(&[3]))).is_err());
    assert!(ops.linear(&up(&[6]), &up(&[4, 3]), None).is_err());
    assert!(ops.linear_backward(&up(&[2, 3]), &up(&[4, 3]), &up(&[3, 4]), None).is_err());
    assert!(ops.bias_gelu(&up(&[2, 3]), &up(&[2])).is_err());
    assert!(ops.add(up(&[2, 3]), &up(&[3, 2])).is_err());
    assert!(ops.geglu(&up(&[2, 3])).is_err());
    assert!(ops.geglu_backward(&up(&[2, 4]), &up(&[2, 4])).is_err());
    for (positions, heads) in [(&[0, 1][..], 2), (&[0], 1), (&[0, 1], 0)] {
        assert!(ops.rotary(up(&[2, 18]), &Rotation { positions, heads, theta: 10.0, back: false }).is_err());
    }
    let window = Some(Window { distance: 1, positions: &[0] });
    let local = AttentionShape { window, ..AttentionShape::plain(&[0, 2], 2) };
    assert!(ops.attention(&up(&[2, 12]), local, None).is_err());
    assert!(ops.rows(&up(&[2, 3]), &[2]).is_err());
    let tables = [up(&[5, 3]), up(&[4, 3]), up(&[2, 3])];
    let tables = [&tables[0], &tables[1], &tables[2]];
    assert!(ops.embed(&[5], &[0], tables).is_err());
    assert!(ops.embed(&[4], &[4], tables).is_err());
    assert!(ops.embed(&[4, 4], &[3], tables).is_err());
    let loss = Loss::mean(2);
    assert!(ops.cross_entropy(&up(&[2, 3]), &[0], &loss).is_err());
    assert!(ops.cross_entropy(&up(&[2, 3]), &[0, 3], &loss).is_err());
    assert!(ops.cross_entropy(&up(&[2, 3]), &[0, 1], &Loss { weights: Some(&[1.0; 2]), ..loss }).is_err());
    for (cu_seqlens, heads) in [(vec![0, 3], 2), (vec![0, 2], 5), (vec![0, 2], 0), (vec![1, 2], 2), (vec![0, 3, 2], 2)]
    {
        assert!(
            ops.attention(&up(&[2, 12]), AttentionShape::plain(&cu_seqlens, heads), None).is_err(),
            "{cu_seqlens:?}"
        );
    }
    let (input, weight, bias) = (&up(&[2, 4]), &up(&[12, 4]), &up(&[12]));
    let attend = |bias, hidden, cu_seqlens| {
        let shape = AttentionShape::plain(cu_seqlens, 2);
        ops.cls_attention(&ClsAttention { input, weight, bias, hidden, shape, dropout: None })
    };
    assert!(attend(bias, 4, &[0, 2]).is_ok());
    let short = up(&[11]);
    assert!(attend(&short, 4, &[0, 2]).is_err());
    assert!(attend(bias, 4, &[0, 3]).is_err());
    assert!(attend(bias, 4, &[0, 2, 2]).is_err());
}

/// The same for the operations that heads are trained with.
#[allow(clippy::single_range_in_vec_init)] // the words of one instance
pub fn refuses_mismatched_heads<O: Ops>(ops: &O) {
    let up = |shape: &[usize]| ops.zeros(shape).unwrap();
    let groups =
        |parts, rows: &[usize], starts: &[usize]| RowGroups { parts, rows: rows.to_vec(), starts: starts.to_vec() };
    assert!(ops.mean_rows(&up(&[3, 4]), &groups(2, &[0, 2], &[0, 1, 2])).is_ok());
    for (parts, rows, starts) in [
        (1, &[3][..], &[0, 1][..]),
        (1, &[0], &[0, 0, 1]),
        (2, &[0], &[0, 1]),
        (0, &[0], &[0, 1]),
        (1, &[0, 1], &[0, 1]),
    ] {
        assert!(ops.mean_rows(&up(&[3, 4]), &groups(parts, rows, starts)).is_err(), "{parts} {rows:?} {starts:?}");
    }
    assert!(ops.mean_rows_backward(&up(&[2, 4]), &RowGroups::of_rows(vec![0]), 3, None).is_err());
    assert!(ops.mean_rows_backward(&up(&[1, 4]), &RowGroups::of_rows(vec![3]), 3, None).is_err());
    let (last, key) = (up(&[4, 6]), up(&[1, 6]));
    assert!(ops.pool_words(&last, &WordScores::Key(&key), &[0..4]).is_ok());
    assert!(ops.pool_words(&last, &WordScores::Key(&key), &[0..5]).is_err());
    assert!(ops.pool_words(&last, &WordScores::Key(&up(&[1, 5])), &[0..4]).is_err());
    let (entities, query) = (up(&[1, 12]), up(&[6, 12]));
    let pairs = |keys, score| {
        let scores = WordScores::Pairs { keys, entities: &entities, query: &query, score };
        ops.pool_words(&last, &scores, &[1..3]).map(|_| ())
    };
    assert!(pairs(&last, &key).is_ok());
    let (narrow, short) = (up(&[4, 5]), up(&[1, 5]));
    assert!(pairs(&narrow, &key).is_err());
    assert!(pairs(&last, &short).is_err());
    let (x, weight, bias) = (up(&[2, 4]), up(&[3, 4]), up(&[3]));
    let classify = |parts: &[&O::Buffer], weight, bias, labels: &[u32], groups: &[usize]| {
        let targets = Targets { labels, groups, loss: &Loss::mean(2) };
        ops.classify(&Classifier { parts, weight, bias, dropout: None }, &targets).map(|_| ())
    };
    assert!(classify(&[&x], &weight, &bias, &[0, 2], &[1, 2]).is_ok());
    assert!(classify(&[&x], &weight, &bias, &[0, 3], &[1, 2]).is_err());
    assert!(classify(&[&x], &weight, &bias, &[0, 2], &[1, 3]).is_err());
    assert!(classify(&[&x], &weight, &bias, &[0], &[3]).is_err());
    assert!(classify(&[&x, &x], &weight, &bias, &[0, 2], &[3]).is_err());
    assert!(classify(&[&x], &weight, &up(&[2]), &[0, 2], &[3]).is_err());
}

/// Batches without tokens are results without rows.
pub fn accepts_empty_batches<O: Ops>(ops: &O) {
    let up = |shape: &[usize]| ops.zeros(shape).unwrap();
    let empty = |x: &O::Buffer| ops.download(x).unwrap().is_empty();
    let zeros = |x: &O::Buffer, n: usize| ops.download(x).unwrap() == vec![0.0; n];
    let (x, w, b) = (up(&[0, 4]), up(&[6, 4]), up(&[6]));
    let y = ops.linear(&x, &w, Some(&b)).unwrap();
    let (dx, dw) = ops.linear_backward(&x, &w, &y, None).unwrap();
    assert!(empty(&y) && empty(&dx) && zeros(&dw, 24));
    assert!(zeros(&ops.column_sum(&y).unwrap(), 6));
    let norm = Norm { gamma: &up(&[6]), beta: &b, eps: 1e-12 };
    let normed = ops.add_norm(y.clone(), Some(&b), Some(&y), norm, None).unwrap();
    let d = ops.add_norm_backward(y.clone(), &normed, &b, None).unwrap();
    assert!(empty(&d.branch) && zeros(&d.gamma, 6));
    let shape = AttentionShape::plain(&[0, 0], 2);
    let (out, p) = ops.attention(&y, shape, None).unwrap();
    assert!(empty(&out) && empty(&ops.attention_backward(&y, p, &out, shape, None).unwrap()));
    let (input, weight, bias) = (&up(&[0, 6]), &up(&[18, 6]), &up(&[18]));
    let shape = AttentionShape::plain(&[0], 2);
    let of = ClsAttention { input, weight, bias, hidden: 6, shape, dropout: None };
    let (out, tape) = ops.cls_attention(&of).unwrap();
    let [d_input, d_weight, d_bias] = ops.cls_attention_backward(&of, tape, &out).unwrap();
    assert!(empty(&out) && empty(&d_input) && zeros(&d_weight, 108) && zeros(&d_bias, 18));
    let (dx, db) = ops.bias_gelu_backward(&y, &b, y.clone()).unwrap();
    assert!(zeros(&db, 6));
    assert_eq!(ops.to_candle(&dx).unwrap().dims(), [0, 6]);
    assert_eq!(ops.sum_squares(&y).unwrap(), 0.0);
    let (loss, gradient) = ops.cross_entropy(&y, &[], &Loss::mean(1)).unwrap();
    assert!(zeros(&loss, 1) && empty(&gradient));
}
