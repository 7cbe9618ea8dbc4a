//! Every operation on every case, for any engine: `tests/ops.rs` and `tests/cuda/` compare engines
//! with the reference on them.
//!
//! The expected values come from the reference in f64, so the tolerance is the engine's own
//! rounding. It is stated relative to the largest expected value of the result (which is what f32
//! guarantees for a sum).

mod edge_cases;
mod heads;

use std::sync::OnceLock;

use biorel::encode::Batch;
use biorel::model::EncoderConfig;
use biorel::model::encoder::{EncoderGradient, ForwardContext, OutputSpec, backward, forward};
use biorel::model::params::encoder_specs;
use biorel::ops::{
    AdamWStep, AttentionShape, ClsAttention, Loss, Moments, Norm, Ops, Reference, Rotation, StepResult, Update, Window,
};
use biorel::rng::{Dropout, Purpose, Stream};
use candle_core::{DType, Device};

pub use edge_cases::{accepts_empty_batches, refuses_mismatched_heads, refuses_mismatched_shapes};
pub use heads::HEAD_OPERATIONS;

pub fn exact() -> Reference {
    Reference::new(Device::Cpu, DType::F64)
}

/// The expected results of [`suite`].
pub fn expected() -> &'static Results {
    static EXPECTED: OnceLock<Results> = OnceLock::new();
    EXPECTED.get_or_init(|| suite(&exact()))
}

/// Numbers of one case, the same for every engine.
pub struct Draws(Stream);

impl Draws {
    pub fn new(case: u32) -> Self {
        Self(Stream::new(20_201, Purpose::Init, case))
    }

    pub fn normal(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.0.normal() as f32).collect()
    }

    pub fn below(&mut self, n: usize, limit: usize) -> Vec<u32> {
        (0..n).map(|_| self.0.below(limit) as u32).collect()
    }
}

pub fn dropout(rate: f32) -> Option<Dropout> {
    (rate > 0.0).then_some(Dropout { rate, seed: 99, site: 5, step: 3, micro: 1 })
}

/// A named result on the host.
pub type Results = Vec<(String, Vec<f32>)>;

fn collect<O: Ops>(ops: &O, results: &mut Results, case: &str, outs: &[(&str, &O::Buffer)]) {
    for (name, buffer) in outs {
        results.push((format!("{case}: {name}"), ops.download(buffer).unwrap()));
    }
}

/// The operations of [`suite`].
pub const OPERATIONS: [&str; 9] =
    ["linear", "element-wise", "norm", "attention", "first-attention", "embeddings", "adamw", "cross-entropy", "step"];
/// The operations of [`modern`].
pub const MODERN_OPERATIONS: [&str; 3] = ["geglu", "rotary", "local-attention"];

/// Every operation on every case: engines may differ only by rounding.
pub fn suite<O: Ops>(ops: &O) -> Results {
    all(ops, &OPERATIONS)
}

/// The operations that heads are trained with, on every case.
pub fn heads<O: Ops>(ops: &O) -> Results {
    all(ops, &HEAD_OPERATIONS)
}

/// The operations of ModernBERT on every case.
pub fn modern<O: Ops>(ops: &O) -> Results {
    all(ops, &MODERN_OPERATIONS)
}

fn all<O: Ops>(ops: &O, operations: &[&str]) -> Results {
    let mut results = Results::new();
    for operation in operations {
        each_case(operation, &mut |case| case(ops, &mut results));
    }
    results
}

/// Computes one case of an operation and adds its results.
pub type Case<'a, O> = &'a dyn Fn(&O, &mut Results);

/// Calls `run` with every case of an operation, always in the same order.
pub fn each_case<O: Ops>(operation: &str, run: &mut dyn FnMut(Case<'_, O>)) {
    match operation {
        "linear" => {
            for (rows, inputs, outputs) in
                [(1, 1, 1), (1, 5, 3), (7, 24, 36), (33, 36, 24), (64, 384, 96), (131, 96, 130), (517, 1536, 384)]
            {
                run(&|ops, results| linear(ops, results, rows, inputs, outputs));
            }
        }
        "element-wise" | "norm" => {
            for (width, rows) in [1, 5, 24, 36, 130, 384].into_iter().flat_map(|w| [1, 7, 32, 33, 100].map(|r| (w, r)))
            {
                if operation == "element-wise" {
                    run(&|ops, results| element_wise(ops, results, rows, width));
                } else {
                    run(&|ops, results| [0.0, 0.1, 0.5].iter().for_each(|r| norm(ops, results, rows, width, *r)));
                }
            }
            if operation == "norm" {
                [1024, 1028].into_iter().for_each(|width| run(&|ops, results| norm(ops, results, 3, width, 0.1)));
            }
        }
        "attention" => {
            for (sentences, sizes, rate) in attention_cases(&[((1, 5), 0.1), ((2, 32), 0.0), ((1, 64), 0.1)]) {
                run(&|ops, results| attention(ops, results, &sentences, sizes, rate));
            }
        }
        "first-attention" => {
            for (sentences, sizes, rate) in attention_cases(&[((2, 32), 0.1)]) {
                run(&|ops, results| first_attention(ops, results, &sentences, sizes, rate));
            }
        }
        "embeddings" => {
            for (tokens, width) in [(1, 5), (40, 24), (300, 36), (70, 130)] {
                run(&|ops, results| embeddings(ops, results, tokens, width));
            }
        }
        "adamw" => [1, 15, 1000, 40_000].into_iter().for_each(|n| run(&|ops, results| update(ops, results, n))),
        "cross-entropy" => {
            for (rows, labels) in [(1, 1), (1, 2), (7, 5), (40, 70)] {
                run(&|ops, results| cross_entropy(ops, results, rows, labels));
            }
        }
        "step" => [0.0, 0.5, 1e6].into_iter().for_each(|norm| run(&|ops, results| step(ops, results, norm))),
        "geglu" => {
            for (rows, width) in [(1, 1), (7, 5), (33, 36), (100, 130)] {
                run(&|ops, results| geglu(ops, results, rows, width));
            }
        }
        "rotary" => {
            for (tokens, heads, size) in [(1, 1, 2), (7, 3, 8), (40, 2, 64), (130, 1, 32)] {
                run(&|ops, results| rotary(ops, results, tokens, heads, size));
            }
        }
        "local-attention" => {
            let lengths: [&[usize]; 5] = [&[1], &[2, 1, 1], &[3, 17, 64, 5], &[33, 128], &[300]];
            for (lengths, distance) in lengths.into_iter().flat_map(|lengths| [1, 4, 64].map(|d| (lengths, d))) {
                for (sizes, rate) in [((1, 5), 0.1), ((3, 8), 0.0), ((2, 32), 0.1), ((1, 64), 0.1)] {
                    let sentences = Sentences::plain(lengths).within(distance);
                    run(&|ops, results| attention(ops, results, &sentences, sizes, rate));
                }
            }
            let padded = lengths.into_iter().map(Sentences::padded);
            for sentences in padded.chain(grouped_sentences()) {
                for (distance, sizes, rate) in [(1, (2, 32), 0.1), (20, (2, 32), 0.1), (5, (1, 64), 0.0)] {
                    let sentences = sentences.clone().within(distance);
                    run(&|ops, results| attention(ops, results, &sentences, sizes, rate));
                }
            }
        }
        "mean-rows" => {
            [1, 5, 130].into_iter().for_each(|width| run(&|ops, results| heads::mean_rows(ops, results, width)))
        }
        "pool-words" => {
            for (words, tokens) in [(vec![1..4, 1..4, 5..6, 8..30, 8..30, 8..30], 31), (vec![1..2, 4..9], 10)] {
                for width in [1, 24, 150] {
                    run(&|ops, results| heads::pool_words(ops, results, &words, tokens, width));
                }
            }
        }
        "classify" => {
            for (rows, labels, widths) in [(1, 1, &[1][..]), (3, 2, &[20]), (7, 5, &[9, 5]), (40, 70, &[150, 130])] {
                run(&|ops, results| heads::classify(ops, results, rows, labels, widths));
            }
        }
        _ => unreachable!("{operation} is not an operation of the suite"),
    }
}

/// Number of heads and their size.
type Heads = (usize, usize);

/// Sentences, heads and rates of dropout of the cases of attention; `grouped`: the heads and rates
/// for sentences with groups.
fn attention_cases(grouped: &[(Heads, f32)]) -> Vec<(Sentences, Heads, f32)> {
    let mut cases = vec![];
    let lengths: [&[usize]; 5] = [&[1], &[2, 1, 1], &[3, 17, 64, 5], &[33, 128], &[20, 0, 9]];
    for lengths in lengths {
        for (sizes, rate) in [(1, 5), (3, 8), (12, 32), (2, 64)].into_iter().flat_map(|s| [0.0, 0.1].map(|r| (s, r))) {
            cases.push((Sentences::plain(lengths), sizes, rate));
            cases.push((Sentences::padded(lengths), sizes, rate));
        }
    }
    // The longest sentence with few heads and half of the combinations, since its cost is quadratic.
    for sizes in [(1, 5), (3, 8), (1, 32), (2, 64)] {
        cases.push((Sentences::plain(&[512]), sizes, 0.1));
        cases.push((Sentences::padded(&[512]), sizes, 0.0));
    }
    for sentences in grouped_sentences() {
        cases.extend(grouped.iter().map(|(sizes, rate)| (sentences.clone(), *sizes, *rate)));
    }
    cases
}

fn geglu<O: Ops>(ops: &O, results: &mut Results, rows: usize, width: usize) {
    let mut draws = Draws::new((50 * rows + width) as u32);
    let mut up = |shape: &[usize]| ops.upload(&draws.normal(shape.iter().product()), shape).unwrap();
    let (x, dy) = (up(&[rows, 2 * width]), up(&[rows, width]));
    let (y, dx) = (ops.geglu(&x).unwrap(), ops.geglu_backward(&x, &dy).unwrap());
    collect(ops, results, &format!("geglu {rows} {width}"), &[("y", &y), ("dx", &dx), ("x", &x), ("dy", &dy)]);
}

fn rotary<O: Ops>(ops: &O, results: &mut Results, tokens: usize, heads: usize, size: usize) {
    let mut draws = Draws::new((70 * tokens + size) as u32);
    let shape = [tokens, 3 * heads * size];
    let qkv = ops.upload(&draws.normal(shape.iter().product()), &shape).unwrap();
    let positions = draws.below(tokens, 300);
    let rotation = Rotation { positions: &positions, heads, theta: 10_000.0, back: false };
    let turned = ops.rotary(qkv.clone(), &rotation).unwrap();
    let back = ops.rotary(turned.clone(), &Rotation { back: true, ..rotation }).unwrap();
    let case = format!("rotary {tokens} {heads} {size}");
    collect(ops, results, &case, &[("turned", &turned), ("turned back", &back), ("qkv", &qkv)]);
}

/// Rows of logits; the first has a probability of almost 1 for its label.
fn cross_entropy<O: Ops>(ops: &O, results: &mut Results, rows: usize, labels: usize) {
    let mut draws = Draws::new((300 * rows + labels) as u32);
    let mut values: Vec<f32> = draws.normal(rows * labels).iter().map(|x| 3.0 * x).collect();
    let gold = draws.below(rows, labels);
    values[gold[0] as usize] = 60.0;
    let logits = ops.upload(&values, &[rows, labels]).unwrap();
    let weights: Vec<f64> = (0..labels).map(|label| label as f64 * 0.7).collect();
    for (name, weights, focal_gamma) in
        [("plain", None, 0.0), ("weighted", Some(&weights), 0.0), ("focal", Some(&weights), 2.0), ("mild", None, 1.0)]
    {
        let loss = Loss { weights: weights.map(Vec::as_slice), focal_gamma, total: rows as f64 * 0.9 };
        let (value, gradient) = ops.cross_entropy(&logits, &gold, &loss).unwrap();
        let case = format!("cross-entropy {rows} {labels} {name}");
        collect(ops, results, &case, &[("loss", &value), ("gradient", &gradient)]);
    }
}

/// Two parameters clipped together. A loss or a gradient that is not finite does not change them,
/// and is reported.
fn step<O: Ops>(ops: &O, results: &mut Results, max_norm: f64) {
    let mut draws = Draws::new(12);
    let sizes = [[3, 5], [1, 5000]];
    let mut up = |size: &[usize]| ops.upload(&draws.normal(size.iter().product()), size).unwrap();
    let mut values = sizes.map(|size| up(&size));
    let gradients = sizes.map(|size| up(&size));
    let mut moments = sizes.map(|size| Moments { m: ops.zeros(&size).unwrap(), v: ops.zeros(&size).unwrap() });
    let broken =
        ops.upload(&[1.0, f32::NAN, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], &sizes[0]);
    let (broken, infinite) = (broken.unwrap(), ops.upload(&[f32::INFINITY], &[1]).unwrap());
    let fine = ops.upload(&[0.25], &[1]).unwrap();
    let betas = [0.9, 0.999];
    let update = AdamWStep { learning_rate: 0.01, decay: 0.1, betas, epsilon: 1e-6, clip: 1.0, corrections: [1.5; 2] };
    let mut take = |loss: &O::Buffer, first: &O::Buffer| -> StepResult {
        let each = values.iter_mut().zip(&mut moments).zip([first, &gradients[1]]).enumerate();
        let update = |i: usize| AdamWStep { learning_rate: 0.01 * (i + 1) as f64, ..update };
        let mut updates: Vec<_> = each
            .map(|(i, ((value, moments), gradient))| Update { value, moments, gradient, step: update(i) })
            .collect();
        ops.step(loss, &mut updates, max_norm).unwrap().get().unwrap()
    };
    let (broken, infinite) = (take(&fine, &broken), take(&infinite, &gradients[0]));
    assert!(broken.loss == 0.25 && broken.norm.is_nan(), "{broken:?}");
    assert!(infinite.loss == f64::INFINITY && infinite.norm.is_finite(), "{infinite:?}");
    let StepResult { loss, norm } = take(&fine, &gradients[0]);
    let case = format!("step clipped to {max_norm}");
    results.push((format!("{case}: sums"), vec![loss as f32, norm as f32]));
    for (value, Moments { m, v }) in values.iter().zip(&moments) {
        collect(ops, results, &case, &[("value", value), ("m", m), ("v", v)]);
    }
}

pub fn linear<O: Ops>(ops: &O, results: &mut Results, rows: usize, inputs: usize, outputs: usize) {
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
    let mask = ops.upload_candle(&ops.mask(&dropout(0.3).unwrap(), rows, width).unwrap()).unwrap();
    let chosen: Vec<usize> = (0..rows).rev().step_by(3).collect();
    let picked = ops.rows(&x, &chosen).unwrap();
    let scattered = ops.add_rows(dy.clone(), &chosen, &picked).unwrap();
    let through = ops.upload_candle(&ops.to_candle(&x).unwrap()).unwrap();
    let case = format!("element-wise {rows} {width}");
    collect(ops, results, &case, &[("gelu", &activated), ("dgelu", &dx), ("dbias", &db), ("column sum", &columns)]);
    collect(ops, results, &case, &[("sum", &sum), ("dropout", &dropped), ("rows", &picked), ("add rows", &scattered)]);
    collect(ops, results, &case, &[("mask", &mask)]);
    // Arguments that the caller still uses must not have changed.
    collect(ops, results, &case, &[("through candle", &through), ("x", &x), ("dy", &dy)]);
    collect(ops, results, &case, &[("zeros", &ops.zeros(&[rows, width]).unwrap())]);
    results.push((format!("{case}: sum of squares"), vec![ops.sum_squares(&x).unwrap() as f32]));
}

pub fn norm<O: Ops>(ops: &O, results: &mut Results, rows: usize, width: usize, rate: f32) {
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

/// The sentences of a batch, and which of their tokens attend to which. The reference has no
/// sentence without tokens; engines must only agree on the others.
#[derive(Clone)]
pub struct Sentences {
    case: String,
    cu_seqlens: Vec<usize>,
    valid_lengths: Option<Vec<usize>>,
    group: usize,
    window: Option<(usize, Vec<u32>)>,
}

impl Sentences {
    fn new(case: String, lengths: impl Iterator<Item = usize>) -> Self {
        let mut cu_seqlens = vec![0];
        for length in lengths.filter(|length| *length > 0) {
            cu_seqlens.push(cu_seqlens[cu_seqlens.len() - 1] + length);
        }
        Self { case, cu_seqlens, valid_lengths: None, group: 0, window: None }
    }

    /// With a window; tokens of groups have the positions of tokens of the text.
    pub fn within(self, distance: usize) -> Self {
        let shape = self.shape(1);
        let position = |bounds: &[usize], valid: usize| -> Vec<u32> {
            (0..bounds[1] - bounds[0])
                .map(|i| if i < valid || shape.group == 0 { i } else { 7 * i % valid } as u32)
                .collect()
        };
        let sentences = self.cu_seqlens.windows(2).enumerate();
        let positions =
            sentences.flat_map(|(i, bounds)| position(bounds, shape.valid_length(i, bounds[1] - bounds[0])));
        let positions = positions.collect();
        Self { case: format!("{} within {distance}", self.case), window: Some((distance, positions)), ..self }
    }

    pub fn plain(lengths: &[usize]) -> Self {
        Self::new(format!("{lengths:?}"), lengths.iter().copied())
    }

    /// Half of each sentence is padding.
    pub fn padded(lengths: &[usize]) -> Self {
        let plain = Self::plain(lengths);
        let half = |bounds: &[usize]| (bounds[1] - bounds[0]).div_ceil(2);
        let valid_lengths = plain.cu_seqlens.windows(2).map(half).collect();
        Self { case: format!("{lengths:?} padded"), valid_lengths: Some(valid_lengths), ..plain }
    }

    /// Sentences of some valid tokens and some groups.
    pub fn grouped(sentences: &[(usize, usize)], group: usize) -> Self {
        let case = format!("{sentences:?} groups of {group}");
        let valid_lengths = Some(sentences.iter().map(|(valid, _)| *valid).collect());
        let lengths = sentences.iter().map(|(valid, groups)| valid + groups * group);
        Self { valid_lengths, group, ..Self::new(case, lengths) }
    }

    pub fn shape(&self, heads: usize) -> AttentionShape<'_> {
        let Self { cu_seqlens, valid_lengths, group, window, .. } = self;
        let window = window.as_ref().map(|(distance, positions)| Window { distance: *distance, positions });
        let plain = AttentionShape::plain(cu_seqlens, heads);
        AttentionShape { valid_lengths: valid_lengths.as_deref(), group: *group, window, ..plain }
    }

    pub fn tokens(&self) -> usize {
        self.cu_seqlens[self.cu_seqlens.len() - 1]
    }
}

/// [`Sentences::grouped`] with no group, one, and several, smaller and larger than the tiles of the
/// engines.
pub fn grouped_sentences() -> Vec<Sentences> {
    let mixed = [(3, 2), (17, 0), (1, 1), (64, 4), (5, 1), (33, 5)];
    let groups = [1, 2, 3, 4, 12, 32].map(|group| Sentences::grouped(&mixed, group));
    groups.into_iter().chain([Sentences::grouped(&[(508, 3)], 4), Sentences::grouped(&[(130, 20)], 2)]).collect()
}

pub fn attention<O: Ops>(
    ops: &O,
    results: &mut Results,
    sentences: &Sentences,
    (heads, size): (usize, usize),
    rate: f32,
) {
    let (tokens, hidden, shape) = (sentences.tokens(), heads * size, sentences.shape(heads));
    let mut draws = Draws::new((tokens * hidden) as u32);
    let qkv = ops.upload(&draws.normal(tokens * 3 * hidden), &[tokens, 3 * hidden]).unwrap();
    let dy = ops.upload(&draws.normal(tokens * hidden), &[tokens, hidden]).unwrap();
    let mask = dropout(rate);
    let (out, probabilities) = ops.attention(&qkv, shape, mask.as_ref()).unwrap();
    let d = ops.attention_backward(&qkv, probabilities, &dy, shape, mask.as_ref()).unwrap();
    let case = format!("attention {} {heads} x {size} {rate}", sentences.case);
    collect(ops, results, &case, &[("out", &out), ("dqkv", &d)]);
}

fn first_attention<O: Ops>(
    ops: &O,
    results: &mut Results,
    sentences: &Sentences,
    (heads, size): (usize, usize),
    rate: f32,
) {
    let (tokens, hidden, shape) = (sentences.tokens(), heads * size, sentences.shape(heads));
    let mut draws = Draws::new((tokens * hidden + 1) as u32);
    let mut up = |shape: &[usize], scale: f32| {
        let values: Vec<f32> = draws.normal(shape.iter().product()).iter().map(|x| x * scale).collect();
        ops.upload(&values, shape).unwrap()
    };
    // Queries and keys of size 1.
    let scale = 1.0 / (hidden as f32).sqrt();
    let (input, weight) = (up(&[tokens, hidden], 1.0), up(&[3 * hidden, hidden], scale));
    let (bias, dy) = (up(&[3 * hidden], 1.0), up(&[shape.first_tokens().len(), hidden], 1.0));
    let mask = dropout(rate);
    let (input, weight, bias) = (&input, &weight, &bias);
    let of = ClsAttention { input, weight, bias, hidden, shape, dropout: mask.as_ref() };
    let (out, tape) = ops.cls_attention(&of).unwrap();
    let [d_input, d_weight, d_bias] = ops.cls_attention_backward(&of, tape, &dy).unwrap();
    let case = format!("first attention {} {heads} x {size} {rate}", sentences.case);
    collect(ops, results, &case, &[("out", &out), ("dx", &d_input), ("dw", &d_weight), ("db", &d_bias)]);
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
    // Steps of the word table with gradients that have few rows, and other rows each time; the sum of two is dense.
    let mut value = tables[0].clone();
    let mut moments = Moments { m: ops.zeros(&[600, width]).unwrap(), v: ops.zeros(&[600, width]).unwrap() };
    for t in 0..4 {
        let ids: Vec<u32> = ids.iter().map(|id| id / 2 + t).collect();
        let [mut gradient, ..] = ops.embed_backward(&ids, &positions, &dy, tables).unwrap();
        if t == 2 {
            gradient = ops.add(gradient, &words).unwrap();
        }
        let (betas, corrections) = ([0.9, 0.999], [1.0; 2]);
        let step = AdamWStep { learning_rate: 0.01, decay: 0.1, betas, epsilon: 1e-6, clip: 0.7, corrections };
        ops.adamw(&mut value, &mut moments, &gradient, &step).unwrap();
        results.push((format!("{case}: sum of squares"), vec![ops.sum_squares(&gradient).unwrap() as f32]));
    }
    collect(ops, results, &format!("{case} adamw"), &[("value", &value), ("m", &moments.m), ("v", &moments.v)]);
}

fn update<O: Ops>(ops: &O, results: &mut Results, n: usize) {
    let mut draws = Draws::new(n as u32);
    let mut value = ops.upload(&draws.normal(n), &[n]).unwrap();
    let shared = value.clone();
    let mut moments = Moments { m: ops.zeros(&[n]).unwrap(), v: ops.zeros(&[n]).unwrap() };
    for t in 1..=3 {
        let gradient = ops.upload(&draws.normal(n), &[n]).unwrap();
        let betas = [0.9, 0.999];
        let corrections = if n == 15 { [1.0; 2] } else { betas.map(|b: f64| 1.0 / (1.0 - b.powi(t))) };
        let step = AdamWStep { learning_rate: 0.01, decay: 0.1, betas, epsilon: 1e-6, clip: 0.7, corrections };
        ops.adamw(&mut value, &mut moments, &gradient, &step).unwrap();
    }
    let outs = [("value", &value), ("m", &moments.m), ("v", &moments.v), ("a value used elsewhere", &shared)];
    collect(ops, results, &format!("adamw {n}"), &outs);
    results.push((format!("sum of squares {n}"), vec![ops.sum_squares(&value).unwrap() as f32]));
}

/// [`assert_close`] with the first tolerance for single operations, and with the second for
/// attention of first tokens, in which products follow each other.
pub fn assert_each_close(ours: Results, expected: &Results, tolerances: [f64; 2], engine: &str) {
    let single = |(name, _): &(String, Vec<f32>)| !name.starts_with("first attention");
    let (ours, expected): ([Results; 2], [Results; 2]) =
        (ours.into_iter().partition(single).into(), expected.iter().cloned().partition(single).into());
    for part in 0..2 {
        assert_close(&ours[part], &expected[part], tolerances[part], engine);
    }
}

/// Fails with every result that is further from `expected` than `tolerance`, relative to the largest
/// expected value of the result (at least 1).
pub fn assert_close(ours: &Results, expected: &Results, tolerance: f64, engine: &str) {
    assert_eq!(ours.len(), expected.len());
    let found = differences(ours, expected, tolerance);
    assert!(found.is_empty(), "{engine}: {} of {} results differ\n{}", found.len(), ours.len(), found.join("\n"));
}

/// A line for each result that is further from `expected` than `tolerance`, with its first element
/// that is.
pub fn differences(ours: &Results, expected: &Results, tolerance: f64) -> Vec<String> {
    let mut found = vec![];
    for ((name, ours), (same, expected)) in ours.iter().zip(expected) {
        assert_eq!((name, ours.len()), (same, expected.len()));
        let scale = expected.iter().fold(1.0f64, |scale, x| scale.max(f64::from(x.abs())));
        let far = |(ours, expected): &(&f32, &f32)| {
            let difference = (f64::from(**ours) - f64::from(**expected)).abs();
            difference.is_nan() || difference > tolerance * scale
        };
        let pairs = || ours.iter().zip(expected);
        if let Some(i) = pairs().position(|pair| far(&pair)) {
            let count = pairs().filter(far).count();
            let (ours, expected) = (ours[i], expected[i]);
            found.push(format!("{name}[{i}]: {ours}, expected {expected}; {count} of {} elements", pairs().count()));
        }
    }
    found
}

/// An encoder of two layers.
pub fn small_config(model_type: &str, hidden: usize, heads: usize, inner: usize) -> EncoderConfig {
    let json = format!(
        r#"{{"model_type": "{model_type}", "vocab_size": 50, "embedding_size": 20,
        "local_attention": 12, "global_attn_every_n_layers": 2, "hidden_size": {hidden}, "num_hidden_layers": 2, "num_attention_heads": {heads},
        "intermediate_size": {inner}, "max_position_embeddings": 512}}"#
    );
    serde_json::from_str(&json).unwrap()
}

/// Sentences of some lengths.
pub fn small_batch(draws: &mut Draws, config: &EncoderConfig, lengths: &[usize]) -> Batch {
    let (mut ids, mut cu_seqlens) = (vec![], vec![0]);
    for length in lengths {
        ids.extend(draws.below(*length, config.vocab_size));
        cu_seqlens.push(ids.len());
    }
    Batch::of_ids(&ids, &cu_seqlens, vec![])
}

/// The last layer, or its `[CLS]` vectors alone, those of every layer, and all gradients of a small
/// encoder, with dropout everywhere.
pub fn encoder<O: Ops>(ops: &O, config: &EncoderConfig, lengths: &[usize], words: bool) -> Results {
    let hidden = config.hidden_size;
    let mut draws = Draws::new(1);
    let batch = small_batch(&mut draws, config, lengths);
    let mut specs = encoder_specs(config);
    for spec in &mut specs {
        // Larger than BERT's, so that no part of the network is nearly linear.
        spec.init = candle_nn::Init::Uniform { lo: -0.6, up: 0.6 }.into();
    }
    let up = |values: &[f32], shape: &[usize]| ops.upload(values, shape).unwrap();
    let params: Vec<_> = specs.iter().map(|spec| up(&spec.initial(3), &spec.shape)).collect();
    let pass = ForwardContext {
        seed: 4,
        step: 2,
        micro: 1,
        hidden: 0.1,
        attention: 0.2,
        head: 0.1,
        ..ForwardContext::without_dropout()
    };
    let spec = OutputSpec { tokens: words, cls_of_layers: true, ..OutputSpec::NOTHING };
    let (encoded, tape) = forward(ops, config, &params, &batch, Some(&pass), spec).unwrap();
    let mut results = Results::new();
    let case = format!("{} {hidden} {lengths:?} {words}", config.model_type);
    collect(ops, &mut results, &case, &[("last", &encoded.last)]);
    for cls in &encoded.cls {
        collect(ops, &mut results, &case, &[("cls", cls)]);
    }
    let mut upstream = |rows: usize| up(&draws.normal(rows * hidden), &[rows, hidden]);
    let cls = (0..2).map(|_| upstream(lengths.len())).collect();
    let gradient = EncoderGradient { last: upstream(if words { batch.tokens() } else { batch.len() }), cls };
    let gradients = backward(ops, config, &params, &batch, &pass, tape.unwrap(), gradient).unwrap();
    for (gradient, spec) in gradients.iter().flatten().zip(&specs) {
        collect(ops, &mut results, &format!("{case} gradient"), &[(&spec.name, gradient)]);
    }
    results
}

/// [`encoder`] of each form of the architectures with sentences of a few lengths, once for the whole
/// last layer and once for `[CLS]` alone.
pub fn small_encoders<O: Ops>(ops: &O) -> Results {
    let configs =
        ["bert", "electra", "megatron-bert", "modernbert"].map(|model_type| small_config(model_type, 24, 3, 40));
    let both = |config: &_| [true, false].map(|words| encoder(ops, config, &[7, 1, 32, 18], words)).concat();
    configs.iter().flat_map(both).collect()
}
