//! The CUDA engine without a GPU: the whole engine over a device that runs its kernels on the CPU
//! (`host.rs`).
//!
//! Not covered here: speed, bank conflicts, races between blocks of one launch, the last
//! digits of a GPU's exp2, exp and erf, the order of sums in its tensor cores, cublasLt, streams.

mod count;
mod host;
mod mutations;
#[path = "../suite/mod.rs"]
mod suite;
#[path = "../suite/toy_task.rs"]
mod toy_task;
mod training;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use biorel::ops::cuda::Cuda;
use biorel::ops::cuda::device::Dtype;
use biorel::ops::lstm::lstm_reference;
use biorel::ops::{AdamWStep, AttentionShape, Moments, Norm, Ops, Update};
use candle_core::{DType, Device, Tensor, Var};
use host::{Host, Schedule, Shim};
use suite::{
    Draws, HEAD_OPERATIONS, Results, Sentences, accepts_empty_batches, assert_close, assert_each_close, exact,
    expected, heads, modern, refuses_mismatched_heads, refuses_mismatched_shapes, small_encoders, suite,
};

/// Largest difference from the reference in f64, relative to the largest expected value of a result
/// (at least 1).
const F32_TOLERANCE: f64 = 5e-6;
/// The same with bf16 products: operands have 8 significant bits, so each is off by up to 2^-9, and
/// so is the result.
const BF16_TOLERANCE: f64 = 1.5e-2;
/// The same where products follow each other.
const BF16_CHAIN_TOLERANCE: f64 = 5e-2;

const PRECISIONS: [(Dtype, f64); 2] = [(Dtype::F32, F32_TOLERANCE), (Dtype::Bf16, BF16_TOLERANCE)];

pub fn engine(shim: Arc<Shim>, products: Dtype, schedule: Schedule) -> Cuda<Host> {
    Cuda::new(Host::new(shim, schedule), products)
}

fn bits(results: Results) -> Vec<(String, Vec<u32>)> {
    results.into_iter().map(|(name, x)| (name, x.into_iter().map(f32::to_bits).collect())).collect()
}

#[test]
fn every_operation_in_f32_equals_the_reference() {
    let Some(shim) = Shim::get() else { return };
    assert_close(&suite(&engine(shim, Dtype::F32, Schedule::Forward)), expected(), F32_TOLERANCE, "f32");
}

/// Where products cannot add their bias, a kernel does.
#[test]
fn a_bias_that_the_product_leaves_is_added() {
    let Some(shim) = Shim::get() else { return };
    let expected = small_encoders(&exact());
    for (products, tolerance) in PRECISIONS {
        for schedule in [Schedule::Forward, Schedule::Random] {
            let ops = Cuda::new(Host::new(shim.clone(), schedule).with_separate_bias(), products);
            let [x, w, b] = [[3, 2], [5, 2], [1, 5]].map(|shape| {
                let values: Vec<f32> = (0..shape[0] * shape[1]).map(|i| i as f32 - 2.0).collect();
                ops.upload(&values, if shape[0] == 1 { &shape[1..] } else { &shape }).unwrap()
            });
            let plain = ops.download(&ops.linear(&x, &w, None).unwrap()).unwrap();
            let biased = ops.download(&ops.linear(&x, &w, Some(&b)).unwrap()).unwrap();
            for (i, (plain, biased)) in plain.iter().zip(&biased).enumerate() {
                assert_eq!(*biased, plain + (i % 5) as f32 - 2.0, "element {i}");
            }
            assert_close(&small_encoders(&ops), &expected, 4.0 * tolerance, ops.name());
        }
    }
}

#[test]
fn the_operations_of_modernbert_equal_the_reference() {
    let Some(shim) = Shim::get() else { return };
    let expected = modern(&exact());
    for (products, tolerance) in PRECISIONS {
        let ops = engine(shim.clone(), products, Schedule::Forward);
        assert_close(&modern(&ops), &expected, tolerance, ops.name());
    }
}

/// In any order of threads, with memory of exactly its size for each array. Heads compute in f32; only the gradient of the keys of
/// pairs is in bf16, for the product behind it.
#[test]
fn the_operations_of_heads_equal_the_reference() {
    let Some(shim) = Shim::get() else { return };
    let expected = heads(&exact());
    for (products, tolerance) in PRECISIONS {
        let run = |schedule| heads(&Cuda::with_reuse(Host::new(shim.clone(), schedule), products, false));
        let ours = run(Schedule::Forward);
        assert_close(&ours, &expected, tolerance, "heads");
        let keys = |(name, _): &(String, Vec<f32>)| name.ends_with("dkeys");
        let others = |results: &Results| results.iter().filter(|result| !keys(result)).cloned().collect::<Results>();
        assert_close(&others(&ours), &others(&expected), F32_TOLERANCE, "heads");
        let first = bits(ours);
        for schedule in [Schedule::Reverse, Schedule::Random] {
            assert!(bits(run(schedule)) == first, "{products:?} {schedule:?}");
        }
    }
}

#[test]
fn every_operation_in_bf16_equals_the_reference() {
    let Some(shim) = Shim::get() else { return };
    let ours = suite(&engine(shim, Dtype::Bf16, Schedule::Forward));
    assert_each_close(ours, expected(), [BF16_TOLERANCE, BF16_CHAIN_TOLERANCE], "bf16");
}

/// Numbers and sizes of heads: every size that has its own kernel.
pub const HEADS: [(usize, usize); 5] = [(2, 32), (1, 64), (2, 96), (1, 128), (1, 48)];

/// Attention over sentences around the sizes of tiles.
pub fn attention<O: Ops>(ops: &O, heads: (usize, usize)) -> Results {
    let mut results = Results::new();
    let lengths = [1, 63, 64, 65, 17, 130];
    for (rate, sentences) in [(0.0, Sentences::plain(&lengths)), (0.3, Sentences::padded(&lengths))] {
        suite::attention(ops, &mut results, &sentences, heads, rate);
    }
    // Several tiles of groups, whose last is not full; groups that lie across the rows of two warps.
    for (rate, group, groups) in [(0.3, 4, 18), (0.0, 12, 6)] {
        let sentences = Sentences::grouped(&[(1, 0), (65, groups)], group);
        suite::attention(ops, &mut results, &sentences, heads, rate);
        let local = sentences.within(group);
        suite::attention(ops, &mut results, &local, heads, rate);
    }
    suite::attention(ops, &mut results, &Sentences::padded(&lengths).within(3), heads, 0.3);
    results
}

/// Attention with every size of heads equals the reference, and no bit of it, or of a whole encoder,
/// depends on the order of blocks, and of threads inside of a block. Each array has memory of
/// exactly its size here, and writes behind it are detected.
fn the_order_of_threads_changes_no_bit((products, tolerance): (Dtype, f64)) {
    let Some(shim) = Shim::get() else { return };
    let run = |schedule| {
        let ops = Cuda::with_reuse(Host::new(shim.clone(), schedule), products, false);
        let heads: Results = HEADS.into_iter().flat_map(|heads| attention(&ops, heads)).collect();
        (heads, bits(small_encoders(&ops)))
    };
    let (heads, encoders) = run(Schedule::Forward);
    let expected: Results = HEADS.into_iter().flat_map(|heads| attention(&exact(), heads)).collect();
    assert_close(&heads, &expected, tolerance, "heads");
    let first = [bits(heads), encoders].concat();
    for schedule in [Schedule::Reverse, Schedule::Random] {
        let (heads, encoders) = run(schedule);
        for (ours, first) in [bits(heads), encoders].concat().iter().zip(&first) {
            assert!(ours == first, "{} differs in the order {schedule:?}", first.0);
        }
    }
}

#[test]
fn the_order_of_threads_changes_no_bit_in_f32() {
    the_order_of_threads_changes_no_bit(PRECISIONS[0]);
}

#[test]
fn the_order_of_threads_changes_no_bit_in_bf16() {
    the_order_of_threads_changes_no_bit(PRECISIONS[1]);
}

#[test]
fn a_whole_encoder_equals_the_reference() {
    let Some(shim) = Shim::get() else { return };
    let expected = small_encoders(&exact());
    assert_close(&small_encoders(&engine(shim.clone(), Dtype::F32, Schedule::Forward)), &expected, 1e-5, "f32");
    assert_close(&small_encoders(&engine(shim, Dtype::Bf16, Schedule::Forward)), &expected, 5e-2, "bf16");
}

/// Values and both gradients of the recurrence, against candle's autograd through the step-by-step
/// form.
#[test]
#[allow(clippy::single_range_in_vec_init)] // one sequence, not the elements of a range
fn the_lstm_equals_the_step_by_step_form() {
    let Some(shim) = Shim::get() else { return };
    let cases = [
        (vec![0..3, 3..4, 4..9], 9, 5),
        (vec![0..1], 1, 1),
        (vec![1..4, 5..9], 10, 24),
        (vec![0..30, 33..33, 30..33, 35..50], 51, 40),
    ];
    for (sequences, total, hidden) in cases {
        let mut draws = Draws::new(hidden as u32);
        let mut random = |rows: usize, columns: usize| {
            let values: Vec<f32> = draws.normal(rows * columns).into_iter().map(|x| 0.5 * x).collect();
            Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
        };
        let arguments = [random(total, 4 * hidden), random(4 * hidden, hidden), random(sequences.len(), hidden)];
        let step_by_step = |z: &Tensor, w: &Tensor| lstm_reference(z, w, &sequences).unwrap();
        let expected = differentiated(&step_by_step, &arguments, DType::F64);
        for (products, tolerance) in PRECISIONS {
            let ops = engine(shim.clone(), products, Schedule::Forward);
            let ours = |z: &Tensor, w: &Tensor| ops.lstm(z, w, &sequences).unwrap();
            assert_close(&differentiated(&ours, &arguments, DType::F32), &expected, 2.0 * tolerance, "lstm");
        }
    }
}

/// Rows, vector and upstream gradient of [`Ops::attention_pooling`].
fn for_pooling(words: &[Range<usize>], total: usize, hidden: usize) -> [Tensor; 3] {
    let mut draws = Draws::new(hidden as u32);
    let mut random = |rows: usize, columns: usize| {
        let values = draws.normal(rows * columns);
        Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
    };
    [random(total, hidden), random(1, hidden), random(words.len(), hidden)]
}

/// The operations of the step around the encoder: embeddings, a LayerNorm of long rows, a head's
/// attention, the optimizer.
pub fn around_the_encoder<O: Ops>(ops: &O, dtype: DType) -> Results {
    let mut results = Results::new();
    for operation in ["embeddings", "adamw"].into_iter().chain(HEAD_OPERATIONS) {
        suite::each_case(operation, &mut |case| case(ops, &mut results));
    }
    suite::norm(ops, &mut results, 5, 132, 0.1);
    let words = [1..4, 6..7, 8..30];
    let pooled = |x: &Tensor, key: &Tensor| ops.attention_pooling(x, key, &words).unwrap().0;
    results.extend(differentiated(&pooled, &for_pooling(&words, 31, 150), dtype));
    results
}

/// Values, weights and both gradients of a head's attention, against candle's autograd through the
/// reference.
#[test]
#[allow(clippy::single_range_in_vec_init)] // one sentence
fn attention_over_words_equals_the_reference() {
    let Some(shim) = Shim::get() else { return };
    let cases = [(vec![1..2], 3, 1), (vec![1..4, 6..7, 8..30], 31, 24), (vec![0..300, 301..302], 303, 130)];
    for (words, total, hidden) in cases {
        let arguments = for_pooling(&words, total, hidden);
        let reference = exact();
        let expected =
            differentiated(&|x, k| reference.attention_pooling(x, k, &words).unwrap().0, &arguments, DType::F64);
        let weights = |ops: &dyn Fn(&Tensor, &Tensor) -> Tensor, dtype| {
            let [x, key] = [&arguments[0], &arguments[1]].map(|x| x.to_dtype(dtype).unwrap());
            let a = ops(&x, &key).to_dtype(DType::F32).unwrap();
            vec![("weights".to_string(), a.flatten_all().unwrap().to_vec1::<f32>().unwrap())]
        };
        let expected_weights = weights(&|x, k| reference.attention_pooling(x, k, &words).unwrap().1, DType::F64);
        for schedule in [Schedule::Forward, Schedule::Random] {
            let ops = engine(shim.clone(), Dtype::Bf16, schedule);
            let ours = differentiated(&|x, k| ops.attention_pooling(x, k, &words).unwrap().0, &arguments, DType::F32);
            assert_close(&ours, &expected, F32_TOLERANCE, "attention over words");
            let ours = weights(&|x, k| ops.attention_pooling(x, k, &words).unwrap().1, DType::F32);
            assert_close(&ours, &expected_weights, F32_TOLERANCE, "attention over words");
        }
    }
    let ops = engine(shim, Dtype::F32, Schedule::Forward);
    let zeros = |shape| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    for words in [vec![0..4], vec![2..2]] {
        assert!(ops.attention_pooling(&zeros((3, 8)), &zeros((1, 8)), &words).is_err(), "{words:?}");
    }
}

/// The result of a function of two tensors, and the gradients of both for the upstream gradient in
/// the third argument.
fn differentiated(function: &dyn Fn(&Tensor, &Tensor) -> Tensor, arguments: &[Tensor; 3], dtype: DType) -> Results {
    let [first, second, upstream] = arguments.each_ref().map(|x| x.to_dtype(dtype).unwrap());
    let (first, second) = (Var::from_tensor(&first).unwrap(), Var::from_tensor(&second).unwrap());
    let value = function(&first, &second);
    let gradients = (&value * &upstream).unwrap().sum_all().unwrap().backward().unwrap();
    let of = |var: &Var| gradients.get(var).cloned().unwrap_or_else(|| var.zeros_like().unwrap());
    let shape = first.dims().to_vec();
    let named = |name: &str, x: Tensor| {
        let x = x.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
        (format!("{shape:?} {name}"), x.to_vec1().unwrap())
    };
    vec![named("value", value), named("first", of(&first)), named("second", of(&second))]
}

/// Several arrays in one launch, clipped on the device, bit for bit as by `AdamWStep::apply`;
/// products see the new weights.
#[test]
fn adamw_of_many_arrays_is_exact() {
    let Some(shim) = Shim::get() else { return };
    let ops = engine(shim, Dtype::Bf16, Schedule::Forward);
    let mut draws = Draws::new(3);
    let sizes = [[1, 1], [1, 4096], [3, 4097], [5, 7]];
    let hosts: Vec<_> = sizes.iter().map(|size| [(); 2].map(|()| draws.normal(size.iter().product()))).collect();
    let mut values: Vec<_> =
        hosts.iter().zip(&sizes).map(|([value, _], size)| ops.upload(value, size).unwrap()).collect();
    let gradients: Vec<_> =
        hosts.iter().zip(&sizes).map(|([_, gradient], size)| ops.upload(gradient, size).unwrap()).collect();
    let mut moments: Vec<_> =
        sizes.iter().map(|size| Moments { m: ops.zeros(size).unwrap(), v: ops.zeros(size).unwrap() }).collect();
    let x = ops.upload(&draws.normal(2 * 7), &[2, 7]).unwrap();
    let product = |weight: &_| ops.download(&ops.linear(&x, weight, None).unwrap()).unwrap();
    let before = product(&values[3]);
    let step = |i: usize| AdamWStep {
        learning_rate: 0.1 / (i + 1) as f64,
        decay: 0.01 * (i % 2) as f64,
        betas: [0.9, 0.999],
        epsilon: 1e-6,
        clip: 1.0,
        corrections: [10.0, 1000.0],
    };
    let mut updates: Vec<_> = values
        .iter_mut()
        .zip(&mut moments)
        .zip(&gradients)
        .enumerate()
        .map(|(i, ((value, moments), gradient))| Update { value, moments, gradient, step: step(i) })
        .collect();
    let loss = ops.upload(&[0.5], &[1]).unwrap();
    let squares: f64 = hosts.iter().flat_map(|[_, gradient]| gradient).map(|x| f64::from(*x).powi(2)).sum();
    let max_norm = 0.3 * squares.sqrt();
    let launches = ops.device().launches();
    let sums = ops.step(&loss, &mut updates, max_norm).unwrap();
    assert_eq!(ops.device().launches(), launches + 3);
    let sums = sums.get().unwrap();
    assert_eq!(sums.loss, 0.5);
    assert!((sums.norm / squares.sqrt() - 1.0).abs() < 1e-12, "{} {squares}", sums.norm);
    let clip = sums.clip(max_norm).unwrap();
    for (i, [value, gradient]) in hosts.iter().enumerate() {
        let [new, m, v] = [&values[i], &moments[i].m, &moments[i].v].map(|x| ops.download(x).unwrap());
        for (j, (value, gradient)) in value.iter().zip(gradient).enumerate() {
            let expected = AdamWStep { clip, ..step(i) }.apply(*value, 0.0, 0.0, *gradient);
            assert_eq!((new[j], m[j], v[j]), expected, "array {i}, element {j}");
        }
    }
    let after = product(&values[3]);
    assert_ne!(before, after);
    assert_eq!(after, product(&ops.upload(&ops.download(&values[3]).unwrap(), &[5, 7]).unwrap()));
}

/// The gradient of the word table has the rows of a batch's words alone. AdamW computes the bits that it computes with all
/// rows, and the sum of squares the same sum in another order.
#[test]
fn a_gradient_of_some_rows_updates_as_one_of_all_rows() {
    let Some(shim) = Shim::get() else { return };
    let ops = engine(shim, Dtype::Bf16, Schedule::Random);
    let (rows, width) = (1000, 36);
    let mut draws = Draws::new(4);
    let ids: Vec<u32> = draws.below(50, 20).iter().map(|id| 49 * id + 20).collect();
    let words = ids.iter().collect::<BTreeSet<_>>().len();
    let mut up = |shape: &[usize]| ops.upload(&draws.normal(shape.iter().product()), shape).unwrap();
    let (table, dy) = (up(&[rows, width]), up(&[ids.len(), width]));
    let (places, kinds) = (up(&[1, width]), up(&[2, width]));
    let gradient = || ops.embed_backward(&ids, &[0; 50], &dy, [&table, &places, &kinds]).unwrap()[0].clone();
    let (live, _) = ops.memory();
    let some = gradient();
    assert!(ops.memory().0 < live + 4 * rows * width / 2, "the gradient has all rows");
    let all = gradient();
    let values = ops.download(&all).unwrap();
    assert_eq!(values.chunks(width).filter(|row| row.iter().any(|x| *x != 0.0)).count(), words);
    let [few, many] = [&some, &all].map(|gradient| ops.sum_squares(gradient).unwrap());
    assert!((few / many - 1.0).abs() < 1e-12, "{few} {many}");
    let updated = [some, all].map(|gradient| {
        let mut value = table.clone();
        let mut moments = Moments { m: up_like(&ops, &table, 0.5), v: up_like(&ops, &table, 0.25) };
        let (betas, corrections) = ([0.9, 0.999], [1.5, 2.5]);
        let step = AdamWStep { learning_rate: 0.1, decay: 0.1, betas, epsilon: 1e-6, clip: 0.7, corrections };
        ops.adamw(&mut value, &mut moments, &gradient, &step).unwrap();
        [value, moments.m, moments.v].map(|x| ops.download(&x).unwrap())
    });
    assert!(updated[0] == updated[1]);
}

fn up_like(ops: &Cuda<Host>, x: &<Cuda<Host> as Ops>::Buffer, value: f32) -> <Cuda<Host> as Ops>::Buffer {
    ops.upload(&vec![value; x.elements()], x.shape()).unwrap()
}

/// Shapes that do not fit are errors, not panics.
#[test]
fn mismatched_shapes_are_refused() {
    let Some(shim) = Shim::get() else { return };
    let ops = engine(shim, Dtype::F32, Schedule::Forward);
    let up = |shape: &[usize]| ops.zeros(shape).unwrap();
    refuses_mismatched_shapes(&ops);
    refuses_mismatched_heads(&ops);
    let shape = AttentionShape::plain(&[0, 2], 1);
    assert!(ops.attention(&up(&[2, 3 * 129]), shape, None).is_err(), "a head that is too large");
    let shape = AttentionShape { valid_lengths: Some(&[1]), group: 33, ..AttentionShape::plain(&[0, 34], 1) };
    assert!(ops.attention(&up(&[34, 12]), shape, None).is_err(), "a group that is too large");
    let norm = Norm { gamma: &up(&[20_000]), beta: &up(&[20_000]), eps: 1e-12 };
    let sequence = |z: &Tensor, w: &Tensor, end| ops.lstm(z, w, std::slice::from_ref(&(0..end)));
    let zeros = |shape| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    assert!(sequence(&zeros((3, 8)), &zeros((8, 2)), 3).is_ok());
    assert!(sequence(&zeros((3, 8)), &zeros((8, 2)), 4).is_err());
    assert!(sequence(&zeros((3, 8)), &zeros((12, 3)), 3).is_err());
    assert!(ops.add_norm(up(&[1, 20_000]), None, None, norm, None).is_err(), "a row that is too long");
}

#[test]
fn batches_may_be_empty() {
    let Some(shim) = Shim::get() else { return };
    for (products, _) in PRECISIONS {
        accepts_empty_batches(&engine(shim.clone(), products, Schedule::Forward));
    }
}
