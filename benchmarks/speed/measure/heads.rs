//! The cost of each head per training step. Whole steps (forward, backward, clipping, AdamW) with random weights,
//! 32 sentences of 12 to 128 word pieces, dropout 0.1. Each round takes one step with every head, so that
//! drifting clock speeds affect all alike; the ratio to the first head is the median over the rounds.

use biorel::config::TrainingSettings;
use biorel::model::{Network, Source, Weights};
use biorel::ops::Cpu;
use biorel::train::Trainer;
use serde_json::{Value, json};

use crate::{Options, median, seconds, workload};

pub fn measure(options: &Options) -> Value {
    let encoder = workload::config(options.get("encoder", "minilm"));
    let rounds = options.number("steps", "15");
    let ops = options.engine();
    let batch = [workload::batch(encoder.vocab_size)];
    let networks: Vec<Network> = options
        .get("heads", "cls,lstm")
        .split(',')
        .map(|head| Network {
            encoder: encoder.clone(),
            head: head.parse().unwrap(),
            labels: 2,
            padding: None,
            marker_types: 0,
            source: Source::Engine,
        })
        .collect();
    let mut trainers: Vec<Trainer<'_, Cpu>> = networks
        .iter()
        .map(|network| {
            let settings = TrainingSettings { head: network.head, dropout: Some(0.1), ..Default::default() };
            Trainer::new(&ops, network, &Weights::initial(network.specs(), 1), settings, None).unwrap()
        })
        .collect();
    let mut times = vec![Vec::new(); networks.len()];
    // The first round fills the pool of buffers.
    for round in 0..=rounds {
        for (trainer, times) in trainers.iter_mut().zip(&mut times) {
            let time = seconds(|| trainer.step(&batch, 1e-5).unwrap().get().unwrap());
            if round > 0 {
                times.push(time);
            }
        }
    }
    let rows: Vec<Value> = networks
        .iter()
        .zip(&times)
        .map(|(network, own)| {
            let extra = own.iter().zip(&times[0]).map(|(own, first)| own / first - 1.0).collect();
            json!({"head": network.head.name(), "seconds": median(own.clone()), "extra": median(extra)})
        })
        .collect();
    json!({"tokens": batch[0].tokens(), "heads": rows})
}
