//! The chat format and the order of frames, telemetry and questions.
