//! Every operation of a training step alone, with the statistics of criterion: `cargo bench --bench ops [-- FILTER]`.
//!
//! MiniLM's sizes, 32 sentences of 12 to 128 word pieces, dropout 0.1. Throughput is in operations per second for
//! matrix products and attention (of the real sentences: no padding), otherwise in bytes of the operands, read once and
//! written once. `BIOREL_BENCH_ENGINE` chooses the engine by its name in `workload.rs`. `benchmarks/speed/bench.py ops`
//! tabulates the results, relative to the fastest matrix product.

mod workload;

use std::time::Duration;

use biorel::ops::{AdamWStep, AttentionShape, ClsAttention, Moments, Norm, Ops};
use biorel::rng::{Dropout, Purpose, Stream};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Draws a buffer of a shape.
type Up<'a> = &'a dyn Fn(&[usize]) -> biorel::ops::cpu::Buffer;

fn operations(criterion: &mut Criterion) {
    let name = std::env::var("BIOREL_BENCH_ENGINE").unwrap_or_else(|_| "f32".into());
    let ops = workload::engine(&name);
    let config = workload::config("minilm");
    let batch = workload::batch(config.vocab_size);
    let (tokens, hidden, wide) = (batch.tokens(), config.hidden_size, config.intermediate_size);
    let up: Up<'_> = &|shape| {
        let mut stream = Stream::new(3, Purpose::Init, 0);
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| stream.normal() as f32).collect();
        ops.upload(&values, shape).unwrap()
    };
    let mut group = criterion.benchmark_group(&name);
    let matrix = tokens * hidden;

    // The peak: a product too large for anything but its arithmetic to count.
    for (name, rows, inputs, outputs) in [
        ("linear 4096x768x3072", 4096, 768, 3072),
        ("linear qkv", tokens, hidden, 3 * hidden),
        ("linear out", tokens, hidden, hidden),
        ("linear up", tokens, hidden, wide),
        ("linear down", tokens, wide, hidden),
    ] {
        let (x, weight, dy) = (up(&[rows, inputs]), up(&[outputs, inputs]), up(&[rows, outputs]));
        group.throughput(Throughput::Elements((2 * rows * inputs * outputs) as u64));
        group.bench_function(name, |b| b.iter(|| ops.linear(&x, &weight, None).unwrap()));
        group.throughput(Throughput::Elements((4 * rows * inputs * outputs) as u64));
        let name = name.replace("linear", "linear_backward");
        group.bench_function(name, |b| b.iter(|| ops.linear_backward(&x, &weight, &dy, None).unwrap()));
    }

    let mask = Dropout { rate: 0.1, seed: 1, site: 0, step: 0, micro: 0 };
    let heads = config.num_attention_heads;
    let shape = AttentionShape::plain(&batch.cu_seqlens, heads);
    let squares: usize = batch.cu_seqlens.windows(2).map(|bounds| (bounds[1] - bounds[0]).pow(2)).sum();
    let (qkv, dy) = (up(&[tokens, 3 * hidden]), up(&[tokens, hidden]));
    group.throughput(Throughput::Elements((4 * squares * hidden) as u64));
    group.bench_function("attention", |b| b.iter(|| ops.attention(&qkv, shape, Some(&mask)).unwrap()));
    group.throughput(Throughput::Elements((12 * squares * hidden) as u64));
    // The backward consumes what the forward kept: both are timed, and bench.py takes the difference.
    group.bench_function("attention, and its backward", |b| {
        b.iter(|| {
            let (_, kept) = ops.attention(&qkv, shape, Some(&mask)).unwrap();
            ops.attention_backward(&qkv, kept, &dy, shape, Some(&mask)).unwrap()
        });
    });

    // The same sentences with five groups of four tokens each, and as many tokens without groups.
    let grouped = workload::sentences(config.vocab_size, batch.cu_seqlens.windows(2).map(|w| w[1] - w[0] + 20));
    let valid_lengths: Vec<usize> = batch.cu_seqlens.windows(2).map(|bounds| bounds[1] - bounds[0]).collect();
    let (qkv, dy) = (up(&[grouped.tokens(), 3 * hidden]), up(&[grouped.tokens(), hidden]));
    let plain = AttentionShape { cu_seqlens: &grouped.cu_seqlens, ..shape };
    let groups = AttentionShape { valid_lengths: Some(&valid_lengths), group: 4, ..plain };
    for (name, shape) in [("attention_in_groups", groups), ("attention_ungrouped", plain)] {
        let scores = grouped.cu_seqlens.windows(2).zip(&valid_lengths).map(|(bounds, valid)| {
            let length = bounds[1] - bounds[0];
            if shape.group > 0 { length * valid + (length - valid) * shape.group } else { length * length }
        });
        let scores: usize = scores.sum();
        group.throughput(Throughput::Elements((4 * scores * hidden) as u64));
        group.bench_function(name, |b| b.iter(|| ops.attention(&qkv, shape, Some(&mask)).unwrap()));
        group.throughput(Throughput::Elements((12 * scores * hidden) as u64));
        group.bench_function(format!("{name}, and its backward"), |b| {
            b.iter(|| {
                let (_, kept) = ops.attention(&qkv, shape, Some(&mask)).unwrap();
                ops.attention_backward(&qkv, kept, &dy, shape, Some(&mask)).unwrap()
            });
        });
    }

    let (input, weight, bias) = (&up(&[tokens, hidden]), &up(&[3 * hidden, hidden]), &up(&[3 * hidden]));
    let of = ClsAttention { input, weight, bias, hidden, shape, dropout: Some(&mask) };
    let d_first = up(&[batch.len(), hidden]);
    let operands = 4 * (matrix + 3 * hidden * hidden);
    group.throughput(Throughput::Bytes(operands as u64));
    group.bench_function("cls_attention", |b| b.iter(|| ops.cls_attention(&of).unwrap()));
    group.throughput(Throughput::Bytes(3 * operands as u64));
    group.bench_function("cls_attention, and its backward", |b| {
        b.iter(|| {
            let (_, tape) = ops.cls_attention(&of).unwrap();
            ops.cls_attention_backward(&of, tape, &d_first).unwrap()
        });
    });

    let (x, bias) = (up(&[tokens, wide]), up(&[wide]));
    group.throughput(Throughput::Bytes((2 * 4 * tokens * wide) as u64));
    group.bench_function("bias_gelu", |b| b.iter(|| ops.bias_gelu(&x, &bias).unwrap()));
    group.throughput(Throughput::Bytes((3 * 4 * tokens * wide) as u64));
    let gradient = up(&[tokens, wide]);
    group.bench_function("bias_gelu_backward", |b| {
        b.iter(|| ops.bias_gelu_backward(&x, &bias, gradient.clone()).unwrap());
    });

    let (branch, residual, vector) = (up(&[tokens, hidden]), up(&[tokens, hidden]), up(&[hidden]));
    let add_norm = || {
        let norm = Norm { gamma: &vector, beta: &vector, eps: 1e-12 };
        ops.add_norm(branch.clone(), Some(&vector), Some(&residual), norm, Some(&mask)).unwrap()
    };
    group.throughput(Throughput::Bytes((4 * 4 * matrix) as u64));
    group.bench_function("add_norm", |b| b.iter(&add_norm));
    let normed = add_norm();
    group.bench_function("add_norm_backward", |b| {
        b.iter(|| ops.add_norm_backward(dy.clone(), &normed, &vector, Some(&mask)).unwrap());
    });
    group.throughput(Throughput::Bytes((2 * 4 * matrix) as u64));
    group.bench_function("dropout", |b| b.iter(|| ops.dropout(branch.clone(), &mask).unwrap()));
    group.throughput(Throughput::Bytes((4 * 3 * matrix) as u64));
    group.bench_function("column_sum", |b| b.iter(|| ops.column_sum(&qkv).unwrap()));

    let tables = [up(&[config.vocab_size, hidden]), up(&[512, hidden]), up(&[2, hidden])];
    let tables = [&tables[0], &tables[1], &tables[2]];
    group.throughput(Throughput::Bytes((3 * 4 * matrix) as u64));
    group.bench_function("embed", |b| b.iter(|| ops.embed(&batch.ids, &batch.positions, tables).unwrap()));
    group.throughput(Throughput::Bytes((4 * (matrix + config.vocab_size * hidden)) as u64));
    group.bench_function("embed_backward", |b| {
        b.iter(|| ops.embed_backward(&batch.ids, &batch.positions, &dy, tables).unwrap());
    });

    let size = config.vocab_size * hidden;
    let (mut value, gradient) = (up(&[size]), up(&[size]));
    let mut moments = Moments { m: ops.zeros(&[size]).unwrap(), v: ops.zeros(&[size]).unwrap() };
    let step = AdamWStep {
        learning_rate: 1e-6,
        decay: 0.01,
        betas: [0.9, 0.999],
        epsilon: 1e-6,
        clip: 1.0,
        corrections: [1.0; 2],
    };
    group.throughput(Throughput::Bytes((7 * 4 * size) as u64));
    group.bench_function("adamw", |b| b.iter(|| ops.adamw(&mut value, &mut moments, &gradient, &step).unwrap()));
    group.throughput(Throughput::Bytes((4 * size) as u64));
    group.bench_function("sum_squares", |b| b.iter(|| ops.sum_squares(&gradient).unwrap()));
    group.finish();
}

fn settings() -> Criterion {
    let times = Criterion::default().warm_up_time(Duration::from_millis(500));
    times.measurement_time(Duration::from_secs(2)).sample_size(20).without_plots()
}

criterion_group! {
    name = all;
    config = settings();
    targets = operations
}
criterion_main!(all);
