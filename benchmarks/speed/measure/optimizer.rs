//! One step of AdamW on the 109 million parameters of BERT-base, alone and with the clipping before it.

use biorel::model::params::{Weights, encoder_specs};
use biorel::ops::{AdamWStep, Moments, Ops};
use serde_json::{Value, json};

use crate::{Options, median, seconds, workload};

pub fn measure(options: &Options) -> Value {
    let ops = options.engine();
    let weights = Weights::initial(encoder_specs(&workload::config("base")), 1);
    let parameters: usize = weights.values.iter().map(Vec::len).sum();
    let mut params: Vec<_> =
        weights.values.iter().zip(&weights.specs).map(|(v, spec)| ops.upload(v, &spec.shape).unwrap()).collect();
    let gradients: Vec<_> =
        weights.values.iter().zip(&weights.specs).map(|(v, spec)| ops.upload(v, &spec.shape).unwrap()).collect();
    let zeros = |shape: &[usize]| ops.zeros(shape).unwrap();
    let mut moments: Vec<_> =
        weights.specs.iter().map(|spec| Moments { m: zeros(&spec.shape), v: zeros(&spec.shape) }).collect();
    drop(weights);
    let (mut clipping, mut updates) = (Vec::new(), Vec::new());
    for _ in 0..options.number("steps", "12") {
        let mut norm = 0.0;
        clipping.push(seconds(|| norm = gradients.iter().map(|g| ops.sum_squares(g).unwrap()).sum::<f64>().sqrt()));
        let step = AdamWStep {
            learning_rate: 1e-6,
            decay: 0.01,
            betas: [0.9, 0.999],
            epsilon: 1e-6,
            clip: (1.0 / norm).min(1.0),
            corrections: [1.0; 2],
        };
        updates.push(seconds(|| {
            for ((value, moments), gradient) in params.iter_mut().zip(&mut moments).zip(&gradients) {
                ops.adamw(value, moments, gradient, &step).unwrap();
            }
        }));
    }
    let both = clipping.iter().zip(&updates).map(|(clipping, update)| clipping + update).collect();
    json!({"parameters": parameters, "update": median(updates), "clipping_and_update": median(both)})
}
