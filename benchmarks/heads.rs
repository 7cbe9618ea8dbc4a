//! What a head adds to the time of a training step: the heads in turn, step by step, on one batch.
//!
//! `cargo bench --bench heads -- [minilm|base] [steps] [heads, with commas]`: whole steps of [`Trainer`] (forward, backward, clipping, AdamW)
//! with random weights on 32 sentences of 12 to 128 word pieces, dropout 0.1. Each round takes one step with every head,
//! so that a machine whose speed drifts treats them alike; the ratio to the first, `cls`, is the median over the rounds.

mod workload;

use std::time::Instant;

use biorel::config::TrainingSettings;
use biorel::model::{Network, Weights};
use biorel::ops::Cpu;
use biorel::train::Trainer;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let encoder = workload::config(arguments.first().map_or("minilm", String::as_str));
    let steps: usize = arguments.get(1).map_or(15, |steps| steps.parse().unwrap());
    let heads = arguments.get(2).map_or("cls,attention,lstm,lstm-all-cls", String::as_str);
    let ops = Cpu::new();
    let batch = [workload::batch(encoder.vocab_size)];
    let networks: Vec<Network> = heads
        .split(',')
        .map(|head| Network { encoder: encoder.clone(), head: head.parse().unwrap(), labels: 2, padding: None })
        .collect();
    let mut trainers: Vec<Trainer<'_, Cpu>> = networks
        .iter()
        .map(|network| {
            let settings = TrainingSettings { head: network.head, dropout: Some(0.1), ..Default::default() };
            Trainer::new(&ops, network, &Weights::initial(network.specs(), 1), settings, None).unwrap()
        })
        .collect();
    let mut seconds = vec![Vec::new(); networks.len()];
    // The first round fills the pool of buffers.
    for round in 0..=steps {
        for (trainer, seconds) in trainers.iter_mut().zip(&mut seconds) {
            let start = Instant::now();
            trainer.step(&batch, 1e-5).unwrap();
            if round > 0 {
                seconds.push(start.elapsed().as_secs_f64());
            }
        }
    }
    println!("{} tokens, {} threads, {}", batch[0].tokens(), rayon::current_num_threads(), ops.level().name());
    println!("{:<20} {:>10} {:>14}", "head", "ms a step", format!("over {}", networks[0].head));
    for (network, own) in networks.iter().zip(&seconds) {
        let ratios = own.iter().zip(&seconds[0]).map(|(own, cls)| own / cls - 1.0).collect();
        println!("{:<20} {:>10.1} {:>12.1} %", network.head.name(), 1e3 * median(own.clone()), 100.0 * median(ratios));
    }
}
