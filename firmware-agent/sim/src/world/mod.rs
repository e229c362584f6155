//! The simulated world: scenarios, physics, road users, sensors and truth.
//!
//! What it never does: draw. The camera reads [`state::SceneState`].

mod cast;
mod contact;
mod driver;
mod engine;
mod geometry;
mod layout;
mod mover;
mod plan;
mod ride;
mod rigid;
mod roles;
pub mod scenario;
mod scenery;
mod stage;
pub mod state;
mod traffic;
