//! Compiles the CUDA kernels where the feature `cuda` is on; does nothing else.
//!
//! One image with machine code for Orin (compute capability 8.7) and Hopper (9.0), and PTX for 8.0, the first with the
//! instructions used: of that the driver makes code for any other GPU when the worker starts, and keeps the result. Not
//! compressed, so that a driver older than the compiler reads it too.

use std::path::PathBuf;
use std::process::Command;

/// Machine code for the first two, PTX for the last.
const CODE: [&str; 3] = ["arch=compute_87,code=sm_87", "arch=compute_90,code=sm_90", "arch=compute_80,code=compute_80"];

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
        .args(["-fatbin", "--no-compress", "-O3", "--use_fast_math"])
        .args(CODE.iter().flat_map(|code| ["-gencode", code]))
        .arg("-o")
        .arg(out.join("kernels.fatbin"))
        .arg("cuda/kernels.cu")
        .status()
        .map_err(|error| {
            format!("{}: {error}; the feature cuda needs NVIDIA's compiler (CUDA_HOME)", nvcc.display())
        })?;
    if status.success() { Ok(()) } else { Err(format!("{} ended with {status}", nvcc.display())) }
}
