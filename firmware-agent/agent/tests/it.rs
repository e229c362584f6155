//! The built program with a student: its own worker process, a tiny model of random weights, faults included.

#[cfg(test)]
#[path = "it/program.rs"]
mod program;
#[cfg(test)]
#[path = "it/student.rs"]
mod student;
