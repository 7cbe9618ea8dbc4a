//! Files that are cut off or altered: an error, never a panic, and where the format has checksums
//! never other weights.

use std::path::Path;

use proptest::prelude::*;

use crate::formats::{data, read};

const FILES: [(&str, &str); 10] = [
    ("reference", "model.safetensors"),
    ("safetensors-sharded", "model.safetensors.index.json"),
    ("safetensors-sharded", "model-00002-of-00003.safetensors"),
    ("zip", "pytorch_model.bin"),
    ("zip-protocol4", "pytorch_model.bin"),
    ("legacy", "pytorch_model.bin"),
    ("legacy-strided", "pytorch_model.bin"),
    ("tensorflow", "model.ckpt-1000000.index"),
    ("tensorflow", "model.ckpt-1000000.data-00000-of-00001"),
    ("flax", "flax_model.msgpack"),
];

fn copied(form: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(data().join(form)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, directory.path().join(path.file_name().unwrap())).unwrap();
    }
    directory
}

fn write(directory: &Path, file: &str, bytes: &[u8]) {
    std::fs::write(directory.join(file), bytes).unwrap();
}

#[test]
fn truncated_files() {
    for (form, file) in FILES {
        let directory = copied(form);
        let bytes = std::fs::read(directory.path().join(file)).unwrap();
        // The index of shards may lack its last line end.
        let complete = bytes.len() - usize::from(bytes.ends_with(b"\n"));
        let shrinking = std::fs::OpenOptions::new().write(true).open(directory.path().join(file)).unwrap();
        for length in (0..complete).rev() {
            shrinking.set_len(length as u64).unwrap();
            let result = read(directory.path());
            assert!(result.is_err(), "{form}/{file} cut at {length}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn altered_anywhere(changes in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4)) {
        for (form, file) in FILES {
            let directory = copied(form);
            let mut bytes = std::fs::read(directory.path().join(file)).unwrap();
            for (at, change) in &changes {
                let at = at.index(bytes.len());
                bytes[at] ^= change;
            }
            write(directory.path(), file, &bytes);
            let result = read(directory.path());
            if let (Ok((weights, ..)), "tensorflow") = (&result, form) {
                prop_assert_eq!(weights, &read(&data().join(form)).unwrap().0);
            }
        }
    }

    /// Alterations of the places that say what is where: the start of a file, or its end.
    #[test]
    fn altered_descriptions(at in 0usize..3000, change in 1u8.., from_end in any::<bool>()) {
        for (form, file) in FILES {
            let directory = copied(form);
            let mut bytes = std::fs::read(directory.path().join(file)).unwrap();
            let at = at % bytes.len();
            let at = if from_end { bytes.len() - 1 - at } else { at };
            bytes[at] ^= change;
            write(directory.path(), file, &bytes);
            let _ = read(directory.path());
        }
    }
}
