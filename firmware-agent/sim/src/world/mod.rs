//! The simulated world: scenarios, physics, road users, sensors and truth.
//!
//! What it never does: draw. The camera reads [`state::SceneState`].

mod cast;
mod contact;
mod geometry;
mod layout;
mod mover;
mod rigid;
pub mod scenario;
mod scenery;
pub mod state;
