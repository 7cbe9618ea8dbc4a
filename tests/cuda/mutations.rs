//! Mutation tests of the kernels: the other tests must detect each mutation. Each one compiles the
//! kernels again, so they run only in `make test-cuda-host`, which `make test` includes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use biorel::ops::cuda::device::Dtype;

use crate::host::{self, Schedule, Shim};
use crate::suite::{assert_close, exact, small_encoders};
use crate::{PRECISIONS, engine, heads};

/// (file, text, which of its occurrences, replacement).
const MUTATIONS: [(&str, &str, usize, &str); 20] = [
    // Barriers: before the keys overwrite the queries; after a chunk was filled; before the next one is; before a block's
    // sums are read; before those of a block of columns are.
    ("attention_bf16.cuh", "__syncthreads();", 1, ";"),
    ("attention_bf16.cuh", "__syncthreads();", 2, ";"),
    ("attention_bf16.cuh", "__syncthreads();", 4, ";"),
    ("attention_bf16.cuh", "__syncthreads();", 5, ";"),
    ("attention_f32.cuh", "__syncthreads();", 1, ";"),
    ("attention_f32.cuh", "__syncthreads();", 2, ";"),
    ("layer_norm.cuh", "__syncthreads();", 0, ";"),
    ("reductions.cuh", "__syncthreads();", 0, ";"),
    // A barrier that only one warp reaches, and a shuffle that half of a warp does not.
    ("layer_norm.cuh", "__syncthreads();", 0, "if (warp == 0) __syncthreads();"),
    ("layer_norm.cuh", "sum = warp_sum(sum) / width;", 0, "if (lane < 16) sum = warp_sum(sum) / width;"),
    // Fragments and tiles.
    ("attention_bf16.cuh", "mma(c[n], a[2 * k], b[0], b[1]);", 0, "mma(c[n], a[2 * k], b[1], b[0]);"),
    ("attention_bf16.cuh", "pack_bf16(p[1][0], p[1][1])", 0, "pack_bf16(p[1][1], p[1][0])"),
    ("attention_bf16.cuh", "(2 * t + i % 2) * 4", 0, "(2 * t + i / 2) * 4"),
    // Groups: the whole tile as one, its first row alone, a dropout that depends on the place of the group, and one that
    // queries and keys draw from each other's row.
    ("attention_bf16.cuh", "low = chunk.own ? row - row % tile.group : 0;", 0, "low = 0;"),
    ("attention_bf16.cuh", "min(high, low + tile.group)", 0, "min(high, low + 1)"),
    ("attention_bf16.cuh", "tile.valid_length + key % tile.group;", 0, "tile.valid_length + key;"),
    ("attention_f32.cuh", "tile.valid_length + key % tile.group;", 0, "tile.valid_length + row % tile.group;"),
    // Half of a row's sum, and sums that are assigned to another parameter.
    ("attention_bf16.cuh", "sum += __shfl_xor_sync(FULL, sum, 1);", 0, "sum += 0.0f * __shfl_xor_sync(FULL, sum, 1);"),
    ("reductions.cuh", "item.out[column / item.each]", 0, "item.out[0]"),
    // Behind the shared memory.
    (
        "layer_norm.cuh",
        "float* of_gamma = sums + warp * 3 * width;",
        0,
        "float* of_gamma = sums + (warp + 1) * 3 * width;",
    ),
];

/// The kernels with one mutation.
fn mutate(directory: &Path, (file, from, occurrence, to): (&str, &str, usize, &str)) {
    for entry in std::fs::read_dir(host::kernels()).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, directory.join(path.file_name().unwrap())).unwrap();
    }
    let path = directory.join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    let (at, _) = text.match_indices(from).nth(occurrence).unwrap_or_else(|| panic!("{file} has no {from}"));
    std::fs::write(&path, format!("{}{to}{}", &text[..at], &text[at + from.len()..])).unwrap();
}

#[test]
#[ignore = "minutes: make test-cuda-host"]
fn mutations_are_found() {
    if Shim::get().is_none() {
        return;
    }
    let expected = (heads(&exact()), small_encoders(&exact()));
    for (index, mutation) in MUTATIONS.into_iter().enumerate() {
        let directory = tempfile::tempdir().unwrap();
        mutate(directory.path(), mutation);
        let shim = Arc::new(Shim::compile(directory.path(), &format!("mutation-{index}")));
        let passes = |products: Dtype, tolerance: f64, schedule: Schedule| {
            let ops = engine(shim.clone(), products, schedule);
            catch_unwind(AssertUnwindSafe(|| {
                assert_close(&heads(&ops), &expected.0, tolerance, "heads");
                assert_close(&small_encoders(&ops), &expected.1, 4.0 * tolerance, "encoder");
            }))
            .is_ok()
        };
        let unseen = PRECISIONS.iter().all(|(products, tolerance)| {
            [Schedule::Forward, Schedule::Reverse, Schedule::Random].iter().all(|s| passes(*products, *tolerance, *s))
        });
        assert!(!unseen, "nothing noticed {mutation:?}");
    }
}
