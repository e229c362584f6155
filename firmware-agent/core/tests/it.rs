//! The integration tests of agent-core, one binary.

mod telemetry;
