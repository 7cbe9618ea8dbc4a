//! Time of a training step by length, batch and threads, on batches of equally long sentences, which need no padding in the
//! baseline either.

use biorel::config::TrainingSettings;
use biorel::model::{Network, Source, Weights};
use biorel::train::Trainer;
use serde_json::{Value, json};

use crate::{Options, median, seconds, workload};

pub fn measure(options: &Options) -> Value {
    let encoder = workload::config(options.get("encoder", "minilm"));
    let repeats = options.number("repeats", "3");
    let ops = options.engine();
    let gradient_checkpointing = options.get("recompute", "0") == "1";
    let settings = TrainingSettings { dropout: Some(0.1), gradient_checkpointing, ..Default::default() };
    let network =
        Network { encoder, head: settings.head, labels: 2, padding: None, marker_types: 0, source: Source::Engine };
    let mut trainer = Trainer::new(&ops, &network, &Weights::initial(network.specs(), 1), settings, None).unwrap();
    let mut rows = Vec::new();
    for point in options.get("points", "64:32:1").split(',') {
        let numbers: Vec<usize> = point.split(':').map(|number| number.parse().unwrap()).collect();
        let [length, sentences, threads] = numbers[..] else { panic!("a point is LENGTH:BATCH:THREADS, not {point}") };
        let batch = [workload::sentences(network.encoder.vocab_size, std::iter::repeat_n(length, sentences))];
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let time = pool.install(|| {
            trainer.step(&batch, 1e-6).unwrap().get().unwrap();
            median((0..repeats).map(|_| seconds(|| trainer.step(&batch, 1e-6).unwrap().get().unwrap())).collect())
        });
        rows.push(json!({"length": length, "batch": sentences, "threads": threads, "seconds": time}));
        ops.trim();
    }
    json!({"points": rows})
}
