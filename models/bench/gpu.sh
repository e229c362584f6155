#!/usr/bin/env bash
# Every check and measurement of the student that needs an NVIDIA GPU, in steps that may be on two machines.
#
#   models/bench/gpu.sh compile       compiles the kernels alone for Orin (sm_87) and Hopper (sm_90) and prints what each
#                                     takes: registers, spills, shared memory. No GPU and no cargo needed
#   models/bench/gpu.sh build [CAP]   builds the programs with nvcc (CUDA_HOME) for a compute capability, 90 unless told
#                                     (87: Orin), into target/gpu/CAP: no GPU needed. Our kernels are for both in either;
#                                     CAP is what candle's are built for
#   models/bench/gpu.sh run [DIR]     on the machine with the GPU, all that follows; results under DIR
#                                     (target/gpu/results). Ends with 1 where a part failed; the others run all the same
#
# What `run` does, each part under a time limit of its own, together under ten minutes:
#   write    the random 2B model file that all times are of, beside `check`
#   check    small random models on the GPU beside our engine on the processor; and on the GPU: six tasks in one pass
#            beside six passes, frame by frame beside one prefill, drafted beside plain greedy decoding, and the same
#            answers after cancelled and abandoned jobs. Tolerances: models/student/examples/gpu/ways.rs
#   answers  the shipped student on the GPU beside itself on the processor; the same after a cancelled job
#   ours     times of our backend, whole and frame by frame as the product does it; shares of the measured bandwidth and of
#            the measured product, also of the vision tower; the memory it takes, in a process of its own
#   candle   the same of candle's backend
#   peer     transformers with the same weights (python3 with torch and transformers; else it is said and left out)
#
# Nothing is fetched. Without NVIDIA's libraries at hand the linking uses stubs made here from the names that are missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# Seconds that each part may take. `write` runs beside `check` and is counted all the same; GRACE follows each.
declare -A LIMIT=([write]=60 [check]=180 [answers]=30 [ours]=70 [candle]=60 [peer]=140 [small]=8)
readonly GRACE=2 SMALL_CALLS=4 MOST=600

say() { printf '== %s\n' "$*" >&2; }
stop() { printf 'gpu.sh: %s\n' "$*" >&2 && exit 2; }

nvcc_of() {
    [ -n "${CUDA_HOME:-}" ] || stop "CUDA_HOME is not set: the folder with bin/nvcc"
    [ -x "$CUDA_HOME/bin/nvcc" ] || stop "no nvcc in $CUDA_HOME/bin"
    export PATH="$CUDA_HOME/bin:$PATH"
}

# The flags are those of models/student/build.rs.
compile() {
    local cap out
    nvcc_of
    mkdir -p target/gpu
    for cap in 87 90; do
        out=target/gpu/kernels.sm_$cap
        nvcc -cubin -O3 --use_fast_math -arch="sm_$cap" -Xptxas -v -o "$out.cubin" models/student/cuda/kernels.cu 2>"$out.log" ||
            { cat "$out.log" >&2 && stop "kernels.cu does not compile for sm_$cap"; }
        echo "sm_$cap, $(stat -c %s "$out.cubin") bytes: kernel, registers, bytes of spill stores, of spill loads, of static shared memory"
        awk '/Compiling entry function/ { split($0, part, "\047"); name = part[2] }
             /spill stores/ { stores = $5; loads = $9 }
             / Used [0-9]+ registers/ {
                 shared = 0
                 for (i = 2; i <= NF; i++) if ($i ~ /^smem/) shared = $(i - 2)
                 for (i = 2; i <= NF; i++) if ($i == "Used") printf "  %-18s %4d %4d %4d %6d\n", name, $(i + 1), stores, loads, shared
             }' "$out.log" | sort
    done
}

build() {
    local cap=${1:-90} out
    nvcc_of
    out=target/gpu/$cap
    mkdir -p "$out"
    say "building for compute capability $cap"
    export CUDA_COMPUTE_CAP=$cap
    export LIBRARY_PATH="$CUDA_HOME/lib:$CUDA_HOME/lib64:$PWD/target/gpu/stubs"
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

# The driver's library is only where a driver is; for linking, the names that the library wants of it are enough. The
# others may be there under their numbered names alone (NVIDIA's wheels for Python).
stubs() {
    local library
    mkdir -p target/gpu/stubs
    nm -u "$1"/libcudarc-*.rlib 2>/dev/null | grep -o '\bcu[A-Z][A-Za-z0-9_]*' | sort -u |
        sed 's/.*/int &(void) { return 100; }/' >target/gpu/stubs/cuda.c
    cc -shared -fPIC -Wl,-soname,libcuda.so.1 -o target/gpu/stubs/libcuda.so target/gpu/stubs/cuda.c
    for library in "$CUDA_HOME"/lib/lib*.so.[0-9]*; do
        [ ! -e "$library" ] || ln -sf "$library" "target/gpu/stubs/$(basename "${library%%.so.*}").so"
    done
}

# A part under its limit: what it prints goes to its file too. What went wrong is said, kept for the end, and stops nothing.
part() {
    local name=$1 file=$2 rc=0
    shift 2
    say "$name (at most ${LIMIT[$name]} s)"
    timeout -k "$GRACE" "${LIMIT[$name]}" "$@" | tee "$file" || rc=$?
    [ "$rc" -eq 0 ] || fail "$name" "$rc"
}

fail() {
    say "FAILED: $1 ended with $2$([ "$2" -ne 124 ] && [ "$2" -ne 137 ] || echo ', past its time')"
    failed+=" $1"
}

small() { timeout -k "$GRACE" "${LIMIT[small]}" "$@"; }

run() {
    local out=${1:-target/gpu/results} cap program work libraries writer rc=0 sum=0 name
    for name in "${!LIMIT[@]}"; do
        [ "$name" = small ] || sum=$((sum + LIMIT[$name] + GRACE))
    done
    sum=$((sum + SMALL_CALLS * (LIMIT[small] + GRACE)))
    [ "$sum" -lt "$MOST" ] || stop "the limits sum to $sum s: $MOST and more"
    failed=
    command -v nvidia-smi >/dev/null || stop "no nvidia-smi: this is not a machine with an NVIDIA GPU"
    cap=$(small nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .) || stop "nvidia-smi does not answer"
    program=target/gpu/$cap/gpu
    [ -x "$program" ] || stop "no $program: models/bench/gpu.sh build $cap first"
    mkdir -p "$out"
    rm -f "$out"/*.jsonl "$out"/ratios.txt
    work=$(mktemp -d)
    # shellcheck disable=SC2064
    trap "rm -rf '$work'" EXIT
    small nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader | tee "$out/gpu.txt" || fail nvidia-smi $?
    # The libraries of CUDA come with torch where no toolkit is installed.
    libraries=$(small python3 -c 'import glob,os,site; print(":".join(sorted({os.path.dirname(p) for s in site.getsitepackages() for p in glob.glob(s+"/nvidia/**/lib/*.so*", recursive=True)})))' 2>/dev/null || true)
    export LD_LIBRARY_PATH="${libraries:+$libraries:}${LD_LIBRARY_PATH:-}"
    timeout -k "$GRACE" "${LIMIT[write]}" "$program" write "$work" 2b &
    writer=$!
    part check "$out/check.jsonl" "$program" check "$work"
    wait "$writer" || rc=$?
    [ "$rc" -eq 0 ] || fail write "$rc"
    part answers "$out/answers.jsonl" "$program" answers models/artifacts/student.gguf
    part ours "$out/ours.jsonl" "$program" time "$work" 2b ours
    part candle "$out/candle.jsonl" "$program" time "$work" 2b candle
    part peer "$out/peer.jsonl" python3 models/bench/gpu_peer.py --shape 2b --weights "$work/2b.gguf"
    ratios "$out" | tee "$out/ratios.txt" || fail ratios $?
    [ -z "$failed" ] || { say "FAILED:$failed" && exit 1; }
    say "all parts passed"
}

ratios() {
    small python3 - "$1" <<'PYTHON'
import json, os, sys

def last(name, key):
    path = f"{sys.argv[1]}/{name}.jsonl"
    lines = [json.loads(l) for l in open(path) if l.startswith("{")] if os.path.exists(path) else []
    found = [l for l in lines if key in l]
    return found[-1] if found else None

ours, candle, peer = last("ours", "label_ms"), last("candle", "label_ms"), last("peer", "report_ms")
if not ours:
    sys.exit("no times of ours: no ratios")
for key, goal in (("label_ms", 80), ("report_ms", 150)):
    text = f"{key}: ours {ours[key]:.1f} (goal {goal})"
    for name, other in (("candle", candle), ("transformers", peer)):
        text += f"; {name} {other[key]:.1f}, ratio {other[key] / ours[key]:.2f}" if other else f"; {name} not measured"
    print(text + " (goal 3)")
if peer:
    print(f"transformers had the same weights: {'yes' if peer['same_weights'] else 'NO'}")
print(f"frame by frame: {ours['streamed_frame_ms']:.1f} ms a frame; after the last one label {ours['streamed_label_ms']:.1f} ms, "
      f"report {ours['streamed_report_ms']:.1f} ms")
print(f"share of the measured bandwidth in decoding: {ours['bandwidth_share']:.2f} (goal 0.60)")
print(f"share of the measured product: vision {ours['vision_share']:.2f}, prefix {ours['prefix_share']:.2f}")
for name, line in (("ours", ours), ("candle", candle)):
    if line:
        print(f"memory, {name}: peak {line['memory_peak_mb']:.0f} MB, loaded {line['memory_held_mb']:.0f} MB, "
              f"over {line['memory_before_mb']:.0f} MB that a bare context and others take")
if peer and "peak_mb" in peer:
    print(f"memory, transformers: peak {peer['peak_mb']:.0f} MB of its tensors")
PYTHON
}

case "${1:-}" in
compile) compile ;;
build) build "${2:-90}" ;;
run) run "${2:-}" ;;
*) sed -n '2,/^set /{/^set /!s/^# \{0,1\}//p}' "$0" >&2 && exit 2 ;;
esac
