//! The time of each operation within a training step, and the time of its matrix products.
//!
//! `cargo bench --bench step -- [minilm|base] [steps] [f32|bf16|portable|avx2|avx512]`: random weights, 32 sentences of 12 to
//! 128 word pieces, dropout 0.1. A wrapper around the engine times every call; the fastest time of each call over
//! all steps counts, because another process can only slow a call down.

mod workload;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::time::Instant;

use biorel::Result;
use biorel::model::encoder::{EncoderGradient, ForwardContext, OutputSpec, backward, forward};
use biorel::model::params::{Weights, encoder_specs};
use biorel::ops::{
    AdamWStep, AttentionShape, Classified, Classifier, ClsAttention, Loss, Moments, Norm, NormGradients, Normed, Ops,
    Rotation, RowGroups, SavedAttentionOf, Targets, WordScoreGradients, WordScores,
};
use biorel::rng::Dropout;
use candle_core::Tensor;

/// An engine that notes the name and the duration of every call.
struct Timed<O> {
    engine: O,
    calls: Mutex<Vec<(&'static str, f64)>>,
}

impl<O: Ops> Timed<O> {
    fn time<T>(&self, name: &'static str, call: impl FnOnce(&O) -> T) -> T {
        let start = Instant::now();
        let out = call(&self.engine);
        self.calls.lock().unwrap().push((name, start.elapsed().as_secs_f64()));
        out
    }
}

impl<O: Ops> Ops for Timed<O> {
    type Buffer = O::Buffer;
    type Probabilities = O::Probabilities;
    type Pooled = O::Pooled;

    fn name(&self) -> &'static str {
        self.engine.name()
    }
    fn upload(&self, values: &[f32], shape: &[usize]) -> Result<O::Buffer> {
        self.engine.upload(values, shape)
    }
    fn download(&self, buffer: &O::Buffer) -> Result<Vec<f32>> {
        self.engine.download(buffer)
    }
    fn zeros(&self, shape: &[usize]) -> Result<O::Buffer> {
        self.engine.zeros(shape)
    }
    fn to_candle(&self, buffer: &O::Buffer) -> Result<Tensor> {
        self.time("to_candle", |ops| ops.to_candle(buffer))
    }
    fn upload_candle(&self, tensor: &Tensor) -> Result<O::Buffer> {
        self.time("upload_candle", |ops| ops.upload_candle(tensor))
    }
    fn embed(&self, ids: &[u32], positions: &[u32], tables: [&O::Buffer; 3]) -> Result<O::Buffer> {
        self.time("embed", |ops| ops.embed(ids, positions, tables))
    }
    fn embed_backward(
        &self,
        ids: &[u32],
        positions: &[u32],
        gradient: &O::Buffer,
        tables: [&O::Buffer; 3],
    ) -> Result<[O::Buffer; 3]> {
        self.time("embed_backward", |ops| ops.embed_backward(ids, positions, gradient, tables))
    }
    fn linear(&self, x: &O::Buffer, weight: &O::Buffer, bias: Option<&O::Buffer>) -> Result<O::Buffer> {
        self.time("linear", |ops| ops.linear(x, weight, bias))
    }
    fn linear_backward(
        &self,
        x: &O::Buffer,
        weight: &O::Buffer,
        dy: &O::Buffer,
        onto: Option<O::Buffer>,
    ) -> Result<(O::Buffer, O::Buffer)> {
        self.time("linear_backward", |ops| ops.linear_backward(x, weight, dy, onto))
    }
    fn column_sum(&self, dy: &O::Buffer) -> Result<O::Buffer> {
        self.time("column_sum", |ops| ops.column_sum(dy))
    }
    fn bias_gelu(&self, x: &O::Buffer, bias: &O::Buffer) -> Result<O::Buffer> {
        self.time("bias_gelu", |ops| ops.bias_gelu(x, bias))
    }
    fn bias_gelu_backward(&self, x: &O::Buffer, bias: &O::Buffer, dy: O::Buffer) -> Result<(O::Buffer, O::Buffer)> {
        self.time("bias_gelu_backward", |ops| ops.bias_gelu_backward(x, bias, dy))
    }
    fn geglu(&self, x: &O::Buffer) -> Result<O::Buffer> {
        self.time("geglu", |ops| ops.geglu(x))
    }
    fn geglu_backward(&self, x: &O::Buffer, dy: &O::Buffer) -> Result<O::Buffer> {
        self.time("geglu_backward", |ops| ops.geglu_backward(x, dy))
    }
    fn rotary(&self, qkv: O::Buffer, rotation: &Rotation<'_>) -> Result<O::Buffer> {
        self.time("rotary", |ops| ops.rotary(qkv, rotation))
    }
    fn add_norm(
        &self,
        branch: O::Buffer,
        bias: Option<&O::Buffer>,
        residual: Option<&O::Buffer>,
        norm: Norm<'_, O::Buffer>,
        dropout: Option<&Dropout>,
    ) -> Result<Normed<O::Buffer>> {
        self.time("add_norm", |ops| ops.add_norm(branch, bias, residual, norm, dropout))
    }
    fn add_norm_backward(
        &self,
        dy: O::Buffer,
        normed: &Normed<O::Buffer>,
        gamma: &O::Buffer,
        dropout: Option<&Dropout>,
    ) -> Result<NormGradients<O::Buffer>> {
        self.time("add_norm_backward", |ops| ops.add_norm_backward(dy, normed, gamma, dropout))
    }
    fn dropout(&self, x: O::Buffer, dropout: &Dropout) -> Result<O::Buffer> {
        self.time("dropout", |ops| ops.dropout(x, dropout))
    }
    fn attention(
        &self,
        qkv: &O::Buffer,
        shape: AttentionShape<'_>,
        dropout: Option<&Dropout>,
    ) -> Result<(O::Buffer, O::Probabilities)> {
        self.time("attention", |ops| ops.attention(qkv, shape, dropout))
    }
    fn attention_backward(
        &self,
        qkv: &O::Buffer,
        probabilities: O::Probabilities,
        dy: &O::Buffer,
        shape: AttentionShape<'_>,
        dropout: Option<&Dropout>,
    ) -> Result<O::Buffer> {
        self.time("attention_backward", |ops| ops.attention_backward(qkv, probabilities, dy, shape, dropout))
    }
    fn cls_attention(&self, of: &ClsAttention<'_, O::Buffer>) -> Result<(O::Buffer, SavedAttentionOf<O>)> {
        self.time("cls_attention", |ops| ops.cls_attention(of))
    }
    fn cls_attention_backward(
        &self,
        of: &ClsAttention<'_, O::Buffer>,
        tape: SavedAttentionOf<O>,
        dy: &O::Buffer,
    ) -> Result<[O::Buffer; 3]> {
        self.time("cls_attention_backward", |ops| ops.cls_attention_backward(of, tape, dy))
    }
    fn lstm(&self, inputs: &Tensor, recurrent: &Tensor, sequences: &[Range<usize>]) -> Result<Tensor> {
        self.time("lstm", |ops| ops.lstm(inputs, recurrent, sequences))
    }
    fn attention_pooling(&self, last: &Tensor, key: &Tensor, words: &[Range<usize>]) -> Result<(Tensor, Tensor)> {
        self.time("attention_pooling", |ops| ops.attention_pooling(last, key, words))
    }
    fn mean_rows(&self, x: &O::Buffer, groups: &RowGroups) -> Result<O::Buffer> {
        self.time("mean_rows", |ops| ops.mean_rows(x, groups))
    }
    fn mean_rows_backward(
        &self,
        dy: &O::Buffer,
        groups: &RowGroups,
        rows: usize,
        onto: Option<O::Buffer>,
    ) -> Result<O::Buffer> {
        self.time("mean_rows_backward", |ops| ops.mean_rows_backward(dy, groups, rows, onto))
    }
    fn pool_words(
        &self,
        last: &O::Buffer,
        scores: &WordScores<'_, O::Buffer>,
        words: &[Range<usize>],
    ) -> Result<(O::Buffer, O::Pooled)> {
        self.time("pool_words", |ops| ops.pool_words(last, scores, words))
    }
    fn pool_words_backward(
        &self,
        pooled: O::Pooled,
        dy: &O::Buffer,
        onto: Option<O::Buffer>,
    ) -> Result<(O::Buffer, WordScoreGradients<O::Buffer>)> {
        self.time("pool_words_backward", |ops| ops.pool_words_backward(pooled, dy, onto))
    }
    fn classify(&self, of: &Classifier<'_, O::Buffer>, targets: &Targets<'_>) -> Result<Classified<O::Buffer>> {
        self.time("classify", |ops| ops.classify(of, targets))
    }
    fn rows(&self, x: &O::Buffer, rows: &[usize]) -> Result<O::Buffer> {
        self.time("rows", |ops| ops.rows(x, rows))
    }
    fn add_rows(&self, x: O::Buffer, rows: &[usize], values: &O::Buffer) -> Result<O::Buffer> {
        self.time("add_rows", |ops| ops.add_rows(x, rows, values))
    }
    fn add(&self, a: O::Buffer, b: &O::Buffer) -> Result<O::Buffer> {
        self.time("add", |ops| ops.add(a, b))
    }
    fn cross_entropy(&self, logits: &O::Buffer, labels: &[u32], loss: &Loss<'_>) -> Result<(O::Buffer, O::Buffer)> {
        self.time("cross_entropy", |ops| ops.cross_entropy(logits, labels, loss))
    }
    fn sum_squares(&self, x: &O::Buffer) -> Result<f64> {
        self.time("sum_squares", |ops| ops.sum_squares(x))
    }
    fn adamw(
        &self,
        value: &mut O::Buffer,
        moments: &mut Moments<O::Buffer>,
        gradient: &O::Buffer,
        step: &AdamWStep,
    ) -> Result<()> {
        self.time("adamw", |ops| ops.adamw(value, moments, gradient, step))
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let config = workload::config(arguments.first().map_or("minilm", String::as_str));
    let steps: usize = arguments.get(1).map_or(10, |steps| steps.parse().unwrap());
    let engine = workload::engine(arguments.get(2).map_or("f32", String::as_str));
    let ops = Timed { engine, calls: Mutex::default() };
    let weights = Weights::initial(encoder_specs(&config), 1);
    let upload = |values: &Vec<f32>, shape: &[usize]| ops.upload(values, shape).unwrap();
    let mut params: Vec<_> =
        weights.values.iter().zip(&weights.specs).map(|(v, spec)| upload(v, &spec.shape)).collect();
    let zeros = |shape: &[usize]| ops.zeros(shape).unwrap();
    let mut moments: Vec<_> =
        weights.specs.iter().map(|spec| Moments { m: zeros(&spec.shape), v: zeros(&spec.shape) }).collect();
    let batch = workload::batch(config.vocab_size);
    let upstream = vec![1e-3; batch.tokens() * config.hidden_size];

    let mut fastest: Vec<(&'static str, f64)> = Vec::new();
    let mut totals = Vec::new();
    for step in 0..steps {
        let start = Instant::now();
        let pass = ForwardContext {
            seed: 1,
            step: step as u32,
            hidden: 0.1,
            attention: 0.1,
            head: 0.1,
            ..ForwardContext::without_dropout()
        };
        let (encoded, tape) = forward(&ops, &config, &params, &batch, Some(&pass), OutputSpec::TOKENS).unwrap();
        let last = ops.upload_candle(&ops.to_candle(&encoded.last).unwrap()).unwrap();
        drop((last, encoded));
        let last = upload(&upstream, &[batch.tokens(), config.hidden_size]);
        let gradient = EncoderGradient { last, cls: vec![] };
        let gradients = backward(&ops, &config, &params, &batch, &pass, tape.unwrap(), gradient).unwrap();
        let gradients: Vec<_> = gradients.into_iter().flatten().collect();
        let norm = gradients.iter().map(|g| ops.sum_squares(g).unwrap()).sum::<f64>().sqrt();
        for ((value, moments), gradient) in params.iter_mut().zip(&mut moments).zip(&gradients) {
            let clip = (1.0 / norm).min(1.0);
            let update = AdamWStep {
                learning_rate: 2e-5,
                decay: 0.01,
                betas: [0.9, 0.999],
                epsilon: 1e-6,
                clip,
                corrections: [1.0; 2],
            };
            ops.adamw(value, moments, gradient, &update).unwrap();
        }
        totals.push(start.elapsed().as_secs_f64());
        let calls = std::mem::take(&mut *ops.calls.lock().unwrap());
        if fastest.is_empty() {
            fastest = calls;
        } else {
            assert_eq!(fastest.len(), calls.len());
            fastest.iter_mut().zip(calls).for_each(|(best, call)| best.1 = best.1.min(call.1));
        }
    }

    let mut by_name: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
    for (name, seconds) in &fastest {
        let entry = by_name.entry(name).or_default();
        *entry = (entry.0 + 1, entry.1 + seconds);
    }
    let sum: f64 = fastest.iter().map(|(_, seconds)| seconds).sum();
    let products: f64 = ["linear", "linear_backward"].iter().map(|name| by_name[name].1).sum();
    let (h, f) = (config.hidden_size, config.intermediate_size);
    let operations = (6 * batch.tokens() * config.num_hidden_layers * (4 * h * h + 2 * h * f)) as f64;
    println!("{} tokens, {} threads, {:?}", batch.tokens(), rayon::current_num_threads(), ops.engine.level());
    let mut rows: Vec<_> = by_name.into_iter().collect();
    rows.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
    for (name, (calls, seconds)) in rows {
        println!("{name:>20} {calls:>4} calls {:>9.2} ms {:>6.1} %", seconds * 1e3, 100.0 * seconds / sum);
    }
    println!("products {:.1} ms, {:.0} GFLOP/s", products * 1e3, operations / products / 1e9);
    println!("operations {:.1} ms = {:.3} x products", sum * 1e3, sum / products);
    totals.sort_by(f64::total_cmp);
    println!("whole step: fastest {:.1} ms, median {:.1} ms", totals[0] * 1e3, totals[totals.len() / 2] * 1e3);
    let (live, idle) = ops.engine.memory();
    println!("buffers in use after the step {} MiB, free {} MiB", live >> 20, idle >> 20);
}
