//! Stopping a run, and resuming it from its checkpoint.

use super::*;

#[test]
fn a_stopped_run_resumes_to_the_same_bits() {
    let directory = tempfile::tempdir().unwrap();
    let (f32, bf16) = (Precision::F32, Precision::Bf16);
    let cases = [
        (Backend::Cpu, f32, None),
        (Backend::Cpu, f32, Some(Freeze::Layers(1))),
        (Backend::Cpu, f32, Some(Freeze::All)),
        (Backend::Cpu, bf16, None),
        (Backend::Reference, f32, None),
    ];
    for (engine, precision, freeze) in cases {
        let compute = Compute::new(engine, precision, Some(2)).unwrap();
        let path = directory.path().join(format!("{engine:?}{freeze:?}.state"));
        // The network's cache is filled again by every run.
        let source =
            |source: Source| if freeze == Some(Freeze::All) { source.cached(Cache::default()) } else { source };
        let network = || Network { source: source(Source::Engine), ..network(HeadKind::Lstm) };
        let settings = TrainingSettings { max_steps: Some(40), freeze, ..settings(HeadKind::Lstm) };
        let weights = Weights::initial(network().specs(), settings.seed);
        let run = |settings: &TrainingSettings, path: Option<&std::path::Path>, stop: Option<usize>| {
            let (network, features) = (network(), features(256, 0));
            let mut on_event = stop_at(stop);
            let job = TrainingRun {
                checkpoint: path.map(|path| CheckpointPlan { path, every: 4 }),
                ..finetune(&network, &weights, &features, settings, &mut on_event)
            };
            compute.execute(job)
        };
        let uninterrupted = run(&settings, None, None).unwrap();
        // Stopped in the first epoch (32 steps) and in the second.
        assert!(run(&settings, Some(&path), Some(5)).unwrap().interrupted);
        assert!(run(&settings, Some(&path), Some(33)).unwrap().interrupted);
        // The state after a kill during a write.
        let half = directory.path().join(format!(".{engine:?}{freeze:?}.state.partial"));
        std::fs::create_dir(&half).unwrap();
        std::fs::write(half.join("state"), "half").unwrap();
        let resumed = run(&settings, Some(&path), None).unwrap();
        assert_eq!(resumed.weights, uninterrupted.weights, "{engine:?}");
        let losses = |trained: &Trained| trained.history.iter().map(|r| (r.step, r.loss)).collect::<Vec<_>>();
        assert_eq!(losses(&resumed), losses(&uninterrupted));
        // A finished run is not repeated.
        assert_eq!(run(&settings, Some(&path), Some(1)).unwrap().weights, uninterrupted.weights);

        let other = TrainingSettings { seed: 2, ..settings.clone() };
        let message = run(&other, Some(&path), None).unwrap_err().to_string();
        assert!(message.contains("other settings"), "{message}");
        let bytes = std::fs::read(&path).unwrap();
        // One step more than its history has.
        let count = br#"\"steps\":40"#;
        let at = bytes.windows(count.len()).position(|window| window == count).unwrap();
        let mut more = bytes.clone();
        more[at + count.len() - 1] = b'1';
        for corrupt in [&more, &bytes[..bytes.len() / 2], &bytes[..9], b"".as_slice()] {
            std::fs::write(&path, corrupt).unwrap();
            let message = run(&settings, Some(&path), None).unwrap_err().to_string();
            assert!(message.contains("not a training checkpoint"), "{message}");
        }
        std::fs::remove_file(&path).unwrap();
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "no partial files are left");
}

#[test]
fn a_request_to_stop_ends_the_run_after_the_step() {
    let stopped = train(Backend::Cpu, 1, &settings(HeadKind::Cls), &mut stop_at(Some(5))).unwrap();
    assert!(stopped.interrupted);
    assert_eq!(stopped.history.len(), 5);
    assert!(stopped.weights.values.iter().flatten().all(|value| value.is_finite()));
}
