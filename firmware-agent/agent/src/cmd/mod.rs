//! One file per subcommand. Each returns how it ended; `main` maps that to the exit code.

pub(crate) mod ask;
pub(crate) mod check_config;
pub(crate) mod command;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod eval;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod keys;
pub(crate) mod listen;
pub(crate) mod models;
pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod simulate;
pub(crate) mod student;
pub(crate) mod update;
pub(crate) mod verify;
