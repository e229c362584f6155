//! Compiles the CUDA kernels to PTX where the feature `cuda` is on; does nothing else.
//!
//! PTX for compute capability 8.0, the first with the instructions used: the driver turns it into machine code for the
//! GPU at hand (8.7 on Orin, 9.0 on Hopper) when the worker starts, and keeps the result.

use std::path::PathBuf;
use std::process::Command;

fn main() -> Result<(), String> {
    println!("cargo::rerun-if-changed=cuda/kernels.cu");
    println!("cargo::rerun-if-env-changed=CUDA_HOME");
    if std::env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return Ok(());
    }
    let home = std::env::var_os("CUDA_HOME").or_else(|| std::env::var_os("CUDA_PATH"));
    let nvcc = home.map_or_else(|| PathBuf::from("nvcc"), |home| PathBuf::from(home).join("bin/nvcc"));
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let status = Command::new(&nvcc)
        .args(["-ptx", "-O3", "--use_fast_math", "-arch=compute_80", "-o"])
        .arg(out.join("kernels.ptx"))
        .arg("cuda/kernels.cu")
        .status()
        .map_err(|error| {
            format!("{}: {error}; the feature cuda needs NVIDIA's compiler (CUDA_HOME)", nvcc.display())
        })?;
    if status.success() { Ok(()) } else { Err(format!("{} ended with {status}", nvcc.display())) }
}
