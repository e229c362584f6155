//! Every cap of the event page, in one place.

/// Most frames in the film strip; of more, the one nearest to time zero and an even choice of the others are shown.
pub(crate) const MAX_FRAMES: usize = 12;
/// Largest JPEG that is put into the page, bytes; in place of a larger one stands a line that says so.
pub(crate) const MAX_JPEG_BYTES: usize = 512 << 10;
/// Bins of time per curve. Each keeps its lowest and its highest value, so a curve has at most twice as many points.
pub(crate) const CURVE_BINS: usize = 500;
/// Most curves in one plot; more are left out.
pub(crate) const MAX_CURVES: usize = 4;
/// Most marks in one plot besides time zero.
pub(crate) const MAX_MARKS: usize = 8;
/// Longest text that a caller may hand over for one place of the page, characters; the rest is cut off with an ellipsis.
pub(crate) const MAX_TEXT: usize = 400;

const _: () = assert!(2 * CURVE_BINS <= 1000);
