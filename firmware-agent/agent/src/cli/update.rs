//! The arguments of `update`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    #[command(subcommand)]
    pub(crate) command: UpdateCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UpdateCommand {
    /// The fleet side: makes a signed update
    Make(Box<UpdateMakeArgs>),
    /// Checks an update and shows what it says of itself, as JSON
    Show {
        /// Update file
        file: PathBuf,
        /// The public key that must have signed it: 64 hexadecimal digits, or a file
        #[arg(long)]
        key: Option<String>,
    },
    /// Installs an update beside what is used; it is on trial from the next start of the agent on
    Install {
        /// Update file
        file: PathBuf,
        /// The unit's own configuration file, whose updates.keys are trusted
        #[arg(long)]
        config: PathBuf,
    },
    /// What is installed, used, on trial, and why the last one was fallen back from, as JSON
    Status {
        /// The unit's own configuration file
        #[arg(long)]
        config: PathBuf,
    },
    /// Goes back, from the next start of the agent on: from the update on trial, else from the confirmed one to that before
    Rollback {
        /// The unit's own configuration file
        #[arg(long)]
        config: PathBuf,
    },
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("content").required(true).multiple(true))]
pub(crate) struct UpdateMakeArgs {
    /// The secret key to sign with (PEM); its public half is in updates.keys of the units
    #[arg(long)]
    pub(crate) key: PathBuf,
    /// Fleet of the units
    #[arg(long)]
    pub(crate) fleet: String,
    /// A unit that it is for; may be repeated (default: all units of the fleet)
    #[arg(long)]
    pub(crate) unit: Vec<String>,
    /// Higher than that of every earlier update of these units
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) sequence: u64,
    /// Oldest version of the agent that it may run under (default: this program's)
    #[arg(long)]
    pub(crate) min_agent: Option<String>,
    /// A layer of configuration (TOML) over the unit's own file
    #[arg(long, group = "content")]
    pub(crate) config: Option<PathBuf>,
    /// Manifest of a trigger model, with the network beside it
    #[arg(long, group = "content")]
    pub(crate) trigger: Option<PathBuf>,
    /// Manifest of a risk head, with the network beside it
    #[arg(long, group = "content")]
    pub(crate) risk_head: Option<PathBuf>,
    /// Model file of the student
    #[arg(long, group = "content")]
    pub(crate) student: Option<PathBuf>,
    /// Small model of the student's last step
    #[arg(long, group = "content")]
    pub(crate) small_student: Option<PathBuf>,
    /// DBC that describes the vehicle's frames
    #[arg(long, group = "content")]
    pub(crate) dbc: Option<PathBuf>,
    /// Any other file that one of these names; may be repeated
    #[arg(long, group = "content")]
    pub(crate) file: Vec<PathBuf>,
    /// The file to make; it must not be there yet
    #[arg(long)]
    pub(crate) out: PathBuf,
}
