#!/usr/bin/env bash
# The correctness runs of the PyTorch baseline: heads cls and attention, seeds 1 2 3, AIMed without fold 0.
# One single-threaded process per head, at the lowest priority: on a shared machine, two threads of one process would wait
# for each other at every operation. A finished log is not repeated. PRECISION is bf16 (autocast) or fp32, which is faster
# on processors without bf16 instructions.
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${BIOREL_CORPORA:?set it to the folder of the corpora}"
results=benchmarks/results/aimed_fold0
mkdir -p "$results"

run_head() {
    local head=$1 seed log
    for seed in 1 2 3; do
        log=$results/baseline-$head-seed$seed.jsonl
        [ -e "$log" ] && continue
        nice -n 19 python benchmarks/speed/baseline_train.py --head "$head" --seed "$seed" --precision "${PRECISION:-bf16}" --micro-batches 4 \
            --threads 1 --log "$log.partial" 2>"/tmp/baseline-$head-seed$seed.err" && mv "$log.partial" "$log"
    done
}

run_head cls &
run_head attention &
wait
