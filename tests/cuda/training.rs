//! Ten steps of training with every head: the CUDA engine follows the CPU's, dropout included, and
//! is reproducible.

use std::path::Path;
use std::sync::Arc;

use biorel::config::{Backend, HeadKind, Precision, TrainingSettings};
use biorel::model::{Network, Weights};
use biorel::ops::compute::{Compute, Job};
use biorel::ops::cuda::MAX_IN_FLIGHT;
use biorel::ops::cuda::device::Dtype;
use biorel::predict::{Prediction, predict};
use biorel::train::{CheckpointPlan, Event, OnEvent, Trained, TrainingRun};
use biorel::{Error, Result};

use crate::engine as cuda;
use crate::host::{Schedule, Shim};
use crate::toy_task::{self, features};

/// Heads of 32, which run on the kernels for tensor cores where products are in bf16.
fn network(head: HeadKind) -> Network {
    toy_task::network(head, 64, 96)
}

/// Ten steps of training on what `run` computes on.
fn train(
    head: HeadKind,
    state: Option<&Path>,
    on_event: OnEvent<'_>,
    run: impl FnOnce(TrainingRun<'_>) -> Result<Trained>,
) -> Result<Trained> {
    let settings =
        TrainingSettings { head, learning_rate: 1e-3, batch_size: 8, max_steps: Some(10), ..Default::default() };
    let network = network(head);
    let weights = Weights::initial(network.specs(), settings.seed);
    let features = features(96, 0);
    run(TrainingRun {
        network: &network,
        weights: &weights,
        instances: (&features).into(),
        settings: &settings,
        dev: None,
        checkpoint: state.map(|path| CheckpointPlan { path, every: 3 }),
        on_event,
    })
}

/// The same on the CUDA engine, from start to end.
fn train_here(shim: &Arc<Shim>, products: Dtype, schedule: Schedule, head: HeadKind) -> Trained {
    train(head, None, &mut |_| Ok(()), |job| job.run(&cuda(shim.clone(), products, schedule))).unwrap()
}

#[test]
fn training_follows_the_cpu() {
    let Some(shim) = Shim::get() else { return };
    for head in HeadKind::ALL {
        let expected = train(head, None, &mut |_| Ok(()), |job| {
            Compute::new(Backend::Cpu, Precision::F32, Some(2)).unwrap().execute(job)
        })
        .unwrap();
        for (products, loss, norm) in [(Dtype::F32, 1e-4, 1e-3), (Dtype::Bf16, 2e-2, 5e-2)] {
            // The heads compute in f32 but for the LSTM.
            if products == Dtype::Bf16 && !matches!(head, HeadKind::Cls | HeadKind::Lstm | HeadKind::LstmAllCls) {
                continue;
            }
            let ours = train_here(&shim, products, Schedule::Forward, head);
            assert_eq!(ours.history.len(), 10);
            for (a, b) in ours.history.iter().zip(&expected.history) {
                assert_eq!((a.step, a.instances, a.tokens), (b.step, b.instances, b.tokens));
                assert!((a.loss - b.loss).abs() < loss, "{head} step {}: {} {}", a.step, a.loss, b.loss);
                let ratio = a.gradient_norm / b.gradient_norm;
                assert!((ratio - 1.0).abs() < norm, "{head} step {}: {ratio}", a.step);
            }
        }
    }
}

#[test]
fn training_repeats_itself_to_the_bit() {
    let Some(shim) = Shim::get() else { return };
    for products in [Dtype::F32, Dtype::Bf16] {
        let one = train_here(&shim, products, Schedule::Forward, HeadKind::Lstm);
        let two = train_here(&shim, products, Schedule::Random, HeadKind::Lstm);
        assert_eq!(one.weights, two.weights, "{products:?}");
    }
}

/// The host waits once per step, for a result behind which more than one further step is enqueued,
/// so that a GPU is never idle.
#[test]
fn a_step_never_waits_for_the_device() {
    let Some(shim) = Shim::get() else { return };
    for head in HeadKind::ALL {
        let ops = cuda(shim.clone(), Dtype::Bf16, Schedule::Forward);
        let (watched, mut waits) = (ops.clone(), Vec::new());
        let on_event = &mut |event| {
            if let Event::Step(record) = event {
                waits = watched.device().waits();
                // The results of the last steps are read together.
                let expected = if record.step > 10 - MAX_IN_FLIGHT { 10 } else { record.step };
                assert_eq!(waits.len(), expected, "{head}: a wait that is not for a step");
            }
            Ok(())
        };
        let trained = train(head, None, on_event, |job| job.run(&ops)).unwrap();
        assert_eq!((trained.history.len(), waits.len()), (10, 10), "{head}");
        let a_step = (ops.device().launches() + ops.device().products()) / 10;
        for (step, behind) in waits[..10 - MAX_IN_FLIGHT].iter().enumerate() {
            assert!(*behind > a_step, "{head}, step {}: {behind} behind it, a step is {a_step}", step + 1);
        }
    }
}

/// The results of a batch are awaited when the next one is enqueued, and do not depend on the size of
/// the batches.
#[test]
fn a_prediction_waits_behind_the_next_batch() {
    let Some(shim) = Shim::get() else { return };
    let features = features(96, 0);
    let total: usize = features.iter().map(|one| one.ids.len()).sum();
    for (head, waits_of_a_batch) in [(HeadKind::Attention, 2), (HeadKind::Lstm, 1)] {
        let network = network(head);
        let weights = Weights::initial(network.specs(), 1);
        let run = |tokens| {
            let ops = cuda(shim.clone(), Dtype::F32, Schedule::Forward).with_inference_tokens(tokens);
            let params = weights.upload(&ops).unwrap();
            let mut batches = 0;
            let on_batch = &mut |_| {
                batches += 1;
                Ok(())
            };
            let found = predict(&ops, &network, &params, &features, on_batch).unwrap();
            let (waits, enqueued) = (ops.device().waits(), ops.device().launches() + ops.device().products());
            assert_eq!((found.len(), waits.len()), (96, batches * waits_of_a_batch), "{head}");
            for behind in &waits[..(batches - 1) * waits_of_a_batch] {
                assert!(2 * behind > enqueued / batches, "{head}: {behind} of {enqueued} in {batches} batches");
            }
            (batches, found)
        };
        let (one, whole) = run(total);
        let (several, parts) = run(total / 4);
        assert!(one == 1 && several >= 4, "{one} {several}");
        for (a, b) in whole.iter().zip(&parts) {
            assert_eq!(a.pieces.is_some(), head == HeadKind::Attention);
            let values = |of: &Prediction| [of.probabilities.clone(), of.pieces.clone().unwrap_or_default()].concat();
            let (a, b) = (values(a), values(b));
            assert!(a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5), "{head}: {a:?} {b:?}");
        }
    }
}

/// A run that is stopped with steps in flight and then resumed has the weights and the history of a
/// run that was not stopped.
#[test]
fn a_stopped_run_resumes_to_the_same_bits() {
    let Some(shim) = Shim::get() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let run = |job: TrainingRun<'_>| job.run(&cuda(shim.clone(), Dtype::Bf16, Schedule::Forward));
    let uninterrupted = train(HeadKind::Attention, None, &mut |_| Ok(()), run).unwrap();
    let stop = &mut |event| match event {
        Event::Step(record) if record.step == 4 => Err(Error::Interrupted),
        _ => Ok(()),
    };
    let stopped = train(HeadKind::Attention, Some(&path), stop, run).unwrap();
    // Step 4 is known when two more are enqueued, and enqueued steps are executed.
    assert_eq!(
        (stopped.interrupted, stopped.history.len(), stopped.step),
        (true, 4 + MAX_IN_FLIGHT, 4 + MAX_IN_FLIGHT)
    );
    let mut steps = Vec::new();
    let on_event = &mut |event| {
        if let Event::Step(record) = event {
            steps.push(record.step);
        }
        Ok(())
    };
    let resumed = train(HeadKind::Attention, Some(&path), on_event, run).unwrap();
    assert_eq!(steps, [7, 8, 9, 10]);
    assert_eq!(resumed.weights, uninterrupted.weights);
    let sums = |run: &Trained| run.history.iter().map(|step| (step.loss, step.gradient_norm)).collect::<Vec<_>>();
    assert_eq!(sums(&resumed), sums(&uninterrupted));
}

/// A diverging step is detected and named, although later steps are already enqueued.
#[test]
fn divergence_names_its_step() {
    let Some(shim) = Shim::get() else { return };
    let run = |job: TrainingRun<'_>| {
        let mut weights = job.weights.clone();
        let last = weights.values.len() - 2;
        weights.values[last].fill(f32::MAX);
        let TrainingRun { network, instances, settings, dev, checkpoint, on_event, .. } = job;
        let job = TrainingRun { weights: &weights, network, instances, settings, dev, checkpoint, on_event };
        job.run(&cuda(shim.clone(), Dtype::F32, Schedule::Forward))
    };
    match train(HeadKind::Cls, None, &mut |_| Ok(()), run) {
        Err(Error::Training { step: 1, message }) => assert!(message.contains("learning_rate"), "{message}"),
        other => panic!("{other:?}"),
    }
}

/// Concurrent trainings, each with its own device, have the results of consecutive ones.
#[test]
fn concurrent_trainings_give_the_bits_of_consecutive_ones() {
    let Some(shim) = Shim::get() else { return };
    let jobs = [(Dtype::Bf16, HeadKind::Attention), (Dtype::F32, HeadKind::Lstm), (Dtype::Bf16, HeadKind::LstmAllCls)];
    let run = |(products, head)| train_here(&shim, products, Schedule::Forward, head).weights;
    let alone = jobs.map(run);
    for count in [2, 3] {
        let together: Vec<Weights> = std::thread::scope(|scope| {
            let threads: Vec<_> = jobs[..count].iter().map(|job| scope.spawn(|| run(*job))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(together == alone[..count], "{count} concurrently");
    }
}
