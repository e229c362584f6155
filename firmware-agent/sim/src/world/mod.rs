//! The simulated world: scenarios, physics, road users, sensors and truth.
//!
//! What it never does: paint. The camera reads [`state::SceneState`]; the world asks it only who is seen, for the truth.

mod cast;
mod catalogue;
mod contact;
mod drive;
mod driver;
mod engine;
mod facts;
mod geometry;
mod layout;
mod mover;
mod plan;
mod ride;
mod rigid;
mod roles;
mod scenario;
mod scenery;
mod sensors;
mod sight;
mod stage;
pub mod state;
mod traffic;
pub mod truth;
mod verdict;
pub mod wording;

pub use catalogue::{built_in, names, scenario_of};
pub use drive::{DriveOptions, Look, Next, WorldDrive};
pub use scenario::{Expect, Scenario, ScenarioError};
