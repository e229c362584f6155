#!/bin/sh
# The engine's NEON kernels against their portable twins, bit by bit, without an aarch64 machine: the kernels' own tests,
# built alone (they need nothing of the crate but its limits) and run under qemu. Shows what is right, not how fast.
#
#     models/bench/neon.sh
#
# Needs Rust's aarch64-unknown-linux-gnu target and, on Debian, qemu-user-static gcc-aarch64-linux-gnu
# libc6-dev-arm64-cross. On an aarch64 machine `cargo test -p agent-student --lib kernels` does the same.
set -eu
engine=$(cd "$(dirname "$0")/../student/src/engine" && pwd)
target=aarch64-unknown-linux-gnu
for tool in qemu-aarch64-static aarch64-linux-gnu-gcc; do
    command -v "$tool" >/dev/null || { echo "$tool is missing (see the head of this script)" >&2; exit 1; }
done
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/src"
cat >"$folder/Cargo.toml" <<EOF
[package]
name = "kernels"
version = "0.0.0"
edition = "2024"
[dependencies]
half = "2"
[profile.test]
opt-level = 2
[workspace]
EOF
cat >"$folder/src/lib.rs" <<EOF
#![allow(dead_code, unused_imports)]
#[path = "$engine/kernels/mod.rs"]
pub mod kernels;
#[path = "$engine/limits.rs"]
pub mod limits;
EOF
cd "$folder"
CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64-static -L /usr/aarch64-linux-gnu" \
    CARGO_TARGET_DIR="$folder/target" cargo test --lib --target "$target"
