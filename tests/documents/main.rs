//! Documents: reading hand-written files of each format, refusing malformed ones, writing.

mod bad_input;
mod field;
mod gold;
mod reading;
mod round_trip;
mod whole;

use std::path::{Path, PathBuf};

use biorel::corpus::documents::{Document, Input, Records, list_inputs};

/// A file or folder of the hand-written data.
fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/documents").join(name)
}

/// All documents under a path, or the error of each that cannot be used.
fn read(path: &Path) -> Vec<biorel::Result<Document>> {
    let (inputs, _) = list_inputs(&[path.to_owned()], None).unwrap();
    let records = |input: &Input| Records::open(input).unwrap();
    inputs.iter().flat_map(records).map(|record| record.and_then(Document::parse)).collect()
}

/// All documents, which must be valid.
fn documents(path: &Path) -> Vec<Document> {
    read(path).into_iter().map(|document| document.unwrap()).collect()
}
