//! Sources of the unit's own.

#[cfg_attr(
    not(all(feature = "v4l2", feature = "gstreamer")),
    allow(dead_code, reason = "which parts are used depends on the cameras that are built in")
)]
pub(crate) mod camera;
pub(crate) mod can;
pub(crate) mod gnss;
pub(crate) mod gpio;
pub(crate) mod imu;
pub(crate) mod news;
pub(crate) mod power_mode;
pub(crate) mod thermal;
pub(crate) mod wall;
