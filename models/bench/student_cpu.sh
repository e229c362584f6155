#!/bin/sh
# The student on the CPU: the language half against llama.cpp on the same random files (taking turns, ratio above 1: ours
# is faster), the vision tower against the machine's f32 limit, and the 2B and 7B shapes without a checkpoint.
# Needs python3 with llama-cpp-python, gguf and numpy (PYTHON names another one). Threads: first argument, default 2.
# On a busy machine read the figures by processor time, best with one thread: waiting threads of a peer count as work.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
threads=${1:-2}
built="$root/target/release/examples"
(cd "$root" && cargo build --quiet --release -p agent-student --example bench_language --example bench_vision --example bench_shapes)
"${PYTHON:-python3}" "$here/student_cpu.py" "$built/bench_language" --threads "$threads"
RAYON_NUM_THREADS=$threads "$built/bench_vision" 2 4 "$threads"
"$built/bench_shapes" 2b q4_k "$threads"
"$built/bench_shapes" 7b q4_k "$threads"
