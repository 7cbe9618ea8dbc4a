//! Every engine compared with the reference engine, and the reference with finite differences.
//!
//! One suite for all engines: values and gradients of every operation, with and without dropout, on
//! irregular sizes. The expected values come from the reference in f64, so the tolerance is the
//! engine's own rounding. It is stated relative to the largest expected value of the result (which
//! is what f32 guarantees for a sum), see [`TOLERANCE`].

mod suite;

use biorel::encode::Batch;
use biorel::model::encoder::{ForwardContext, OutputSpec, forward};
use biorel::model::params::{ParamSpec, encoder_specs};
use biorel::ops::cpu::SimdLevel;
use biorel::ops::cpu::bf16::Bf16Isa;
use biorel::ops::{AdamWStep, AttentionShape, ClsAttention, Cpu, Moments, Norm, Ops, Reference, Rotation, Window};
use biorel::rng::Dropout;
use candle_core::{Device, Tensor};
use suite::{
    Draws, Results, accepts_empty_batches, assert_close, assert_each_close, encoder, exact, expected, heads, modern,
    refuses_mismatched_heads, refuses_mismatched_shapes, small_batch, small_config, small_encoders, suite,
};

/// Largest difference of an f32 engine from the reference in f64, relative to the largest expected
/// value (at least 1).
const TOLERANCE: f64 = 2e-6;

/// The same for attention of first tokens: four products one after the other.
const CHAIN_TOLERANCE: f64 = 5e-6;

fn on_threads<T: Send>(threads: usize, run: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run)
}

#[test]
fn the_reference_in_f32_equals_f64() {
    assert_close(&suite(&Reference::cpu()), expected(), 5e-6, "reference f32");
}

#[test]
fn cpu_equals_the_reference_at_every_level() {
    for level in SimdLevel::ALL {
        match Cpu::with_level(level) {
            Ok(ops) => assert_each_close(suite(&ops), expected(), [TOLERANCE, CHAIN_TOLERANCE], level.name()),
            Err(error) => println!("skipped: {error}"),
        }
    }
}

#[test]
fn the_operations_of_modernbert_equal_the_reference() {
    let expected = modern(&exact());
    assert_close(&modern(&Reference::cpu()), &expected, 5e-6, "reference f32");
    for ops in SimdLevel::ALL.into_iter().filter_map(|level| Cpu::with_level(level).ok()) {
        assert_close(&modern(&ops), &expected, TOLERANCE, ops.level().name());
    }
}

#[test]
fn the_operations_of_heads_equal_the_reference() {
    let expected = heads(&exact());
    assert_close(&heads(&Reference::cpu()), &expected, 5e-6, "reference f32");
    for ops in SimdLevel::ALL.into_iter().filter_map(|level| Cpu::with_level(level).ok()) {
        assert_close(&heads(&ops), &expected, 5e-6, ops.level().name());
        refuses_mismatched_heads(&ops);
    }
}

/// Largest difference of a product in bf16, relative to the largest expected value (at least 1):
/// operands have 8 significant bits, so each is off by up to 2^-9.
const BF16_TOLERANCE: f64 = 2e-2;

/// Engines with products in bf16, with each instruction set of this machine.
fn bf16_engines() -> Vec<(&'static str, Cpu)> {
    let engine = |unit: Bf16Isa| match Cpu::with_bf16(unit) {
        Ok(ops) => Some((unit.name(), ops)),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    };
    Bf16Isa::ALL.into_iter().filter_map(engine).collect()
}

/// Products up to the rounding of their operands, everything else as in f32.
#[test]
fn bf16_equals_the_reference() {
    let (products, others): (Results, Results) =
        expected().iter().cloned().partition(|(name, _)| name.starts_with("linear"));
    for (name, ops) in bf16_engines() {
        let (ours, rest): (Results, Results) =
            suite(&ops).into_iter().partition(|(name, _)| name.starts_with("linear"));
        assert_close(&ours, &products, BF16_TOLERANCE, name);
        assert_each_close(rest, &others, [TOLERANCE, CHAIN_TOLERANCE], name);
    }
}

/// A weight is packed once and used in many products; after an update, products see the new values.
#[test]
fn bf16_products_follow_the_weight() {
    for (name, ops) in bf16_engines() {
        let mut draws = Draws::new(17);
        let up = |values: &[f32], shape: &[usize]| ops.upload(values, shape).unwrap();
        let (x, dy) = (up(&draws.normal(40 * 24), &[40, 24]), up(&draws.normal(40 * 36), &[40, 36]));
        let mut weight = up(&draws.normal(36 * 24), &[36, 24]);
        let results = |weight: &_| {
            let (dx, dw) = ops.linear_backward(&x, weight, &dy, None).unwrap();
            let y = ops.linear(&x, weight, None).unwrap();
            [y, dx, dw].map(|out| ops.download(&out).unwrap())
        };
        let before = results(&weight);
        assert_eq!(results(&weight), before, "{name}");
        let mut moments = Moments { m: ops.zeros(&[36, 24]).unwrap(), v: ops.zeros(&[36, 24]).unwrap() };
        let step = AdamWStep {
            learning_rate: 0.1,
            decay: 0.1,
            betas: [0.9, 0.999],
            epsilon: 1e-6,
            clip: 1.0,
            corrections: [10.0, 1000.0],
        };
        let gradient = up(&draws.normal(36 * 24), &[36, 24]);
        ops.adamw(&mut weight, &mut moments, &gradient, &step).unwrap();
        let fresh = up(&ops.download(&weight).unwrap(), &[36, 24]);
        let after = results(&weight);
        assert_eq!(after, results(&fresh), "{name}");
        assert_ne!(after[0], before[0], "{name}");
    }
}

/// The same bits on a second run, in a pool that is already full, and on 1 to 7 threads.
#[test]
fn cpu_gives_the_same_bits_on_any_number_of_threads() {
    let fastest = Cpu::with_bf16(Bf16Isa::detect()).unwrap();
    for ops in [Cpu::new(), fastest] {
        same_bits_on_any_number_of_threads(&ops);
    }
}

fn same_bits_on_any_number_of_threads(ops: &Cpu) {
    let bits = |results: Results| -> Vec<(String, Vec<u32>)> {
        results.into_iter().map(|(name, x)| (name, x.into_iter().map(f32::to_bits).collect())).collect()
    };
    let all = || [suite(ops), modern(ops)].concat();
    let expected = bits(on_threads(1, all));
    for threads in [1, 2, 3, 7] {
        for (ours, expected) in bits(on_threads(threads, all)).iter().zip(&expected) {
            assert!(ours == expected, "{} differs on {threads} threads", expected.0);
        }
    }
}

/// [`encoder`] in several sizes.
fn encoders<O: Ops>(ops: &O) -> Results {
    let sizes: [(usize, usize, &[usize]); 2] = [(36, 2, &[512]), (10, 5, &[1])];
    let one = |(hidden, heads, lengths), words| encoder(ops, &small_config("bert", hidden, heads, 40), lengths, words);
    let both = |words| sizes.into_iter().flat_map(move |sizes| one(sizes, words));
    small_encoders(ops).into_iter().chain(both(true)).chain(both(false)).collect()
}

#[test]
fn a_whole_encoder_on_the_cpu_equals_the_reference() {
    let expected = encoders(&exact());
    for ops in SimdLevel::ALL.into_iter().filter_map(|level| Cpu::with_level(level).ok()) {
        assert_close(&encoders(&ops), &expected, 5e-6, ops.level().name());
    }
    for (name, ops) in bf16_engines() {
        assert_close(&encoders(&ops), &expected, 5e-2, name);
    }
}

/// A row of a product has the same bits in a product of few rows and in one of many, which reads a
/// weight with long rows in another way.
#[test]
fn rows_of_a_product_do_not_depend_on_their_number() {
    let mut draws = Draws::new(23);
    for (inputs, outputs) in [(96, 48), (512, 128), (1536, 384), (3072, 768)] {
        for ops in SimdLevel::ALL.into_iter().filter_map(|level| Cpu::with_level(level).ok()) {
            let x = ops.upload(&draws.normal(300 * inputs), &[300, inputs]).unwrap();
            let weight = ops.upload(&draws.normal(outputs * inputs), &[outputs, inputs]).unwrap();
            let bias = ops.upload(&draws.normal(outputs), &[outputs]).unwrap();
            let many = ops.linear(&x, &weight, Some(&bias)).unwrap();
            for few in [1, 2, 7, 255] {
                let rows: Vec<usize> = (0..few).collect();
                let ours = ops.linear(&ops.rows(&x, &rows).unwrap(), &weight, Some(&bias)).unwrap();
                assert_eq!(ours.values(), &many.values()[..few * outputs], "{few} rows, {inputs} inputs");
            }
        }
    }
}

/// The last layer of the `[CLS]` tokens alone equals their rows of the full layer up to rounding;
/// and a sentence alone has the same bits as in a batch.
#[test]
fn cls_alone_equals_its_rows_of_the_full_output() {
    let config = small_config("bert", 136, 4, 1100);
    let specs = encoder_specs(&config);
    let mut draws = Draws::new(6);
    let lengths: Vec<usize> = (0..65).map(|i| [7, 3, 32, 18][i % 4]).collect();
    let batch = small_batch(&mut draws, &config, &lengths);
    let engines = bf16_engines().into_iter().map(|(name, ops)| (name, ops, 2e-2));
    let f32 =
        SimdLevel::ALL.into_iter().filter_map(|level| Some((level.name(), Cpu::with_level(level).ok()?, TOLERANCE)));
    for (name, ops, tolerance) in engines.chain(f32) {
        let params: Vec<_> = specs.iter().map(|spec| ops.upload(&spec.initial(3), &spec.shape).unwrap()).collect();
        let last = |batch: &Batch, words| {
            let spec = OutputSpec { tokens: words, ..OutputSpec::NOTHING };
            forward(&ops, &config, &params, batch, None, spec).unwrap().0.last
        };
        let named = |x: &[f32]| vec![("last".to_owned(), x.to_vec())];
        let whole = ops.rows(&last(&batch, true), &batch.cu_seqlens[..65]).unwrap();
        assert!(whole.values().iter().any(|value| *value != 0.0));
        let cls = last(&batch, false);
        assert_close(&named(cls.values()), &named(whole.values()), tolerance, name);
        for (sentence, length) in lengths.iter().copied().enumerate() {
            let tokens = batch.cu_seqlens[sentence]..batch.cu_seqlens[sentence + 1];
            let alone = Batch::of_ids(&batch.ids[tokens], &[0, length], vec![]);
            for (words, whole) in [(true, &whole), (false, &cls)] {
                let ours = last(&alone, words);
                let row = ops.rows(whole, &[sentence]).unwrap();
                assert_eq!(ours.values()[..136], *row.values(), "{name}, sentence {sentence}, words {words}");
            }
        }
    }
}

/// The attention of `[CLS]` is the same whether the last layer is computed for `[CLS]` alone or for
/// every token, with and without dropout.
#[test]
fn the_attention_of_cls_does_not_depend_on_the_requested_outputs() {
    let config = small_config("bert", 48, 3, 40);
    let specs = encoder_specs(&config);
    let batch = small_batch(&mut Draws::new(8), &config, &[7, 1, 32, 18]);
    let ops = Cpu::new();
    let params: Vec<_> = specs
        .iter()
        .map(|spec| {
            let init = candle_nn::Init::Uniform { lo: -0.6, up: 0.6 }.into();
            ops.upload(&ParamSpec { init, ..spec.clone() }.initial(3), &spec.shape).unwrap()
        })
        .collect();
    let attention = |words, context: ForwardContext| {
        let spec = OutputSpec { tokens: words, ..OutputSpec::NOTHING };
        let (_, tape) = forward(&ops, &config, &params, &batch, Some(&context), spec).unwrap();
        vec![("attention".to_owned(), tape.unwrap().attention_of_cls(&ops, &config, &batch).unwrap())]
    };
    let whole = attention(true, ForwardContext::without_dropout());
    for bounds in batch.cu_seqlens.windows(2) {
        let sum: f32 = whole[0].1[bounds[0]..bounds[1]].iter().sum();
        assert!((sum - 1.0).abs() < 1e-5);
    }
    assert_close(&attention(false, ForwardContext::without_dropout()), &whole, TOLERANCE, "cls alone");
    let dropout = || ForwardContext { seed: 4, attention: 0.5, ..ForwardContext::without_dropout() };
    assert_close(&attention(false, dropout()), &attention(true, dropout()), TOLERANCE, "cls alone, dropout");
}

#[test]
fn cpu_refuses_mismatched_shapes() {
    refuses_mismatched_shapes(&Cpu::new());
}

/// One valid length for each sentence, none of them 0 or more than its tokens.
#[test]
fn cpu_refuses_valid_lengths_that_do_not_fit() {
    let ops = Cpu::new();
    let qkv = ops.zeros(&[5, 12]).unwrap();
    let attend = |valid_lengths: &[usize]| {
        ops.attention(
            &qkv,
            AttentionShape { valid_lengths: Some(valid_lengths), ..AttentionShape::plain(&[0, 2, 5], 2) },
            None,
        )
    };
    assert!(attend(&[2, 3]).is_ok() && attend(&[1, 1]).is_ok());
    for valid_lengths in [&[2][..], &[2, 3, 1], &[0, 3], &[3, 2], &[2, 4]] {
        assert!(attend(valid_lengths).is_err(), "{valid_lengths:?}");
    }
}

/// Groups need valid lengths, divide the tokens behind them, and fit into a row of the dropout
/// counter.
#[test]
fn groups_that_do_not_fit_are_refused() {
    let ops = Reference::cpu();
    let attend = |tokens: usize, valid: Option<usize>, group: usize| {
        let (qkv, valid) = (ops.zeros(&[tokens, 12]).unwrap(), valid.map(|valid| [valid]));
        let valid_lengths = valid.as_ref().map(<[usize; 1]>::as_slice);
        let cu_seqlens = [0, tokens];
        let shape = AttentionShape { valid_lengths, group, ..AttentionShape::plain(&cu_seqlens, 2) };
        ops.attention(&qkv, shape, None).map(drop).map_err(|error| error.to_string())
    };
    for fits in [(5, Some(1), 2), (5, Some(5), 2), (5, Some(3), 2), (512, Some(508), 4), (514, Some(506), 4)] {
        assert_eq!(attend(fits.0, fits.1, fits.2), Ok(()), "{fits:?}");
    }
    let error = |tokens, valid, group| attend(tokens, valid, group).unwrap_err();
    assert!(error(4, None, 2).contains("without valid lengths"));
    assert!(error(5, Some(2), 2).contains("3 tokens behind its 2 valid ones, not groups of 2"));
    assert!(error(513, Some(509), 4).contains("together more than 512"));
}

/// The groups of the reference: text attends to text alone, a token of a group to the text and to
/// its own group; so a token's result is the same without the other groups.
#[test]
fn a_group_of_the_reference_does_not_see_the_others() {
    let ops = exact();
    let (valid, group) = (3, 2);
    let qkv = Draws::new(31).normal(9 * 12);
    let attend = |rows: &[usize], valid: usize, group: usize| {
        let values: Vec<f32> = rows.iter().flat_map(|row| &qkv[12 * row..12 * row + 12]).copied().collect();
        let qkv = ops.upload(&values, &[rows.len(), 12]).unwrap();
        let cu_seqlens = [0, rows.len()];
        let shape = AttentionShape { valid_lengths: Some(&[valid]), group, ..AttentionShape::plain(&cu_seqlens, 2) };
        ops.download(&ops.attention(&qkv, shape, None).unwrap().0).unwrap()
    };
    let rows: Vec<usize> = (0..9).collect();
    let all = attend(&rows, valid, group);
    let close = |ours: &[f32], expected: &[f32]| {
        assert_eq!(ours.len(), expected.len());
        for (ours, expected) in ours.iter().zip(expected) {
            assert!((ours - expected).abs() < 1e-6, "{ours} {expected}");
        }
    };
    close(&all[..12], &attend(&[0, 1, 2], 3, 0));
    for first in [3, 5, 7] {
        // Plain attention over the text and the group, of which the group's rows count.
        let plain = attend(&[0, 1, 2, first, first + 1], 5, 0);
        close(&all[4 * first..4 * (first + 2)], &plain[12..]);
    }
}

/// A group alone, or among any others in any order, has the same bits, forward and backward; and so
/// have the queries of the text.
#[test]
fn the_bits_of_a_group_do_not_depend_on_the_others() {
    let mut draws = Draws::new(37);
    for ops in SimdLevel::ALL.into_iter().filter_map(|level| Cpu::with_level(level).ok()) {
        for (heads, size) in [(1, 5), (3, 8), (2, 32), (1, 64)] {
            for (valid, groups, group) in [(1, 5, 1), (13, 9, 2), (57, 7, 3), (40, 11, 4), (8, 3, 12)] {
                let (hidden, name) = (heads * size, ops.level().name());
                let text = [3 * hidden, hidden].map(|width| draws.normal(valid * width));
                let pairs: Vec<_> =
                    (0..groups).map(|_| [3 * hidden, hidden].map(|width| draws.normal(group * width))).collect();
                // For the given groups: the results of the text, and of each group.
                let run = |chosen: &[usize]| {
                    let tokens = valid + chosen.len() * group;
                    let [qkv, dy] = [0, 1].map(|i| {
                        let width = [3 * hidden, hidden][i];
                        let rows = chosen.iter().flat_map(|pair| &pairs[*pair][i]);
                        let values: Vec<f32> = text[i].iter().chain(rows).copied().collect();
                        ops.upload(&values, &[tokens, width]).unwrap()
                    });
                    let cu_seqlens = [0, tokens];
                    let shape = AttentionShape {
                        valid_lengths: Some(&[valid]),
                        group,
                        ..AttentionShape::plain(&cu_seqlens, heads)
                    };
                    let (out, p) = ops.attention(&qkv, shape, None).unwrap();
                    let dqkv = ops.attention_backward(&qkv, p, &dy, shape, None).unwrap();
                    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    let dq = dqkv.values()[..valid * 3 * hidden].chunks(3 * hidden).flat_map(|row| &row[..hidden]);
                    let text = (bits(&out.values()[..valid * hidden]), bits(&dq.copied().collect::<Vec<_>>()));
                    let outs = out.values()[valid * hidden..].chunks(group * hidden);
                    let gradients = dqkv.values()[valid * 3 * hidden..].chunks(group * 3 * hidden);
                    (text, outs.map(bits).zip(gradients.map(bits)).collect::<Vec<_>>())
                };
                let everything: Vec<usize> = (0..groups).collect();
                let (text, expected) = run(&everything);
                for subset in 0..8 {
                    // Without replacement, in a random order.
                    let mut rest = everything.clone();
                    let count = draws.below(1, groups + 1)[0] as usize;
                    let chosen: Vec<usize> =
                        (0..count).map(|_| rest.remove(draws.below(1, rest.len())[0] as usize)).collect();
                    let (same_text, ours) = run(&chosen);
                    let case = format!("{name} {heads} x {size}, {valid} + {group} {chosen:?} {subset}");
                    assert!(same_text == text, "text, {case}");
                    for (pair, ours) in chosen.iter().zip(&ours) {
                        assert!(*ours == expected[*pair], "group {pair}, {case}");
                    }
                }
            }
        }
    }
}

#[test]
fn cpu_accepts_empty_batches() {
    accepts_empty_batches(&Cpu::new());
    for (_, ops) in bf16_engines() {
        accepts_empty_batches(&ops);
    }
}

/// A function of a few tensors, as its operation and as the gradients that the operation's backward
/// gives for the sum of its result times a fixed weight.
type Function = fn(&Reference, &[Tensor]) -> Tensor;
type Backward = fn(&Reference, &[Tensor], &Tensor) -> Vec<Tensor>;

const MASK: Dropout = Dropout { rate: 0.3, seed: 3, site: 1, step: 2, micro: 0 };
const STARTS: [usize; 3] = [0, 4, 5];
const PADDED: AttentionShape<'static> =
    AttentionShape { valid_lengths: Some(&[2, 1]), ..AttentionShape::plain(&STARTS, 2) };

/// Two groups of two, and a sentence without one.
const GROUPED: AttentionShape<'static> =
    AttentionShape { valid_lengths: Some(&[2, 1]), group: 2, ..AttentionShape::plain(&[0, 6, 7], 2) };

/// The same in a window.
const LOCAL: AttentionShape<'static> =
    AttentionShape { window: Some(Window { distance: 1, positions: &[0, 1, 0, 1, 1, 0, 0] }), ..GROUPED };
const TURN: Rotation<'static> = Rotation { positions: &[0, 3, 1], heads: 2, theta: 100.0, back: false };

fn affine(gamma: &Tensor, beta: &Tensor) -> Norm<'static, Tensor> {
    // Leaked, because a function pointer needs the static lifetime; a few bytes in a test.
    Norm { gamma: Box::leak(Box::new(gamma.clone())), beta: Box::leak(Box::new(beta.clone())), eps: 1e-3 }
}

fn first(x: &[Tensor]) -> ClsAttention<'_, Tensor> {
    let [input, weight, bias] = x else { unreachable!("three arguments") };
    ClsAttention { input, weight, bias, hidden: 4, shape: PADDED, dropout: Some(&MASK) }
}

#[test]
fn the_backwards_of_the_reference_equal_finite_differences() {
    let cases: Vec<(&str, Vec<Vec<usize>>, Function, Backward)> = vec![
        (
            "linear",
            vec![vec![3, 4], vec![5, 4], vec![5]],
            |ops, x| ops.linear(&x[0], &x[1], Some(&x[2])).unwrap(),
            |ops, x, dy| {
                let (dx, dw) = ops.linear_backward(&x[0], &x[1], dy, None).unwrap();
                vec![dx, dw, ops.column_sum(dy).unwrap()]
            },
        ),
        (
            "bias gelu",
            vec![vec![3, 4], vec![4]],
            |ops, x| ops.bias_gelu(&x[0], &x[1]).unwrap(),
            |ops, x, dy| {
                let (dx, db) = ops.bias_gelu_backward(&x[0], &x[1], dy.clone()).unwrap();
                vec![dx, db]
            },
        ),
        (
            "add norm",
            vec![vec![3, 6], vec![6], vec![3, 6], vec![6], vec![6]],
            |ops, x| {
                let norm = affine(&x[3], &x[4]);
                ops.add_norm(x[0].clone(), Some(&x[1]), Some(&x[2]), norm, Some(&MASK)).unwrap().out
            },
            |ops, x, dy| {
                let norm = affine(&x[3], &x[4]);
                let normed = ops.add_norm(x[0].clone(), Some(&x[1]), Some(&x[2]), norm, Some(&MASK)).unwrap();
                let d = ops.add_norm_backward(dy.clone(), &normed, &x[3], Some(&MASK)).unwrap();
                vec![d.branch, d.bias, d.residual, d.gamma, d.beta]
            },
        ),
        (
            "dropout",
            vec![vec![3, 6]],
            |ops, x| ops.dropout(x[0].clone(), &MASK).unwrap(),
            |ops, _, dy| vec![ops.dropout(dy.clone(), &MASK).unwrap()],
        ),
        (
            "attention",
            vec![vec![5, 12]],
            |ops, x| ops.attention(&x[0], AttentionShape::plain(&STARTS, 2), Some(&MASK)).unwrap().0,
            |ops, x, dy| {
                let shape = AttentionShape::plain(&STARTS, 2);
                let (_, p) = ops.attention(&x[0], shape, Some(&MASK)).unwrap();
                vec![ops.attention_backward(&x[0], p, dy, shape, Some(&MASK)).unwrap()]
            },
        ),
        (
            "attention that leaves padding out",
            vec![vec![5, 12]],
            |ops, x| ops.attention(&x[0], PADDED, Some(&MASK)).unwrap().0,
            |ops, x, dy| {
                let (_, p) = ops.attention(&x[0], PADDED, Some(&MASK)).unwrap();
                vec![ops.attention_backward(&x[0], p, dy, PADDED, Some(&MASK)).unwrap()]
            },
        ),
        (
            "attention with groups",
            vec![vec![7, 12]],
            |ops, x| ops.attention(&x[0], GROUPED, Some(&MASK)).unwrap().0,
            |ops, x, dy| {
                let (_, p) = ops.attention(&x[0], GROUPED, Some(&MASK)).unwrap();
                vec![ops.attention_backward(&x[0], p, dy, GROUPED, Some(&MASK)).unwrap()]
            },
        ),
        (
            "attention with groups and a window",
            vec![vec![7, 12]],
            |ops, x| ops.attention(&x[0], LOCAL, Some(&MASK)).unwrap().0,
            |ops, x, dy| {
                let (_, p) = ops.attention(&x[0], LOCAL, Some(&MASK)).unwrap();
                vec![ops.attention_backward(&x[0], p, dy, LOCAL, Some(&MASK)).unwrap()]
            },
        ),
        (
            "gelu with a gate",
            vec![vec![3, 8]],
            |ops, x| ops.geglu(&x[0]).unwrap(),
            |ops, x, dy| vec![ops.geglu_backward(&x[0], dy).unwrap()],
        ),
        (
            "rotary",
            vec![vec![3, 24]],
            |ops, x| ops.rotary(x[0].clone(), &TURN).unwrap(),
            |ops, _, dy| vec![ops.rotary(dy.clone(), &Rotation { back: true, ..TURN }).unwrap()],
        ),
        (
            "attention of first tokens",
            vec![vec![5, 4], vec![12, 4], vec![12]],
            |ops, x| ops.cls_attention(&first(x)).unwrap().0,
            |ops, x, dy| {
                let (_, tape) = ops.cls_attention(&first(x)).unwrap();
                ops.cls_attention_backward(&first(x), tape, dy).unwrap().to_vec()
            },
        ),
        (
            "embed",
            vec![vec![7, 3], vec![4, 3], vec![2, 3]],
            |ops, x| ops.embed(&[6, 2, 6], &[0, 1, 0], [&x[0], &x[1], &x[2]]).unwrap(),
            |ops, x, dy| ops.embed_backward(&[6, 2, 6], &[0, 1, 0], dy, [&x[0], &x[1], &x[2]]).unwrap().to_vec(),
        ),
        (
            "add rows",
            vec![vec![4, 3], vec![2, 3]],
            |ops, x| ops.add_rows(x[0].clone(), &[3, 1], &x[1]).unwrap(),
            |ops, _, dy| vec![dy.clone(), ops.rows(dy, &[3, 1]).unwrap()],
        ),
    ];
    let ops = exact();
    let make = |values: &[f64], shape: &[usize]| Tensor::from_slice(values, shape, &Device::Cpu).unwrap();
    for (case, (name, shapes, function, backward)) in cases.into_iter().enumerate() {
        let mut draws = Draws::new(case as u32);
        let mut values: Vec<Vec<f64>> =
            shapes.iter().map(|s| draws.normal(s.iter().product()).iter().map(|x| f64::from(*x)).collect()).collect();
        let arguments = |values: &[Vec<f64>]| -> Vec<Tensor> {
            values.iter().zip(&shapes).map(|(values, shape)| make(values, shape)).collect()
        };
        let out = function(&ops, &arguments(&values));
        let weight: Vec<f64> = draws.normal(out.elem_count()).iter().map(|x| f64::from(*x)).collect();
        let weight = make(&weight, out.dims());
        let loss = |values: &[Vec<f64>]| {
            let out = function(&ops, &arguments(values));
            (out * &weight).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap()
        };
        let gradients = backward(&ops, &arguments(&values), &weight);
        for (argument, gradient) in gradients.iter().enumerate() {
            let gradient = gradient.flatten_all().unwrap().to_vec1::<f64>().unwrap();
            for (i, gradient) in gradient.iter().enumerate() {
                let (step, middle) = (1e-5, values[argument][i]);
                values[argument][i] = middle + step;
                let above = loss(&values);
                values[argument][i] = middle - step;
                let below = loss(&values);
                values[argument][i] = middle;
                let numeric = (above - below) / (2.0 * step);
                let within = 1e-7 * numeric.abs().max(1.0);
                assert!((gradient - numeric).abs() < within, "{name} {argument}[{i}]: {gradient}, numeric {numeric}");
            }
        }
    }
}
