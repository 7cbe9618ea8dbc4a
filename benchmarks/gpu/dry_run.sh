#!/bin/bash
# Run the folder of `make gpu-kit` as on another machine, but without a GPU: in a clean Python with numpy and pandas alone,
# without git and Rust, against a driver that finds no device (cuda13/stub.c). Every phase must say so and end.
#
#     LIBRARIES=DIR [PYTHON=python3.12] benchmarks/gpu/dry_run.sh dist/gpu-kit      LIBRARIES: NVIDIA's, where PyTorch has them
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
kit="$(cd "$1" && pwd)"
libraries="$(cd "$LIBRARIES" && pwd)"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check numpy pandas
mkdir "$folder/driver" "$folder/bin"
cc -shared -fPIC "$here/../../cuda13/stub.c" -o "$folder/driver/libcuda.so.1"
for tool in bash basename cat chmod cp date dirname env head ls mkdir mv rm sed tee timeout touch; do
    ln -s "$(command -v "$tool")" "$folder/bin/$tool"
done
cp -r "$kit" "$folder/kit"
cd "$folder"
size="$(du -sb kit | cut -f1)"
echo "$(find kit -type f | wc -l) files, $((size / 1048576)) MiB; Python $("$folder/venv/bin/python" -c 'import platform; print(platform.python_version())')"
env -i HOME="$folder" PATH="$folder/bin" LD_LIBRARY_PATH="$folder/driver:$libraries" PYTHON="$folder/venv/bin/python" \
    WORK="$folder/work" OUT="$folder/out" bash kit/kit.sh all | sed "s#$folder#.#g; s#$libraries#LIBRARIES#g"
echo
status=0
for phase in tests sanitize speed profile scores; do
    said="$(grep -ciE 'no (CUDA )?device' "out/$phase.txt" || true)"
    ended="$(grep -c "=== $phase: ended" "out/$phase.txt" || true)"
    failed="$(grep -cE '^== .*(FAILED|STOPPED)' "out/$phase.txt" || true)"
    echo "$phase: says $said times that there is no device, $failed parts failed, ended: $ended"
    [ "$said" -gt 0 ] && [ "$failed" -eq 0 ] && [ "$ended" -eq 1 ] || status=1
done
echo "$(find out -type f | wc -l) files of results"
exit $status
