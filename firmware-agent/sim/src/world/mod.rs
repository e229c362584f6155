//! The simulated world: scenarios, physics, road users, sensors and truth.
//!
//! What it never does: draw. The camera reads [`state::SceneState`].

mod contact;
mod geometry;
mod rigid;
pub mod scenario;
pub mod state;
