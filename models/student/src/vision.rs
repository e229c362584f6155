//! The vision tower.
