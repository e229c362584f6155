//! Integration tests of agent-core, one module a part.

mod vision;
