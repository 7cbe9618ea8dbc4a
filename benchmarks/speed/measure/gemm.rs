//! Matrix products of the shapes of MiniLM's and BERT-base's layers, as in a step: `y = x Wᵀ` forward, `dx = dy W` and
//! `dW = dyᵀ x` backward, including packing and rounding to bf16.

use biorel::ops::Ops;
use biorel::rng::{Purpose, Stream};
use serde_json::{Value, json};

use crate::{Options, median, seconds};

/// Tokens of a batch, and (in, out) of the four products of a layer.
const TOKENS: usize = 2048;
const SHAPES: [(&str, [(usize, usize); 4]); 2] = [
    ("minilm", [(384, 1152), (384, 384), (384, 1536), (1536, 384)]),
    ("base", [(768, 2304), (768, 768), (768, 3072), (3072, 768)]),
];

pub fn measure(options: &Options) -> Value {
    let ops = options.engine();
    let mut stream = Stream::new(1, Purpose::Init, 0);
    let mut rows = Vec::new();
    for (encoder, shapes) in SHAPES {
        for (inputs, outputs) in shapes {
            let mut up = |shape: [usize; 2]| {
                let values: Vec<f32> = (0..shape[0] * shape[1]).map(|_| stream.normal() as f32).collect();
                ops.upload(&values, &shape).unwrap()
            };
            let (x, weight, dy) = (up([TOKENS, inputs]), up([outputs, inputs]), up([TOKENS, outputs]));
            let operations = (2 * TOKENS * inputs * outputs) as f64;
            // A third of a second for each; the first call fills the pool of buffers and packs the weight.
            let rate = |factor: f64, call: &dyn Fn()| {
                call();
                let first = seconds(call);
                let calls = (0.33 / first).ceil() as usize;
                factor * operations / median((0..calls.max(3)).map(|_| seconds(call)).collect()) / 1e9
            };
            let forward = rate(1.0, &|| drop(ops.linear(&x, &weight, None).unwrap()));
            let backward = rate(2.0, &|| drop(ops.linear_backward(&x, &weight, &dy, None).unwrap()));
            let shape = format!("{TOKENS} x {inputs} x {outputs}");
            rows.push(json!({"encoder": encoder, "shape": shape, "forward": forward, "backward": backward}));
        }
    }
    json!({"unit": "GFLOP/s", "products": rows})
}
