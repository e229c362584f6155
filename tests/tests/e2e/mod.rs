//! The built binary, run as its users run it: real files, a real Mosquitto, exit codes and what is printed.
//!
//! Every limit in time here is far above what is measured and only ends what hangs; nothing asserts how long a thing
//! takes. What needs the shared data folder or Mosquitto says so in one line and passes where that is not there.

mod bad;
mod binary;
mod broker;
mod comma2k19;
mod daemon;
mod demo;
mod eval;
mod help;
mod import;
mod replay;
mod samples;
mod simulate;
mod student;
mod token;
mod trust;
mod updates;
