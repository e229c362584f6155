//! The simulated world: scenarios, physics, road users, sensors and truth.
//!
//! What it never does: draw. The camera reads [`state::SceneState`].

pub mod state;
