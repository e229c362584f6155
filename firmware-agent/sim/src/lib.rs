//! Synthetic drives: what a unit's sensors would say on a scripted drive, and the truth about it.
//!
//! Terms: *vehicle axes* are x forward, y left, z up; *sensor axes* are those of the IMU as mounted, turned against
//! the vehicle by an angle that only the truth names. *Contact* is the instant at which the two vehicles touch;
//! *time zero* is the later instant at which a Part 563-style recorder begins the event.
//!
//! A seed fixes every byte on every machine: the only floating-point operations are the exactly rounded ones
//! (`+ - * /`, square root, rounding to integers), sine and cosine are our own polynomials ([`maths`]), and nothing
//! depends on a clock, a hash order or a library's version. Nothing here reads files or the network, and nothing
//! frame-sized is allocated after [`DemoDrive::new`].
//!
//! What it never does: claim to be real. Every frame carries the word SYNTHETIC, and the GNSS places the drive in the
//! middle of the North Atlantic.

pub mod bus;
mod caption;
pub mod chip;
mod demo;
mod gnss;
mod imu;
mod lead;
pub mod limits;
pub mod maths;
mod motion;
mod raster;
pub mod render;
pub mod rng;
mod road;
mod scene;
mod truth;

mod view;
pub mod world;

pub use bus::DEMO_DBC;
pub use demo::{DemoDrive, SimRecord};
pub use truth::Truth;
