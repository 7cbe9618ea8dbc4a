//! Evaluation on held-out data while training: the best weights, patience, and resuming.

use super::*;

type Stop = Box<dyn FnMut(&Event) -> bool + Send>;

/// A run on 64 instances (8 steps an epoch) with held-out data, stopped where `stop` returns true.
fn train_with_dev(
    settings: &TrainingSettings,
    state: Option<&std::path::Path>,
    stop: &mut (dyn FnMut(&Event) -> bool + Send),
) -> biorel::Result<Trained> {
    let (network, task) = (network(settings.head), Task::ppi());
    let weights = Weights::initial(network.specs(), settings.seed);
    let (train, held_out) = (features(64, 0), features(100, 1));
    let on_event: OnEvent<'_> = &mut |event| if stop(&event) { Err(Error::Interrupted) } else { Ok(()) };
    let job = TrainingRun {
        dev: Some(Dev { features: &held_out, task: &task, lost: vec![0, 3] }),
        checkpoint: state.map(|path| CheckpointPlan { path, every: 3 }),
        ..finetune(&network, &weights, &train, settings, on_event)
    };
    execute(Backend::Cpu, Some(2), job)
}

fn dev_settings() -> TrainingSettings {
    TrainingSettings { max_steps: Some(60), bias_correction: true, ..settings(HeadKind::Attention) }
}

#[test]
fn the_best_weights_on_held_out_data_are_kept() {
    let settings = dev_settings();
    let trained = train_with_dev(&settings, None, &mut |_| false).unwrap();
    // After every epoch, and after the last step.
    let steps: Vec<usize> = trained.evaluations.iter().map(|evaluation| evaluation.step).collect();
    assert_eq!(steps, [8, 16, 24, 32, 40, 48, 56, 60]);
    assert_eq!(trained.evaluations[7].epoch, 8);
    let best = trained.evaluations.iter().map(|evaluation| evaluation.f1).fold(0.0, f64::max);
    let chosen = trained.evaluations.iter().find(|evaluation| evaluation.step == trained.step).unwrap();
    assert_eq!((chosen.f1, chosen.best), (best, true));
    // The weights are those that were scored, and the score counts the lost positives as misses.
    let held_out = features(100, 1);
    let predictions = predict(Backend::Cpu, settings.head, &trained.weights, &held_out);
    let count = |gold: usize, said: usize| {
        held_out.iter().zip(&predictions).filter(|(f, p)| f.label == Some(gold) && p.label() == said).count() as f64
    };
    let (right, wrong, missed) = (count(1, 1), count(0, 1), count(1, 0) + 3.0);
    assert!((chosen.f1 - 2.0 * right / (2.0 * right + wrong + missed)).abs() < 1e-12);
    assert!((chosen.recall - right / (right + missed)).abs() < 1e-12);
    let loss: f64 =
        held_out.iter().zip(&predictions).map(|(f, p)| -f64::from(p.probabilities[f.label.unwrap()]).ln()).sum();
    assert!((chosen.loss - loss / 100.0).abs() < 1e-9);

    // Evaluating changes nothing about the training; the last weights are those of a run without it.
    let last = TrainingSettings { load_best_model: false, ..settings.clone() };
    let with = train_with_dev(&last, None, &mut |_| false).unwrap();
    let (network, weights) = (network(last.head), Weights::initial(network(last.head).specs(), last.seed));
    let (train, on_event): (_, OnEvent<'_>) = (features(64, 0), &mut |_| Ok(()));
    let without = finetune(&network, &weights, &train, &last, on_event);
    assert_eq!(with.weights, execute(Backend::Cpu, Some(2), without).unwrap().weights);
    assert_eq!(with.step, 60);
}

#[test]
fn training_stops_when_patience_is_exhausted() {
    let settings = TrainingSettings { eval_steps: Some(2), patience: Some(3), max_steps: Some(400), ..dev_settings() };
    let trained = train_with_dev(&settings, None, &mut |_| false).unwrap();
    assert!(trained.history.len() < 400 && !trained.interrupted);
    let [.., best, a, b, c] = &trained.evaluations[..] else { panic!("{:?}", trained.evaluations) };
    assert!(best.best && ![a, b, c].iter().any(|evaluation| evaluation.best));
    assert_eq!((trained.step, trained.history.len()), (best.step, best.step + 6));
}

#[test]
fn a_run_stopped_around_an_evaluation_resumes_to_the_same_bits() {
    let directory = tempfile::tempdir().unwrap();
    for load_best_model in [true, false] {
        let settings = TrainingSettings { eval_steps: Some(4), patience: Some(4), load_best_model, ..dev_settings() };
        let uninterrupted = train_with_dev(&settings, None, &mut |_| false).unwrap();
        let path = directory.path().join(format!("{load_best_model}"));
        // Before, during and after evaluations, and between them.
        let mut seen = 0;
        let mut stops: Vec<Stop> = vec![
            Box::new(|event| matches!(event, Event::Step(record) if record.step == 4)),
            Box::new(|event| matches!(event, Event::Batch)),
            Box::new(|event| matches!(event, Event::Evaluated(evaluation) if evaluation.step == 8)),
            Box::new(|event| matches!(event, Event::Step(record) if record.step == 10)),
            Box::new(move |event| {
                seen += usize::from(matches!(event, Event::Evaluated(_)));
                seen == 2
            }),
        ];
        for stop in &mut stops {
            assert!(train_with_dev(&settings, Some(&path), stop).unwrap().interrupted);
        }
        let resumed = train_with_dev(&settings, Some(&path), &mut |_| false).unwrap();
        assert_eq!((resumed.step, &resumed.weights), (uninterrupted.step, &uninterrupted.weights));
        let scores = |trained: &Trained| trained.evaluations.iter().map(|e| (e.step, e.f1, e.best)).collect::<Vec<_>>();
        assert_eq!(scores(&resumed), scores(&uninterrupted));
        assert_eq!(resumed.history.len(), uninterrupted.history.len());
        // A finished run has no step left at which it could be stopped.
        let again = train_with_dev(&settings, Some(&path), &mut |_| true).unwrap();
        assert!(!again.interrupted);
        assert_eq!(again.weights, uninterrupted.weights);
    }
}

#[test]
fn held_out_data_that_cannot_be_scored_is_refused() {
    let refused = |settings: &TrainingSettings, dev: Option<&[Features]>| {
        let (network, task) = (network(settings.head), Task::ppi());
        let weights = Weights::initial(network.specs(), 1);
        let (train, on_event): (_, OnEvent<'_>) = (features(8, 0), &mut |_| Ok(()));
        let job = TrainingRun {
            dev: dev.map(|features| Dev { features, task: &task, lost: vec![0, 0] }),
            ..finetune(&network, &weights, &train, settings, on_event)
        };
        execute(Backend::Cpu, None, job).unwrap_err().to_string()
    };
    let default = settings(HeadKind::Cls);
    assert!(refused(&default, Some(&[])).contains("dev: there are no instances"));
    let unlabelled = [Features { label: None, ..features(1, 0).remove(0) }];
    assert!(refused(&default, Some(&unlabelled)).contains("dev: every instance needs"));
    let settings = TrainingSettings { patience: Some(1), ..default.clone() };
    assert!(refused(&settings, None).starts_with("patience: needs held-out data"));
    let settings = TrainingSettings { eval_steps: Some(1), ..default };
    assert!(refused(&settings, None).starts_with("eval_steps: needs held-out data"));
}
