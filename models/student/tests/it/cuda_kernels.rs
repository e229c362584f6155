//! The CUDA kernels on the CPU: `cuda/check.cpp` runs each of them in an emulator against plain loops.

use std::path::Path;
use std::process::Command;

#[test]
fn every_kernel_agrees_with_plain_loops() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("cuda");
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("check");
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let built = Command::new(&compiler)
        .args(["-std=c++20", "-O2", "-fno-strict-aliasing", "-w", "-o"])
        .arg(&program)
        .arg(sources.join("check.cpp"))
        .output();
    let built = match built {
        Ok(built) => built,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("SKIPPED: no C++ compiler ({}) to build the emulator of the CUDA kernels", compiler.display());
            return;
        }
        Err(error) => panic!("{}: {error}", compiler.display()),
    };
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let run = Command::new(&program).output().expect("the emulator starts");
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}");
    assert!(said.lines().count() >= 11 && said.lines().all(|line| line.starts_with("ok ")), "{said}");
}
