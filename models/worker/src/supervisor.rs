//! Starts the worker, restarts it with back-off, holds deadlines and walks the ladder.
