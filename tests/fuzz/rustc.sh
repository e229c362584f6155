#!/usr/bin/env bash
# rustc as a wrapper of cargo (RUSTC_WRAPPER) for fuzzing: counters of coverage only in what reads the bytes. The fuzzer looks at every
# counter after every run, and those of inference, network and cryptography are nine tenths of them.
set -euo pipefail
rustc=$1
shift
name=
for ((i = 1; i <= $#; i++)); do
    if [ "${!i}" = --crate-name ]; then
        next=$((i + 1))
        name=${!next}
    fi
done
case "$name" in
agent_* | can_dbc* | cobs | heapless | mcap | nmea | nom | pest* | postcard | prost | serde_json | tract_onnx | \
    envelope | frames | commands | gnss | j1939 | dbc | configuration | drive | candump | imu_csv | mp4 | gguf | manifest | onnx)
    exec "$rustc" "$@"
    ;;
esac
kept=()
for argument in "$@"; do
    case "$argument" in
    -Cpasses=sancov-module | -Cllvm-args=-sanitizer-coverage-*) ;;
    *) kept+=("$argument") ;;
    esac
done
exec "$rustc" "${kept[@]}"
