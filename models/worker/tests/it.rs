//! The protocol against damage, and the supervisor against real worker processes that die, hang, lie and lack memory.
//! One binary, which is also the worker: see `it/process.rs`.

#[cfg(test)]
#[path = "it/faults.rs"]
mod faults;
#[cfg(test)]
#[path = "it/frames.rs"]
mod frames;
#[cfg(test)]
#[path = "it/process.rs"]
mod process;
