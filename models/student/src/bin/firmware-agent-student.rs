//! `firmware-agent-student`: the student's worker as a program of its own, so that CUDA's libraries are loaded by it
//! alone and a fault on the GPU ends nothing else. `firmware-agent student` is the same on the CPU.

use std::io::Write as _;
use std::process::ExitCode;

use agent_student::serve::{WorkerArgs, worker};
use clap::Parser;

/// The student's worker: started by firmware-agent, or by a service manager with --listen.
#[derive(Debug, Parser)]
#[command(name = "firmware-agent-student", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    worker: WorkerArgs,
}

fn main() -> ExitCode {
    match worker(&Cli::parse().worker) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A closed stderr leaves nobody to tell.
            let _ = writeln!(std::io::stderr(), "firmware-agent-student: {error}");
            ExitCode::FAILURE
        }
    }
}
