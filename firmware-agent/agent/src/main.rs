//! `firmware-agent`: the one binary of the edge agent. All I/O lives in this crate and in agent-drive and agent-link;
//! decisions about events live in agent-core. `main` parses the command line and maps outcomes to exit codes.

mod builtin;
mod certificates;
mod cli;
mod cmd;
mod config;
mod convert;
mod evidence;
mod exit;
mod io;
mod link;
mod page;
mod pipeline;
#[cfg(test)]
mod power_tests;
#[cfg(test)]
mod power_update_tests;
mod preset;
mod room;
mod scribe;
mod show;
mod signer;
mod store_page;
mod student;
mod token;
mod updates;
#[cfg(test)]
mod world_tests;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let ended = match &cli.command {
        cli::Command::Run(args) => cmd::run::run(args),
        cli::Command::Record(args) => cmd::run::record::record(args),
        cli::Command::Demo(args) => cmd::demo::demo(args),
        cli::Command::Replay(args) => cmd::replay::replay(args),
        cli::Command::Import(args) => cmd::import::import(args),
        cli::Command::Listen(args) => cmd::listen::listen(args),
        cli::Command::Inspect(args) => cmd::inspect::inspect(args),
        cli::Command::Keys(args) => cmd::keys::keys(args),
        cli::Command::Order(args) => cmd::command::command(args),
        cli::Command::Update(args) => cmd::update::update(args),
        cli::Command::Models(args) => cmd::models::models(args),
        cli::Command::Student(args) => cmd::student::student(args),
        cli::Command::Ask(args) => cmd::ask::ask(args),
        cli::Command::Simulate(args) => cmd::simulate::simulate(args),
        cli::Command::Eval(args) => cmd::eval::eval(args),
        cli::Command::CheckConfig(args) => cmd::check_config::check_config(args),
        cli::Command::Doctor(args) => cmd::doctor::doctor(args),
    };
    match ended {
        Ok(outcome) => outcome.into(),
        // Whoever read our results has seen enough.
        Err(error) if exit::nobody_reads(&error) => exit::Outcome::Done.into(),
        Err(error) => {
            // A closed stderr leaves nobody to tell.
            let _ = writeln!(std::io::stderr(), "firmware-agent: {error:#}");
            exit::outcome_of(&error).into()
        }
    }
}
