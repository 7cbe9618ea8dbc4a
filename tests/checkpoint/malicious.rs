//! Files made to harm: refused in a moment, with little memory, and nothing in them is executed.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::formats::{data, read};

const CONFIG: &str = r#"{"vocab_size": 7, "hidden_size": 4, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 6, "max_position_embeddings": 8}"#;

/// Peak memory of this process, where the system reports it.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10)
}

/// The message with which the directory is refused, after checking that it took neither time nor
/// memory.
fn refused(directory: &Path) -> String {
    let (started, before) = (Instant::now(), peak());
    let message = read(directory).unwrap_err().to_string();
    let elapsed = started.elapsed();
    println!("{elapsed:?}: {message}");
    assert!(elapsed < Duration::from_secs(1), "{elapsed:?}: {message}");
    if let (Some(before), Some(after)) = (before, peak()) {
        let grown = after.saturating_sub(before) >> 20;
        assert!(grown < 256, "{grown} MiB: {message}");
    }
    message
}

fn directory(config: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("config.json"), config).unwrap();
    directory
}

fn zip(members: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut archive = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in members {
        archive.start_file(*name, options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

fn as_zip(pickle: &[u8]) -> Vec<u8> {
    zip(&[("model/data.pkl", pickle), ("model/data/0", &[0; 64])], CompressionMethod::Stored)
}

/// The legacy form around a pickled object: magic number, protocol, system; then the keys and one
/// storage.
fn as_legacy(pickle: &[u8], elements: u64) -> Vec<u8> {
    legacy_with(pickle, elements, &[0; 64])
}

fn legacy_with(pickle: &[u8], elements: u64, storage: &[u8]) -> Vec<u8> {
    let mut file = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.".to_vec();
    file.extend(b"\x80\x02}X\x0d\x00\x00\x00little_endian\x88s.");
    file.extend(pickle);
    file.extend(b"\x80\x02]X\x01\x00\x00\x000a.");
    file.extend(elements.to_le_bytes());
    file.extend(storage);
    file
}

fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

fn integer(number: u64) -> Vec<u8> {
    [&b"\x8a\x09"[..], &number.to_le_bytes(), b"\0"].concat()
}

fn tuple(numbers: &[u64]) -> Vec<u8> {
    [b"(".to_vec(), numbers.iter().flat_map(|n| integer(*n)).collect(), b"t".to_vec()].concat()
}

/// A state dict whose tensors all lie in storage `0`.
fn state_dict<'a>(tensors: impl IntoIterator<Item = (&'a str, Vec<u64>, Vec<u64>)>, elements: u64) -> Vec<u8> {
    let mut pickle = b"\x80\x02}(".to_vec();
    for (name, shape, strides) in tensors {
        pickle.extend(text(name));
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        pickle.extend(text("storage"));
        pickle.extend(b"ctorch\nFloatStorage\n");
        pickle.extend([text("0"), text("cpu"), integer(elements), b"tQK\x00".to_vec()].concat());
        pickle.extend([tuple(&shape), tuple(&strides)].concat());
        pickle.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    pickle.extend(b"u.");
    pickle
}

const WORDS: &str = "embeddings.word_embeddings.weight";

#[test]
fn pickles_that_contain_more_than_tensors() {
    let model = directory(CONFIG);
    let marker = model.path().join("executed");
    let touch = format!("touch {}", marker.display());
    let call = |name: &str| {
        let mut pickle = format!("\u{0}\u{2}c{}\n(", name.replacen('.', "\n", 1)).into_bytes();
        pickle[0] = 0x80;
        pickle.extend(text(&touch));
        pickle.extend(b"tR");
        pickle
    };
    let nested = |inner: Vec<u8>| {
        // As an argument of what is allowed, as a value, as a key, and as the state of a dict.
        [
            [b"\x80\x02ccollections\nOrderedDict\n(".to_vec(), inner.clone(), b"tR.".to_vec()].concat(),
            [b"\x80\x02}".to_vec(), text(WORDS), inner.clone(), b"s.".to_vec()].concat(),
            [b"\x80\x02}".to_vec(), inner.clone(), b"Ns.".to_vec()].concat(),
            [b"\x80\x02}".to_vec(), inner.clone(), b"b.".to_vec()].concat(),
            [inner, b".".to_vec()].concat(),
        ]
    };
    for name in ["os.system", "posix.system", "builtins.eval", "builtins.exec", "torch.load", "subprocess.Popen"] {
        for pickle in nested(call(name)) {
            for file in [as_zip(&pickle), as_legacy(&pickle, 16)] {
                std::fs::write(model.path().join("pytorch_model.bin"), file).unwrap();
                let message = refused(model.path());
                assert!(message.contains(name) && message.contains("nothing was executed"), "{message}");
            }
        }
    }
    assert!(!marker.exists());
}

#[test]
fn tensors_larger_than_the_file() {
    let model = directory(CONFIG);
    let n = 1 << 40;
    for (shape, strides, elements) in [
        (vec![n, n], vec![n, 1], n * 4),
        (vec![n / 4, 4], vec![4, 1], n),
        (vec![7, 4], vec![4, 1], n),
        (vec![7, 4], vec![4, 1], 16),
        (vec![u64::MAX, u64::MAX], vec![u64::MAX, u64::MAX], u64::MAX),
        // 28 elements made of one.
        (vec![7, 4], vec![0, 0], 16),
        (vec![n, n], vec![0, 0], 16),
        (vec![1; 40], vec![1; 40], 16),
        (vec![7, 4], vec![4], 16),
    ] {
        let pickle = state_dict([(WORDS, shape.clone(), strides)], elements);
        for file in [as_zip(&pickle), as_legacy(&pickle, elements)] {
            std::fs::write(model.path().join("pytorch_model.bin"), file).unwrap();
            let message = refused(model.path());
            assert!(message.contains("pytorch_model.bin"), "{message}");
            assert!(!message.contains("are missing"), "{shape:?} was accepted: {message}");
        }
    }
}

#[test]
fn parameters_that_share_their_bytes() {
    // The configuration requires 60 MB, and the file has one storage of 64 KB to which every tensor points.
    let config = r#"{"vocab_size": 7, "hidden_size": 64, "num_hidden_layers": 300, "num_attention_heads": 2,
        "intermediate_size": 256, "max_position_embeddings": 8}"#;
    let model = directory(config);
    let config = biorel::model::EncoderConfig::open(model.path()).unwrap();
    let mut names = Vec::new();
    for spec in biorel::model::params::encoder_specs(&config) {
        let mut shape: Vec<u64> = spec.shape.iter().map(|d| *d as u64).collect();
        match spec.name.contains(".qkv.") {
            true => {
                shape[0] /= 3;
                names.extend(["query", "key", "value"].map(|part| (spec.name.replace("qkv", part), shape.clone())));
            }
            false => names.push((spec.name, shape)),
        }
    }
    let tensors = names.iter().map(|(name, shape)| {
        let strides = if let [_, columns] = shape[..] { vec![columns, 1] } else { vec![1] };
        (name.as_str(), shape.clone(), strides)
    });
    let pickle = state_dict(tensors, 64 * 256);
    let storage = [0; 64 * 256 * 4];
    let members = [("model/data.pkl", pickle.as_slice()), ("model/data/0", &storage)];
    // The pickle of 1 MB also shows that the legacy form is read beyond the first look at the file.
    for file in [zip(&members, CompressionMethod::Stored), legacy_with(&pickle, 64 * 256, &storage)] {
        std::fs::write(model.path().join("pytorch_model.bin"), file).unwrap();
        let message = refused(model.path());
        assert!(message.contains("overlap"), "{message}");
    }
}

#[test]
fn zip_bombs() {
    let model = directory(CONFIG);
    let path = model.path().join("pytorch_model.bin");
    let zeros = vec![0u8; 64 << 20];
    let pickle = state_dict([(WORDS, vec![7, 4], vec![4, 1])], 16 << 20);
    for members in [
        [("model/data.pkl", zeros.as_slice()), ("model/data/0", &[0; 4])],
        [("model/data.pkl", pickle.as_slice()), ("model/data/0", zeros.as_slice())],
    ] {
        std::fs::write(&path, zip(&members, CompressionMethod::Deflated)).unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() < 1 << 20);
        let message = refused(model.path());
        assert!(message.contains("compressed"), "{message}");
    }
    // A central directory that promises more members than the archive has bytes.
    let mut archive = as_zip(&pickle);
    let end = archive.len() - 22;
    archive[end + 8..end + 12].copy_from_slice(&[0xfe, 0xff, 0xfe, 0xff]);
    std::fs::write(&path, archive).unwrap();
    refused(model.path());
}

#[test]
fn endless_pickles() {
    let model = directory(CONFIG);
    for instruction in [&b"}"[..], b"N", b"(", b"]q\x00", b"\x85", b"K\x00"] {
        let pickle: Vec<u8> = [&b"\x80\x02N"[..], &instruction.repeat((12 << 20) / instruction.len())].concat();
        for file in [as_zip(&pickle), as_legacy(&pickle, 16)] {
            std::fs::write(model.path().join("pytorch_model.bin"), file).unwrap();
            let message = refused(model.path());
            assert!(message.contains("instructions"), "{message}");
        }
    }
    // A text and an integer that claim to be long.
    for pickle in [&b"\x80\x02X\xff\xff\xff\xffshort."[..], b"\x80\x02\x8a\xffshort."] {
        for file in [as_zip(pickle), as_legacy(pickle, 16)] {
            std::fs::write(model.path().join("pytorch_model.bin"), file).unwrap();
            refused(model.path());
        }
    }
    std::fs::write(model.path().join("pytorch_model.bin"), zip(&[("a/b", b"")], CompressionMethod::Stored)).unwrap();
    assert!(refused(model.path()).contains("data.pkl"));
    std::fs::write(model.path().join("pytorch_model.bin"), b"no weights").unwrap();
    assert!(refused(model.path()).contains("neither a zip archive nor a pickle"));
}

#[test]
fn configurations_of_absurd_size() {
    for form in ["reference", "zip", "legacy", "tensorflow", "flax"] {
        let model = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(data().join(form)).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, model.path().join(path.file_name().unwrap())).unwrap();
        }
        let largest = r#"{"vocab_size": 10000000, "hidden_size": 16384, "num_hidden_layers": 1000,
            "num_attention_heads": 1024, "intermediate_size": 131072, "max_position_embeddings": 1000000}"#;
        std::fs::write(model.path().join("config.json"), largest).unwrap();
        let message = refused(model.path());
        assert!(message.contains("word_embeddings") && message.contains("[10000000, 16384]"), "{message}");
        std::fs::write(model.path().join("config.json"), largest.replace("10000000", "99999999999")).unwrap();
        assert!(refused(model.path()).contains("vocab_size"));
    }
}
