#!/usr/bin/env bash
# Every check and measurement of the student that needs an NVIDIA GPU, in two steps that may be on two machines.
#
#   models/bench/gpu.sh build [CAP]   builds the programs with nvcc (CUDA_HOME) for a compute capability, 90 unless told
#                                     (87: Orin), into target/gpu/CAP: no GPU needed
#   models/bench/gpu.sh run [DIR]     on the machine with the GPU: checks, times ours and the peer's (python3 with torch
#                                     and transformers), prints the ratios; results under DIR (target/gpu/results).
#                                     Under ten minutes on an H200; a part that is missing is said and left out.
#
# Nothing is fetched. Without NVIDIA's libraries at hand the linking uses stubs made here from the names that are missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

say() { printf '== %s\n' "$*" >&2; }
stop() { printf 'gpu.sh: %s\n' "$*" >&2 && exit 2; }

build() {
    local cap=${1:-90} out
    [ -n "${CUDA_HOME:-}" ] || stop "CUDA_HOME is not set: the folder with bin/nvcc"
    [ -x "$CUDA_HOME/bin/nvcc" ] || stop "no nvcc in $CUDA_HOME/bin"
    out=target/gpu/$cap
    mkdir -p "$out"
    say "building for compute capability $cap"
    export CUDA_COMPUTE_CAP=$cap PATH="$CUDA_HOME/bin:$PATH"
    export LIBRARY_PATH="$CUDA_HOME/lib:$CUDA_HOME/lib64:target/gpu/stubs"
    set -- cargo build --release -p agent-student --features cuda --target-dir "target/cuda-$cap"
    "$@" --lib
    stubs "target/cuda-$cap/release/deps"
    "$@" --bins --example gpu
    for program in firmware-agent-student examples/gpu; do
        [ ! -x "target/cuda-$cap/release/$program" ] || cp "target/cuda-$cap/release/$program" "$out/"
    done
    strip "$out"/*
    ls -l "$out" >&2
}

# The driver's library is only where a driver is; for linking, the names that the library wants of it are enough.
stubs() {
    mkdir -p target/gpu/stubs
    nm -u "$1"/libcudarc-*.rlib 2>/dev/null | grep -o '\bcu[A-Z][A-Za-z0-9_]*' | sort -u |
        sed 's/.*/int &(void) { return 100; }/' >target/gpu/stubs/cuda.c
    cc -shared -fPIC -Wl,-soname,libcuda.so.1 -o target/gpu/stubs/libcuda.so target/gpu/stubs/cuda.c
}

run() {
    local out=${1:-target/gpu/results} cap program work failed=0
    command -v nvidia-smi >/dev/null || stop "no nvidia-smi: this is not a machine with an NVIDIA GPU"
    cap=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
    program=target/gpu/$cap/gpu
    [ -x "$program" ] || stop "no $program: models/bench/gpu.sh build $cap first"
    mkdir -p "$out"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader | tee "$out/gpu.txt"
    # The libraries of CUDA come with torch where no toolkit is installed.
    libraries=$(python3 -c 'import glob,os,site; print(":".join(sorted({os.path.dirname(p) for s in site.getsitepackages() for p in glob.glob(s+"/nvidia/**/lib/*.so*", recursive=True)})))' 2>/dev/null || true)
    export LD_LIBRARY_PATH="${libraries:+$libraries:}${LD_LIBRARY_PATH:-}"
    say "correctness"
    timeout 120 "$program" write "$work" 2b & writer=$!
    timeout 180 "$program" check "$work" | tee "$out/check.jsonl" || failed=1
    wait "$writer" || failed=1
    timeout 60 "$program" answers models/artifacts/student.gguf | tee -a "$out/check.jsonl" || failed=1
    say "times, ours"
    memory "$out/memory.txt" & watcher=$!
    timeout 200 "$program" time "$work" 2b | tee "$out/ours.jsonl" || failed=1
    kill "$watcher" 2>/dev/null || true
    sort -n "$out/memory.txt" 2>/dev/null | tail -n 1 | sed 's/^/peak GPU memory of the card, MiB: /' | tee -a "$out/gpu.txt"
    say "times, the peer"
    if python3 -c 'import torch, transformers' 2>/dev/null; then
        timeout 240 python3 models/bench/gpu_peer.py --shape 2b --weights "$work/2b.gguf" | tee "$out/peer.jsonl" || failed=1
        ratios "$out"
    else
        say "SKIPPED: python3 has no torch or no transformers"
    fi
    exit "$failed"
}

memory() {
    while nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits >>"$1"; do sleep 0.2; done
}

ratios() {
    python3 - "$1" <<'END'
import json, sys
lines = lambda name: [json.loads(l) for l in open(f"{sys.argv[1]}/{name}") if l.startswith("{")]
ours = [l for l in lines("ours.jsonl") if l.get("backend") == "ours"][-1]
peers = [l for l in lines("peer.jsonl") if "label_ms" in l]
peer = {key: min(l[key] for l in peers) for key in ("label_ms", "report_ms")}
for key, goal in (("label_ms", 80), ("report_ms", 150)):
    print(f"{key}: ours {ours[key]} (goal {goal}), transformers {peer[key]}, ratio {peer[key] / ours[key]:.2f} (goal 3)")
print(f"share of the measured bandwidth in decoding: {ours['bandwidth_share']:.2f} (goal 0.60)")
END
}

case "${1:-}" in
build) build "${2:-90}" ;;
run) run "${2:-}" ;;
*) sed -n '2,/^set /{/^set /!s/^# \{0,1\}//p}' "$0" >&2 && exit 2 ;;
esac
