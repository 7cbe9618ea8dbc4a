//! Every engine against the reference engine, and the reference against finite differences.
//!
//! One suite for all engines: values and gradients of every operation, with and without dropout, on odd sizes.
//! The expected values come from the reference in f64, so the tolerance is the engine's own rounding. It is stated
//! relative to the largest expected value of the result (what f32 can promise of a sum), see [`TOLERANCE`].

use biorel::encode::Batch;
use biorel::model::EncoderConfig;
use biorel::model::encoder::{EncodedGradient, Pass, backward, forward};
use biorel::model::params::{Init, encoder_specs};
use biorel::ops::cpu::Level;
use biorel::ops::cpu::bf16::Unit;
use biorel::ops::{AdamWStep, AttentionShape, Cpu, Moments, Norm, Ops, Reference};
use biorel::rng::{Dropout, Purpose, Stream};
use candle_core::{DType, Device, Tensor};

/// Largest difference of an f32 engine from the reference in f64, relative to the largest expected value (at least 1).
const TOLERANCE: f64 = 2e-6;

fn exact() -> Reference {
    Reference::new(Device::Cpu, DType::F64)
}

/// Numbers of one case, the same for every engine.
struct Draws(Stream);

impl Draws {
    fn new(case: u32) -> Self {
        Self(Stream::new(20_201, Purpose::Init, case))
    }

    fn normal(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.0.normal() as f32).collect()
    }

    fn below(&mut self, n: usize, limit: usize) -> Vec<u32> {
        (0..n).map(|_| self.0.below(limit) as u32).collect()
    }
}

fn dropout(rate: f32) -> Option<Dropout> {
    (rate > 0.0).then_some(Dropout { rate, seed: 99, site: 5, step: 3, micro: 1 })
}

/// A named result on the host.
type Results = Vec<(String, Vec<f32>)>;

fn collect<O: Ops>(ops: &O, results: &mut Results, case: &str, outs: &[(&str, &O::Buffer)]) {
    for (name, buffer) in outs {
        results.push((format!("{case}: {name}"), ops.download(buffer).unwrap()));
    }
}

/// Every operation on every case: what is computed must depend on the engine only by rounding.
fn suite<O: Ops>(ops: &O) -> Results {
    let mut results = Results::new();
    for (rows, inputs, outputs) in
        [(1, 1, 1), (1, 5, 3), (7, 24, 36), (33, 36, 24), (64, 384, 96), (131, 96, 130), (517, 1536, 384)]
    {
        linear(ops, &mut results, rows, inputs, outputs);
    }
    for width in [1, 5, 24, 36, 130, 384] {
        for rows in [1, 7, 32, 33, 100] {
            element_wise(ops, &mut results, rows, width);
            for rate in [0.0, 0.1, 0.5] {
                norm(ops, &mut results, rows, width, rate);
            }
        }
    }
    let sentences: [&[usize]; 6] = [&[1], &[2, 1, 1], &[3, 17, 64, 5], &[33, 128], &[512], &[20, 0, 9]];
    for lengths in sentences {
        for (heads, size) in [(1, 5), (3, 8), (12, 32), (2, 64)] {
            for rate in [0.0, 0.1] {
                attention(ops, &mut results, lengths, (heads, size), rate, false);
                attention(ops, &mut results, lengths, (heads, size), rate, true);
            }
        }
    }
    for (tokens, width) in [(1, 5), (40, 24), (300, 36)] {
        embeddings(ops, &mut results, tokens, width);
    }
    for n in [1, 15, 1000, 40_000] {
        update(ops, &mut results, n);
    }
    results
}

fn linear<O: Ops>(ops: &O, results: &mut Results, rows: usize, inputs: usize, outputs: usize) {
    let mut draws = Draws::new((rows * inputs + outputs) as u32);
    let mut up = |shape: &[usize]| {
        let scale = 1.0 / (inputs.max(outputs) as f32).sqrt();
        let values: Vec<f32> = draws.normal(shape.iter().product()).iter().map(|x| x * scale).collect();
        ops.upload(&values, shape).unwrap()
    };
    let (x, w, b) = (up(&[rows, inputs]), up(&[outputs, inputs]), up(&[outputs]));
    let (dy, onto) = (up(&[rows, outputs]), up(&[rows, inputs]));
    let plain = ops.linear(&x, &w, None).unwrap();
    let biased = ops.linear(&x, &w, Some(&b)).unwrap();
    let (dx, dw) = ops.linear_backward(&x, &w, &dy, None).unwrap();
    let (added, _) = ops.linear_backward(&x, &w, &dy, Some(onto.clone())).unwrap();
    let (also_added, _) = ops.linear_backward(&x, &w, &dy, Some(up(&[rows, inputs]))).unwrap();
    let case = format!("linear {rows} {inputs} {outputs}");
    collect(ops, results, &case, &[("y", &plain), ("y + b", &biased), ("dx", &dx), ("dw", &dw)]);
    collect(ops, results, &case, &[("onto + dx", &added), ("onto", &onto), ("unshared onto + dx", &also_added)]);
}

fn element_wise<O: Ops>(ops: &O, results: &mut Results, rows: usize, width: usize) {
    let mut draws = Draws::new((1000 * rows + width) as u32);
    let mut up = |shape: &[usize]| ops.upload(&draws.normal(shape.iter().product()), shape).unwrap();
    let (x, b, dy) = (up(&[rows, width]), up(&[width]), up(&[rows, width]));
    let activated = ops.bias_gelu(&x, &b).unwrap();
    let (dx, db) = ops.bias_gelu_backward(&x, &b, dy.clone()).unwrap();
    let columns = ops.column_sum(&dy).unwrap();
    let sum = ops.add(x.clone(), &dy).unwrap();
    let dropped = ops.dropout(x.clone(), &dropout(0.3).unwrap()).unwrap();
    let chosen: Vec<usize> = (0..rows).rev().step_by(3).collect();
    let picked = ops.rows(&x, &chosen).unwrap();
    let scattered = ops.add_rows(dy.clone(), &chosen, &picked).unwrap();
    let through = ops.upload_candle(&ops.to_candle(&x).unwrap()).unwrap();
    let case = format!("element-wise {rows} {width}");
    collect(ops, results, &case, &[("gelu", &activated), ("dgelu", &dx), ("dbias", &db), ("column sum", &columns)]);
    collect(ops, results, &case, &[("sum", &sum), ("dropout", &dropped), ("rows", &picked), ("add rows", &scattered)]);
    // Arguments that the caller still holds must not have changed.
    collect(ops, results, &case, &[("through candle", &through), ("x", &x), ("dy", &dy)]);
    collect(ops, results, &case, &[("zeros", &ops.zeros(&[rows, width]).unwrap())]);
    results.push((format!("{case}: sum of squares"), vec![ops.sum_squares(&x).unwrap() as f32]));
}

fn norm<O: Ops>(ops: &O, results: &mut Results, rows: usize, width: usize, rate: f32) {
    let mut draws = Draws::new((7000 * rows + width) as u32);
    let mut up = |shape: &[usize]| ops.upload(&draws.normal(shape.iter().product()), shape).unwrap();
    let (branch, residual, dy) = (up(&[rows, width]), up(&[rows, width]), up(&[rows, width]));
    let (bias, gamma, beta) = (up(&[width]), up(&[width]), up(&[width]));
    let mask = dropout(rate);
    // A large epsilon keeps the division by the deviation of a row of one element away from 0 / 0.
    let affine = || Norm { gamma: &gamma, beta: &beta, eps: 1e-2 };
    for (with, bias, residual) in [("all", Some(&bias), Some(&residual)), ("branch alone", None, None)] {
        let normed = ops.add_norm(branch.clone(), bias, residual, affine(), mask.as_ref()).unwrap();
        let d = ops.add_norm_backward(dy.clone(), &normed, &gamma, mask.as_ref()).unwrap();
        let case = format!("norm {rows} {width} {rate} {with}");
        let outs = [("out", &normed.out), ("normalized", &normed.normalized), ("rstd", &normed.rstd)];
        collect(ops, results, &case, &outs);
        collect(ops, results, &case, &[("dbranch", &d.branch), ("dresidual", &d.residual), ("dbias", &d.bias)]);
        collect(ops, results, &case, &[("dgamma", &d.gamma), ("dbeta", &d.beta)]);
    }
    collect(ops, results, "norm arguments", &[("branch", &branch), ("dy", &dy)]);
}

fn attention<O: Ops>(
    ops: &O,
    results: &mut Results,
    lengths: &[usize],
    (heads, size): (usize, usize),
    rate: f32,
    padded: bool,
) {
    let mut starts = vec![0];
    for length in lengths {
        // The reference has no sentence without tokens; engines must only agree on the others.
        if *length > 0 {
            starts.push(starts[starts.len() - 1] + length);
        }
    }
    let (tokens, hidden) = (starts[starts.len() - 1], heads * size);
    let mut draws = Draws::new((tokens * hidden) as u32);
    let qkv = ops.upload(&draws.normal(tokens * 3 * hidden), &[tokens, 3 * hidden]).unwrap();
    let dy = ops.upload(&draws.normal(tokens * hidden), &[tokens, hidden]).unwrap();
    let keys: Vec<usize> = starts.windows(2).map(|bounds| (bounds[1] - bounds[0]).div_ceil(2)).collect();
    let shape = AttentionShape { starts: &starts, heads, keys: padded.then_some(&keys) };
    let mask = dropout(rate);
    let (out, probabilities) = ops.attention(&qkv, shape, mask.as_ref()).unwrap();
    let d = ops.attention_backward(&qkv, probabilities, &dy, shape, mask.as_ref()).unwrap();
    let case = format!("attention {lengths:?} {heads} x {size} {rate} padded {padded}");
    collect(ops, results, &case, &[("out", &out), ("dqkv", &d)]);
}

fn embeddings<O: Ops>(ops: &O, results: &mut Results, tokens: usize, width: usize) {
    let mut draws = Draws::new((tokens + width) as u32);
    // Few ids, so that rows repeat; more words than one task fills.
    let ids: Vec<u32> = draws.below(tokens, 30).iter().map(|id| id * 19).collect();
    let positions = draws.below(tokens, 12);
    let mut up = |shape: &[usize]| ops.upload(&draws.normal(shape.iter().product()), shape).unwrap();
    let tables = [up(&[600, width]), up(&[12, width]), up(&[2, width])];
    let dy = up(&[tokens, width]);
    let tables = [&tables[0], &tables[1], &tables[2]];
    let out = ops.embed(&ids, &positions, tables).unwrap();
    let [words, places, kinds] = ops.embed_backward(&ids, &positions, &dy, tables).unwrap();
    let case = format!("embeddings {tokens} {width}");
    collect(ops, results, &case, &[("out", &out), ("dwords", &words), ("dplaces", &places), ("dkinds", &kinds)]);
}

fn update<O: Ops>(ops: &O, results: &mut Results, n: usize) {
    let mut draws = Draws::new(n as u32);
    let mut value = ops.upload(&draws.normal(n), &[n]).unwrap();
    let held = value.clone();
    let mut moments = Moments { m: ops.zeros(&[n]).unwrap(), v: ops.zeros(&[n]).unwrap() };
    for t in 1..=3 {
        let gradient = ops.upload(&draws.normal(n), &[n]).unwrap();
        let betas = [0.9, 0.999];
        let corrections = if n == 15 { [1.0; 2] } else { betas.map(|b: f64| 1.0 / (1.0 - b.powi(t))) };
        let step = AdamWStep { learning_rate: 0.01, decay: 0.1, betas, epsilon: 1e-6, clip: 0.7, corrections };
        ops.adamw(&mut value, &mut moments, &gradient, &step).unwrap();
    }
    let outs = [("value", &value), ("m", &moments.m), ("v", &moments.v), ("a value held elsewhere", &held)];
    collect(ops, results, &format!("adamw {n}"), &outs);
    results.push((format!("sum of squares {n}"), vec![ops.sum_squares(&value).unwrap() as f32]));
}

fn assert_close(ours: &Results, expected: &Results, tolerance: f64, engine: &str) {
    assert_eq!(ours.len(), expected.len());
    for ((name, ours), (same, expected)) in ours.iter().zip(expected) {
        assert_eq!((name, ours.len()), (same, expected.len()), "{engine}");
        let scale = expected.iter().fold(1.0f64, |scale, x| scale.max(f64::from(x.abs())));
        for (i, (ours, expected)) in ours.iter().zip(expected).enumerate() {
            let difference = (f64::from(*ours) - f64::from(*expected)).abs();
            assert!(difference <= tolerance * scale, "{engine}, {name}[{i}]: {ours}, expected {expected}");
        }
    }
}

fn on_threads<T: Send>(threads: usize, run: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run)
}

#[test]
fn the_reference_in_f32_equals_f64() {
    assert_close(&suite(&Reference::cpu()), &suite(&exact()), 5e-6, "reference f32");
}

#[test]
fn cpu_equals_the_reference_at_every_level() {
    let expected = suite(&exact());
    for level in Level::ALL {
        match Cpu::with_level(level) {
            Ok(ops) => assert_close(&suite(&ops), &expected, TOLERANCE, level.name()),
            Err(error) => println!("skipped: {error}"),
        }
    }
}

/// Largest difference of a product in bf16, relative to the largest expected value (at least 1): factors have 8
/// significant bits, so each is off by up to 2^-9.
const BF16_TOLERANCE: f64 = 2e-2;

/// Engines with products in bf16, by each unit of this machine.
fn bf16_engines() -> Vec<(&'static str, Cpu)> {
    let engine = |unit: Unit| match Cpu::with_bf16(unit) {
        Ok(ops) => Some((unit.name(), ops)),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    };
    Unit::ALL.into_iter().filter_map(engine).collect()
}

/// Products to the rounding of their factors, everything else as in f32.
#[test]
fn bf16_equals_the_reference() {
    let (products, others): (Results, Results) =
        suite(&exact()).into_iter().partition(|(name, _)| name.starts_with("linear"));
    for (name, ops) in bf16_engines() {
        let (ours, rest): (Results, Results) =
            suite(&ops).into_iter().partition(|(name, _)| name.starts_with("linear"));
        assert_close(&ours, &products, BF16_TOLERANCE, name);
        assert_close(&rest, &others, TOLERANCE, name);
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
    let fastest = Cpu::with_bf16(Unit::detect()).unwrap();
    for ops in [Cpu::new(), fastest] {
        same_bits_on_any_number_of_threads(&ops);
    }
}

fn same_bits_on_any_number_of_threads(ops: &Cpu) {
    let bits = |results: Results| -> Vec<(String, Vec<u32>)> {
        results.into_iter().map(|(name, x)| (name, x.into_iter().map(f32::to_bits).collect())).collect()
    };
    let expected = bits(on_threads(1, || suite(ops)));
    for threads in [1, 2, 3, 5, 7] {
        for (ours, expected) in bits(on_threads(threads, || suite(ops))).iter().zip(&expected) {
            assert!(ours == expected, "{} differs on {threads} threads", expected.0);
        }
    }
}

/// The last layer, the `[CLS]` vectors and all gradients of a small encoder, with dropout everywhere.
fn encoder<O: Ops>(ops: &O) -> Results {
    let json = r#"{"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
        "intermediate_size": 40, "max_position_embeddings": 32}"#;
    let config: EncoderConfig = serde_json::from_str(json).unwrap();
    let mut draws = Draws::new(1);
    let mut batch = Batch { ids: vec![], positions: vec![], starts: vec![0], labels: vec![], keys: None };
    for length in [7, 1, 32, 18] {
        batch.ids.extend(draws.below(length, config.vocab_size));
        batch.positions.extend(0..length as u32);
        batch.starts.push(batch.ids.len());
    }
    let mut specs = encoder_specs(&config);
    for spec in &mut specs {
        // Larger than BERT's, so that no part of the network is nearly linear.
        spec.init = Init::Uniform(0.6);
    }
    let up = |values: &[f32], shape: &[usize]| ops.upload(values, shape).unwrap();
    let params: Vec<_> = specs.iter().map(|spec| up(&spec.initial(3), &spec.shape)).collect();
    let pass = Pass { seed: 4, step: 2, micro: 1, hidden: 0.1, attention: 0.2, head: 0.1, ..Pass::without_dropout() };
    let (encoded, tape) = forward(ops, &config, &params, &batch, Some(&pass), true).unwrap();
    let mut results = Results::new();
    collect(ops, &mut results, "encoder", &[("last", &encoded.last)]);
    for cls in &encoded.cls {
        collect(ops, &mut results, "encoder", &[("cls", cls)]);
    }
    let cls = (0..2).map(|_| up(&draws.normal(4 * 24), &[4, 24])).collect();
    let gradient = EncodedGradient { last: up(&draws.normal(batch.tokens() * 24), &[batch.tokens(), 24]), cls };
    let gradients = backward(ops, &config, &params, &batch, &pass, tape.unwrap(), gradient).unwrap();
    for (gradient, spec) in gradients.iter().flatten().zip(&specs) {
        collect(ops, &mut results, "gradient", &[(&spec.name, gradient)]);
    }
    results
}

#[test]
fn a_whole_encoder_on_the_cpu_equals_the_reference() {
    let expected = encoder(&exact());
    assert_close(&encoder(&Cpu::new()), &expected, 5e-6, "cpu");
    for (name, ops) in bf16_engines() {
        assert_close(&encoder(&ops), &expected, 5e-2, name);
    }
}

/// Shapes that do not fit are errors, not panics.
#[test]
fn cpu_refuses_what_does_not_fit() {
    let ops = Cpu::new();
    let up = |shape: &[usize]| ops.zeros(shape).unwrap();
    assert!(ops.upload(&[1.0], &[2]).is_err());
    assert!(ops.linear(&up(&[2, 3]), &up(&[4, 5]), None).is_err());
    assert!(ops.linear(&up(&[2, 3]), &up(&[4, 3]), Some(&up(&[3]))).is_err());
    assert!(ops.linear(&up(&[6]), &up(&[4, 3]), None).is_err());
    assert!(ops.linear_backward(&up(&[2, 3]), &up(&[4, 3]), &up(&[3, 4]), None).is_err());
    assert!(ops.bias_gelu(&up(&[2, 3]), &up(&[2])).is_err());
    assert!(ops.add(up(&[2, 3]), &up(&[3, 2])).is_err());
    assert!(ops.rows(&up(&[2, 3]), &[2]).is_err());
    let tables = [up(&[5, 3]), up(&[4, 3]), up(&[2, 3])];
    let tables = [&tables[0], &tables[1], &tables[2]];
    assert!(ops.embed(&[5], &[0], tables).is_err());
    assert!(ops.embed(&[4], &[4], tables).is_err());
    assert!(ops.embed(&[4, 4], &[3], tables).is_err());
    for (starts, heads) in [(vec![0, 3], 2), (vec![0, 2], 5), (vec![0, 2], 0), (vec![1, 2], 2), (vec![0, 3, 2], 2)] {
        assert!(
            ops.attention(&up(&[2, 12]), AttentionShape { starts: &starts, heads, keys: None }, None).is_err(),
            "{starts:?}"
        );
    }
}

/// As many keys as sentences, none of them without a key or with more than its tokens.
#[test]
fn cpu_refuses_keys_that_do_not_fit() {
    let ops = Cpu::new();
    let qkv = ops.zeros(&[5, 12]).unwrap();
    let attend =
        |keys: &[usize]| ops.attention(&qkv, AttentionShape { starts: &[0, 2, 5], heads: 2, keys: Some(keys) }, None);
    assert!(attend(&[2, 3]).is_ok() && attend(&[1, 1]).is_ok());
    for keys in [&[2][..], &[2, 3, 1], &[0, 3], &[3, 2], &[2, 4]] {
        assert!(attend(keys).is_err(), "{keys:?}");
    }
}

/// Batches without tokens are results without rows.
#[test]
fn cpu_takes_empty_batches() {
    takes_empty_batches(&Cpu::new());
    for (_, ops) in bf16_engines() {
        takes_empty_batches(&ops);
    }
}

fn takes_empty_batches(ops: &Cpu) {
    let up = |shape: &[usize]| ops.zeros(shape).unwrap();
    let (x, w, b) = (up(&[0, 4]), up(&[6, 4]), up(&[6]));
    let y = ops.linear(&x, &w, Some(&b)).unwrap();
    assert_eq!(y.shape(), [0, 6]);
    let (dx, dw) = ops.linear_backward(&x, &w, &y, None).unwrap();
    assert_eq!((dx.shape(), ops.download(&dw).unwrap()), ([0, 4].as_slice(), vec![0.0; 24]));
    assert_eq!(ops.download(&ops.column_sum(&y).unwrap()).unwrap(), vec![0.0; 6]);
    let norm = Norm { gamma: &up(&[6]), beta: &b, eps: 1e-12 };
    let normed = ops.add_norm(y.clone(), Some(&b), Some(&y), norm, None).unwrap();
    let d = ops.add_norm_backward(y.clone(), &normed, &b, None).unwrap();
    assert_eq!((d.branch.shape(), ops.download(&d.gamma).unwrap()), ([0, 6].as_slice(), vec![0.0; 6]));
    let (out, p) = ops.attention(&y, AttentionShape { starts: &[0, 0], heads: 2, keys: None }, None).unwrap();
    let d =
        ops.attention_backward(&y, p, &out, AttentionShape { starts: &[0, 0], heads: 2, keys: None }, None).unwrap();
    assert_eq!((out.shape(), d.shape()), ([0, 2].as_slice(), [0, 6].as_slice()));
}

/// A function of a few tensors, as its operation and as the gradients that the operation's backward gives for the sum
/// of its result times a fixed weight.
type Function = fn(&Reference, &[Tensor]) -> Tensor;
type Backward = fn(&Reference, &[Tensor], &Tensor) -> Vec<Tensor>;

const MASK: Dropout = Dropout { rate: 0.3, seed: 3, site: 1, step: 2, micro: 0 };
const STARTS: [usize; 3] = [0, 4, 5];
const PADDED: AttentionShape<'static> = AttentionShape { starts: &STARTS, heads: 2, keys: Some(&[2, 1]) };

fn affine(gamma: &Tensor, beta: &Tensor) -> Norm<'static, Tensor> {
    // Leaked for the lifetime in a function pointer: a few bytes in a test.
    Norm { gamma: Box::leak(Box::new(gamma.clone())), beta: Box::leak(Box::new(beta.clone())), eps: 1e-3 }
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
            |ops, x| {
                ops.attention(&x[0], AttentionShape { starts: &STARTS, heads: 2, keys: None }, Some(&MASK)).unwrap().0
            },
            |ops, x, dy| {
                let shape = AttentionShape { starts: &STARTS, heads: 2, keys: None };
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
