#!/usr/bin/env bash
# What tract takes of the program that units fetch: programs of a few lines, built as the device profile builds the agent.
#
# Prints a table: without tract; tract linked and never called (it registers itself before `main`, so that no linker can leave it out);
# a model loaded and run without one ONNX operator known, and with all of them. Needs a quarter of an hour.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
version=$(sed -n 's/^tract-onnx = { version = "\([^"]*\)".*/\1/p' "$here/Cargo.toml")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/src"
cp "$here/Cargo.lock" "$folder"
cat >"$folder/Cargo.toml" <<TOML
[package]
name = "tract-size"
version = "0.0.0"
edition = "2024"
[features]
linked = ["dep:tract-onnx"]
runs = ["linked"]
all = ["runs"]
[dependencies]
tract-onnx = { version = "=$version", default-features = false, optional = true }
[profile.release]
opt-level = "s"
lto = "fat"
codegen-units = 1
strip = true
[profile.release.package.tract-linalg]
opt-level = 3
[workspace]
TOML
cat >"$folder/src/main.rs" <<'RUST'
#[cfg(feature = "linked")]
use tract_onnx::prelude::*;

#[cfg(feature = "linked")]
fn main() -> TractResult<()> {
    let path = std::env::args().nth(1).unwrap_or_default();
    if cfg!(not(feature = "runs")) {
        println!("{path}");
        return Ok(());
    }
    let onnx = if cfg!(feature = "all") { tract_onnx::onnx() } else { Default::default() };
    let model = onnx.model_for_path(path)?.into_optimized()?.into_runnable()?;
    println!("{:?}", model.run(tvec!(Tensor::zero::<f32>(&[1, 3, 352, 352])?.into()))?);
    Ok(())
}

#[cfg(not(feature = "linked"))]
fn main() {
    println!("{:?}", std::env::args().nth(1));
}
RUST
printf '### What tract %s takes of a program\n\n| program | stripped, MB |\n|---|---|\n' "$version"
for row in ":without tract" "linked:tract linked, never called" "runs:loads and runs a model, no operator of ONNX known" "all:the same, all operators"; do
    (cd "$folder" && cargo build --quiet --release --features "${row%%:*}" 2>"$folder/errors" || { cat "$folder/errors" >&2; exit 1; })
    printf '| %s | %s |\n' "${row#*:}" "$(stat -c %s "$folder/target/release/tract-size" | awk '{printf "%.1f", $1 / 1e6}')"
done
