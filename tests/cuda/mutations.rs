//! Mutation tests of the kernels: the other tests must detect each mutation. All mutations are
//! compiled once, each behind a condition, and a launch states which one is active. It runs only in
//! `make test-cuda-host`, which `make test` includes.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use biorel::ops::cuda::Cuda;
use candle_core::DType;

use crate::host::{self, Host, Schedule, Shim};
use crate::suite::{assert_close, exact, small_encoders};
use crate::{HEADS, PRECISIONS, around_the_encoder, attention};

/// (file, text, which of its occurrences, replacement). A text that ends with a semicolon is a
/// statement, any other one an expression.
const MUTATIONS: [(&str, &str, usize, &str); 59] = [
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
    ("attention_bf16.cuh", "chunk.own ? row - row % tile.group : 0", 0, "0"),
    ("attention_bf16.cuh", "min(high, low + tile.group)", 0, "min(high, low + 1)"),
    ("attention_bf16.cuh", "tile.valid_length + key % tile.group", 0, "tile.valid_length + key"),
    ("attention_f32.cuh", "tile.valid_length + key % tile.group", 0, "tile.valid_length + row % tile.group"),
    // Windows: a marker at its own place; all markers for all keys; markers and padding by their places; a window of the
    // placed keys that lets one more in.
    ("attention_bf16.cuh", "positions[start + token]", 0, "token"),
    ("attention_bf16.cuh", "abs(spots[met_row] - at[i / 2]) <= tile.window", 0, "true"),
    ("attention_f32.cuh", "abs(spot - at) <= tile.window", 0, "true"),
    ("attention_bf16.cuh", "positions[start + min(chunk.first + int(threadIdx.x), chunk.limit - 1)]", 0, "0"),
    ("attention_bf16.cuh", "GROUPS && window < EVERYWHERE", 0, "false"),
    ("attention_bf16.cuh", "at + tile.window + 1", 0, "at + tile.window + 2"),
    ("attention_bf16.cuh", "placed + more * rows", 0, "placed"),
    // The first element of a bias for all columns.
    ("rows.cuh", "i % width", 0, "0"),
    // Half of a row's sum, and sums that are assigned to another parameter.
    ("attention_bf16.cuh", "sum += __shfl_xor_sync(FULL, sum, 1);", 0, "sum += 0.0f * __shfl_xor_sync(FULL, sum, 1);"),
    ("reductions.cuh", "column / item.each", 0, "0"),
    // The elements behind the last whole vector, and vectors that overlap; four rows of a sum that are taken twice, the first
    // columns for all blocks of columns, and weights that only another block writes.
    ("optimizer.cuh", "whole + threadIdx.x", 0, "whole + threadIdx.x + 1"),
    ("optimizer.cuh", "whole + threadIdx.x", 1, "whole + threadIdx.x + 1"),
    ("optimizer.cuh", "start + 4 * threadIdx.x", 0, "start + 4 * (threadIdx.x / 2)"),
    ("optimizer.cuh", "start + 4 * threadIdx.x", 1, "start + 4 * (threadIdx.x / 2)"),
    ("rows.cuh", "order[i + k]", 0, "order[i]"),
    ("rows.cuh", "blockIdx.y * blockDim.x + threadIdx.x", 0, "threadIdx.x"),
    ("attention_pooling.cuh", "blockIdx.y * blockDim.x + threadIdx.x", 0, "threadIdx.x"),
    ("attention_pooling.cuh", "blockIdx.y * blockDim.x + threadIdx.x", 1, "threadIdx.x"),
    // Rows of the word table's gradient: the place of another one, and the first one's values for all.
    ("rows.cuh", "blockIdx.x + 1", 0, "blockIdx.x + 2"),
    ("rows.cuh", "place - 1", 0, "0"),
    ("optimizer.cuh", "place - 1", 0, "0"),
    ("optimizer.cuh", "uint32_t(at) - row * width", 0, "0"),
    // The vectors of a row that a lane keeps: the first one for all, in each of the two passes, and one more than there are.
    ("layer_norm.cuh", "kept[k]", 1, "kept[0]"),
    ("layer_norm.cuh", "kept[k]", 2, "kept[0]"),
    ("layer_norm.cuh", "V * (lane + k * WARP) < width", 2, "V * (lane + k * WARP) < width - V"),
    // Behind the shared memory.
    ("layer_norm.cuh", "sums + warp * 3 * width", 0, "sums + (warp + 1) * 3 * width"),
    // A head: the rows of another group, a share that counts one row more, the groups of another row; the words of another pair,
    // the first columns for all, one pair less; a mask and a weight of another row or column, a group of labels without its last,
    // another part, and barriers before vectors, logits and their gradients are read.
    ("rows.cuh", "rows[i]", 2, "rows[first]"),
    ("rows.cuh", "float(starts[group + 1] - starts[group])", 0, "float(starts[group + 1] - starts[group] + 1)"),
    ("rows.cuh", "onto ? onto[at] : 0.0f", 0, "0.0f"),
    ("attention_pooling.cuh", "blockIdx.y * blockDim.x + threadIdx.x", 2, "threadIdx.x"),
    ("attention_pooling.cuh", "blockIdx.y * blockDim.x + threadIdx.x", 3, "threadIdx.x"),
    ("attention_pooling.cuh", "readers.first + i", 0, "readers.first"),
    ("attention_pooling.cuh", "2 * pair + 1", 0, "2 * pair"),
    ("attention_pooling.cuh", "queries + size_t(blockIdx.x) * width", 0, "queries"),
    ("loss.cuh", "first <= j && j < end", 0, "first <= j"),
    ("loss.cuh", "column - first_width", 0, "column"),
    ("loss.cuh", "mask.apply<1>(row * width + column, sum);", 0, ";"),
    ("loss.cuh", "mask.apply<1>(row * width + column, value);", 0, "mask.apply<1>(column, value);"),
    ("loss.cuh", "__syncthreads();", 1, ";"),
    ("loss.cuh", "__syncthreads();", 2, ";"),
    ("loss.cuh", "__syncthreads();", 3, ";"),
    ("loss.cuh", "sum += losses[row];", 0, "sum = losses[row];"),
];

/// The kernels with all mutations.
fn mutate(directory: &Path) {
    // Of each file: the byte and the text of a place, and the mutations of it.
    let mut places: BTreeMap<&str, BTreeMap<(usize, &str), Vec<usize>>> = BTreeMap::new();
    let read = |file: &str| std::fs::read_to_string(host::kernels().join(file)).unwrap();
    for (index, (file, from, occurrence, _)) in MUTATIONS.into_iter().enumerate() {
        let text = read(file);
        let (at, _) = text.match_indices(from).nth(occurrence).unwrap_or_else(|| panic!("{file} has no {from}"));
        places.entry(file).or_default().entry((at, from)).or_default().push(index);
    }
    for entry in std::fs::read_dir(host::kernels()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let mut text = read(&name);
        // From the last place to the first one, so that the bytes of the others stay true.
        for ((at, from), mutations) in places.get(name.as_str()).into_iter().flatten().rev() {
            let mutated = mutations.iter().rev().fold((*from).to_owned(), |rest, index| {
                let to = MUTATIONS[*index].3;
                match from.ends_with(';') {
                    true => format!("if (shim::view->mutation == {index}) {{ {to} }} else {{ {rest} }}"),
                    false => format!("(shim::view->mutation == {index} ? ({to}) : ({rest}))"),
                }
            });
            text.replace_range(*at..at + from.len(), &mutated);
        }
        std::fs::write(directory.join(name), text).unwrap();
    }
}

#[test]
#[ignore = "half a minute: make test-cuda-host"]
fn mutations_are_found() {
    if Shim::get().is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    mutate(directory.path());
    let shim = Arc::new(Shim::compile(directory.path(), "mutations"));
    let (expected, expected_encoders) = (HEADS.map(|heads| attention(&exact(), heads)), small_encoders(&exact()));
    let expected_around = around_the_encoder(&exact(), DType::F64);
    // The cheapest first; the first difference ends it.
    let found = |mutation: Option<usize>, schedules: &[Schedule]| {
        schedules.iter().any(|schedule| {
            PRECISIONS.iter().any(|(products, tolerance)| {
                let ops =
                    Cuda::new(Host::new(shim.clone(), *schedule).with_separate_bias().mutated(mutation), *products);
                catch_unwind(AssertUnwindSafe(|| {
                    assert_close(&around_the_encoder(&ops, DType::F32), &expected_around, *tolerance, "around");
                    assert_close(&small_encoders(&ops), &expected_encoders, 4.0 * tolerance, "encoder");
                    for (heads, expected) in HEADS.into_iter().zip(&expected) {
                        assert_close(&attention(&ops, heads), expected, *tolerance, "heads");
                    }
                }))
                .is_err()
            })
        })
    };
    let next = AtomicUsize::new(0);
    let unseen = || {
        let indices = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        let mine = indices.take_while(|index| *index < MUTATIONS.len());
        mine.filter(|index| !found(Some(*index), &[Schedule::Reverse, Schedule::Random, Schedule::Forward]))
            .collect::<Vec<_>>()
    };
    let unseen: Vec<usize> = std::thread::scope(|scope| {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(unseen)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(!found(None, &[Schedule::Reverse]), "the kernels without a mutation differ");
    assert!(unseen.is_empty(), "not found: {:?}", unseen.iter().map(|index| MUTATIONS[*index]).collect::<Vec<_>>());
}
