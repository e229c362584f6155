//! Every cap of the camera, with the relations between them checked at compile time.

/// Largest side of an image, pixels.
pub const SIDE_MAX: usize = 2048;
/// Smallest side of an image, pixels.
pub const SIDE_MIN: usize = 16;
/// Most corners of a polygon before the near plane cuts it.
pub const CORNERS: usize = 12;
/// Most corners afterwards: a plane adds one to a convex polygon.
pub const CORNERS_CUT: usize = CORNERS + 1;
/// Most polygons of one frame; what comes later (the farther things: near ones are drawn first) is left out.
pub const POLYGONS: usize = 60_000;
/// Most moving or parked things of one frame.
pub const ACTORS: usize = 384;
/// Most glowing lamps of one frame.
pub const GLOWS: usize = 512;
/// Nothing nearer than this is drawn, metres.
pub const NEAR_M: f32 = 0.25;
/// Nothing farther than this is drawn, metres.
pub const FAR_M: f32 = 320.0;
/// Painted lines end here, metres.
pub const PAINT_M: f32 = 140.0;
/// Drops on the windscreen at most.
pub const DROPS: usize = 160;
/// Streaks of rain in the air at most.
pub const STREAKS: usize = 260;
/// Samples of one pixel's motion blur at most.
pub const BLUR_TAPS: usize = 9;
/// Dashes of one segment of a painted line at most.
pub const DASHES: usize = 32;

/// Tag of a pixel that shows the sky.
pub const TAG_SKY: u16 = 0;
/// Tag of a pixel that shows the ground.
pub const TAG_GROUND: u16 = 1;
/// Tag of a pixel that shows something that stands still.
pub const TAG_STATIC: u16 = 2;
/// Tag of the first actor's pixels; the next actor's is one more.
pub const TAG_ACTOR: u16 = 3;

const _: () = assert!(ACTORS + (TAG_ACTOR as usize) < u16::MAX as usize);
const _: () = assert!(CORNERS_CUT > CORNERS && CORNERS >= 8);
const _: () = assert!(BLUR_TAPS % 2 == 1);
