//! One file per subcommand. Each returns how it ended; `main` maps that to the exit code.

pub(crate) mod check_config;
pub(crate) mod demo;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod listen;
pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod simulate;
