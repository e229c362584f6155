//! The built program with a student: its own worker process, a tiny model of random weights, faults included; and the
//! fetching of a model file over https.

#[cfg(test)]
#[path = "it/program.rs"]
mod program;
#[cfg(test)]
#[path = "it/pull.rs"]
mod pull;
#[cfg(test)]
#[path = "it/student.rs"]
mod student;
