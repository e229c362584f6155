//! Sources of the device's own.

pub(crate) mod camera;
