//! True boxes of what is seen: from the tags of the finished picture, so that they end where the thing ends in it.
//!
//! What it never does: guess; a thing of which no pixel is seen has no box.

use super::frame::Frame;
use super::limits::{ACTORS, TAG_ACTOR};
use super::overlay::HIDDEN;
use crate::world::state::ActorKind;

/// Where an actor is seen in a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoxTruth {
    /// The actor's id.
    pub id: u32,
    /// What it is.
    pub kind: ActorKind,
    /// Left, top, right, bottom of what is seen, pixels of the picture from its upper left corner; right and bottom
    /// are the first column and row beyond.
    pub corners: [u16; 4],
    /// Pixels seen.
    pub pixels: u32,
    /// Share of its pixels within the image that is seen: 1 when nothing stands before it. What the image's edge cuts
    /// off does not count; see `cut`.
    pub visible: f32,
    /// The box touches the picture's edge: more of it may be outside.
    pub cut: bool,
    /// From the camera to the middle of its footprint, metres.
    pub distance_m: f32,
    /// Stands parked for the whole drive.
    pub parked: bool,
}

/// What was drawn of one actor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drawn {
    pub(crate) id: u32,
    pub(crate) kind: ActorKind,
    pub(crate) distance: f32,
    pub(crate) parked: bool,
    /// Pixels of the inner image it covers, seen or hidden.
    pub(crate) covered: u32,
}

#[derive(Clone, Copy)]
struct Extent {
    low: [u16; 2],
    high: [u16; 2],
    seen: u32,
    hidden: u32,
    inner: u32,
}

/// Finds the boxes of the actors drawn, in the order of drawing (near ones first).
pub(crate) fn find(
    frame: &Frame,
    tags: &[u16],
    (width, height): (usize, usize),
    drawn: &[Drawn],
    out: &mut Vec<BoxTruth>,
) {
    out.clear();
    let none = Extent { low: [u16::MAX; 2], high: [0; 2], seen: 0, hidden: 0, inner: 0 };
    let mut extents = [none; ACTORS];
    for (y, row) in tags.chunks_exact(width).enumerate() {
        for (x, tag) in row.iter().enumerate() {
            let Some(index) = (tag & !HIDDEN).checked_sub(TAG_ACTOR) else { continue };
            let Some(e) = extents.get_mut(usize::from(index)) else { continue };
            if tag & HIDDEN != 0 {
                e.hidden += 1;
                continue;
            }
            e.seen += 1;
            let (x, y) = (x as u16, y as u16);
            e.low = [e.low[0].min(x), e.low[1].min(y)];
            e.high = [e.high[0].max(x + 1), e.high[1].max(y + 1)];
        }
    }
    for pixel in &frame.colour {
        if let Some(index) = pixel[3].checked_sub(TAG_ACTOR)
            && let Some(e) = extents.get_mut(usize::from(index))
        {
            e.inner += 1;
        }
    }
    for (d, e) in drawn.iter().zip(&extents) {
        if e.seen == 0 {
            continue;
        }
        let before_bonnet = e.seen as f32 / (e.seen + e.hidden) as f32;
        let cut = e.low[0] == 0 || e.low[1] == 0 || usize::from(e.high[0]) >= width || usize::from(e.high[1]) >= height;
        out.push(BoxTruth {
            id: d.id,
            kind: d.kind,
            corners: [e.low[0], e.low[1], e.high[0], e.high[1]],
            pixels: e.seen,
            visible: (e.inner as f32 / d.covered.max(1) as f32).min(1.0) * before_bonnet,
            cut,
            distance_m: d.distance,
            parked: d.parked,
        });
    }
}
