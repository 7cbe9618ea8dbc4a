#!/bin/bash
# Tests and measurements on a machine with an NVIDIA GPU, from the folder that `make gpu-kit` built. The machine needs Python
# with PyTorch for CUDA 13 (for its libraries, and as the baseline), numpy and pandas; no Rust, git, network or administrator.
#
#     bash kit.sh PHASE ...      phases: tests sanitize speed profile scores, or all
#
#     OUT=DIR        results; default ./out. A phase writes PHASE.txt, and measurements also PHASE.jsonl, as it goes on
#     LIMIT=560      seconds for each phase: what would pass it is stopped or not started
#     PYTHON=python3
#     WORK=DIR       for what it unpacks and writes; default /tmp/biorel-gpu
#     ONLY="..."     tests: names of operations' tests; sanitize: the same; speed: patterns for side_by_side.py
#
# A failure does not end a phase. Without a GPU every part says that there is no device.
set -u
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
python="${PYTHON:-python3}"
work="${WORK:-/tmp/biorel-gpu}"
out="${OUT:-$PWD/out}"
limit="${LIMIT:-560}"
only="${ONLY:-}"
programs="$here/benchmarks/gpu"
mkdir -p "$out" "$work"
cd "$here" || exit 1

# A wheel is a zip file: unpacking it is what pip would do. Of biorel's requirements only those that are missing are added.
site="$work/site"
if [ ! -e "$site/.complete" ]; then
    rm -rf "$site"
    mkdir -p "$site"
    for wheel in wheels/biorel*.whl; do "$python" -m zipfile -e "$wheel" "$site" || exit 1; done
    for wheel in wheels/required/*/*.whl; do
        [ -e "$wheel" ] || continue
        module="$(basename "$(dirname "$wheel")")"
        "$python" -c "import $module" 2>/dev/null || "$python" -m zipfile -e "$wheel" "$site" || exit 1
    done
    touch "$site/.complete"
fi
unpack() { "$python" -c 'import lzma, shutil, sys; shutil.copyfileobj(lzma.open(sys.argv[1]), open(sys.argv[2], "wb"))' "$1" "$2"; }

# MiniLM's weights, where the folder was built with them.
published="$work/published"
if [ -e minilm/model.safetensors.xz ] && [ ! -e "$published/model.safetensors" ]; then
    mkdir -p "$published"
    cp minilm/*.json minilm/vocab.txt "$published"
    unpack minilm/model.safetensors.xz "$published/partial" && mv "$published/partial" "$published/model.safetensors"
fi
# The program of tests/gpu.
gpu="$work/gpu"
rm -f "$gpu"
if [ -e gpu.xz ]; then unpack gpu.xz "$gpu" && chmod +x "$gpu"; fi
export PYTHONPATH="$site" PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
export BIOREL_CORPORA="$here/corpora" TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
# NVIDIA's libraries: those of PyTorch (nvidia/cu13/lib), else of a toolkit.
libraries="$("$python" - <<'PYTHON'
import glob
import importlib.util

spec = importlib.util.find_spec("nvidia")
packages = list(spec.submodule_search_locations or []) if spec else []
found = [folder for package in packages for folder in glob.glob(f"{package}/cu13/lib")]
found += glob.glob("/usr/local/cuda-13*/lib64") + glob.glob("/usr/local/cuda/lib64")
print(":".join(found))
PYTHON
)"
export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$libraries"
# candle's kernels are compiled by the driver when they are first loaded: for all processes together, once.
export CUDA_CACHE_PATH="$work/compiled" CUDA_CACHE_MAXSIZE=2147483648

sanitizer="$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | head -n 1)"

# Without the project's settings, by which a warning of another pandas would be an error.
pytest=(-c /dev/null --rootdir tests -o "markers=gpu: needs a GPU" -p no:cacheprovider -q)

# Seconds until the phase ends.
left() { echo $((deadline - SECONDS)); }

# part SECONDS TITLE COMMAND ...: run it within the limit; its failure is printed, nothing more.
part() {
    local seconds="$1" title="$2" started=$SECONDS
    shift 2
    [ "$seconds" -lt "$(left)" ] || seconds="$(left)"
    echo
    echo "== $title"
    if [ "$seconds" -lt 3 ]; then
        echo "== $title: no time left"
        return
    fi
    timeout --kill-after=10 "$seconds" "$@"
    local status=$?
    case $status in
    0) echo "== $title: done in $((SECONDS - started)) s" ;;
    124 | 137) echo "== $title: STOPPED after $seconds s" ;;
    *) echo "== $title: FAILED with exit code $status after $((SECONDS - started)) s" ;;
    esac
}

encoder() {
    if [ -e "$published/model.safetensors" ]; then echo "$published"; else echo "$work/minilm"; fi
}

# write_encoders NAME ...
write_encoders() {
    for name in "$@"; do
        part 120 "random weights of the shape of $name" "$python" "$programs/encoders.py" "$name" "$work/$name" --tokenizer minilm
    done
}

# The driver compiles candle's kernels now, outside of the limits of tests; the time that it takes is printed.
first_start() { part 150 "first start" "$gpu" --here uploads; }

tests() {
    part 60 "devices" "$python" -c 'import biorel; print(biorel.__version__, biorel._biorel.__file__); print(biorel.devices().to_string(max_colwidth=None))'
    part 60 "PyTorch, its bf16 product" "$python" "$programs/run_baseline.py" peak
    [ -e "$(encoder)/model.safetensors" ] || write_encoders minilm
    if [ -e "$gpu" ]; then
        first_start
        # shellcheck disable=SC2086
        part 330 "tests of operations, a process each" "$gpu" --seconds 90 $only
    fi
    BIOREL_GPU_ENCODER="$(encoder)" part 400 "tests of the package" "$python" -m pytest "${pytest[@]}" -ra --durations=5 tests/test_gpu.py
}

sanitize() {
    if [ -z "$sanitizer" ]; then
        echo "compute-sanitizer is not on this machine"
        part 60 "devices" "$python" "$programs/run_biorel.py" devices
        return
    fi
    if [ ! -e "$gpu" ]; then
        echo "this folder has MiniLM's weights instead of the test program"
        return
    fi
    # Each array has an allocation of its own, so that an access behind it is seen.
    export BIOREL_CUDA_REUSE=0
    local checks=(--error-exitcode 9 --print-limit 10)
    local names="${only:-bf16-attention bf16-norm bf16-element-wise bf16-embeddings bf16-step bf16-cross-entropy f32-linear bf16-local-attention bf16-rotary bf16-geglu bf16-first-attention bf16-encoder}"
    first_start
    # The kernels of the heads.
    part 100 "memcheck of ten steps, LSTM" "$sanitizer" --tool memcheck "${checks[@]}" --target-processes all \
        "$python" -m pytest "${pytest[@]}" tests/test_gpu.py -k "ten_steps_match and lstm"
    for name in $names; do
        for tool in memcheck racecheck; do
            part 45 "$tool $name" "$sanitizer" --tool "$tool" "${checks[@]}" "$gpu" --here "$name"
        done
    done
}

speed() {
    # biorel, and PyTorch as most scripts use it, compiled, and in its fastest form.
    local patterns="${only:-bert-base/train/biorel-bf16 bert-base/train/autocast-max-eager bert-base/train/autocast-max-compiled bert-base/train/pure-grouped-compiled}"
    set -f # the patterns are not names of files
    # shellcheck disable=SC2086
    part "$limit" "biorel and PyTorch" "$python" "$programs/side_by_side.py" --tokenizer minilm --work "$work" --results "$out/speed.jsonl" \
        --repeats 2 --seconds 120 --deadline $(($(left) - 20)) --memory --only $patterns
    set +f
}

profile() {
    write_encoders minilm bert-base
    for name in bert-base minilm; do
        part 150 "kernels of a step, $name" "$python" "$programs/profile_step.py" biorel --encoder "$work/$name" --results "$out/profile.jsonl"
    done
    for jobs in 1 2 4; do
        part 90 "$jobs concurrent trainings" "$python" "$programs/run_biorel.py" jobs --encoder "$work/minilm" --jobs "$jobs"
    done
}

scores() {
    [ -e "$published/model.safetensors" ] || write_encoders minilm
    [ -e "$published/model.safetensors" ] || echo "These are random weights: the scores show that training works, and are not comparable with MiniLM's."
    for seed in 1 2 3; do
        part 180 "AIMed, fold 0, seed $seed" "$python" "$programs/run_biorel.py" fold --encoder "$(encoder)" --seed "$seed" --log "$work/fold-$seed.jsonl"
        cat "$work/fold-$seed.jsonl" >>"$out/scores.jsonl" 2>/dev/null
        rm -f "$work/fold-$seed.jsonl"
    done
}

[ $# -gt 0 ] || { sed -n '2,15p' "${BASH_SOURCE[0]}"; exit 2; }
phases="$*"
[ "$phases" = all ] && phases="tests sanitize speed profile scores"
for phase in $phases; do
    case $phase in
    tests | sanitize | speed | profile | scores) ;;
    *) echo "$phase is no phase: tests sanitize speed profile scores, or all"; exit 2 ;;
    esac
    deadline=$((SECONDS + limit))
    {
        echo "=== $phase, $(date -u '+%Y-%m-%d %H:%M UTC'), $(cat COMMIT), within $limit s"
        "$phase"
        echo "=== $phase: ended"
    } 2>&1 | tee "$out/$phase.txt"
done
