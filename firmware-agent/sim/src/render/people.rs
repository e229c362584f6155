//! People on foot and on two wheels: limbs that follow the phase of walking or pedalling.
//!
//! Terms: *gait* is that phase in turns. Models are in metres of a grown person of 1.75 m (a motorbike of 1.55 m with
//! its rider) and are scaled to the actor's size.

use super::light::Paint;
use super::mesh::Pen;
use super::noise::hash;
use super::vec3::{V3, add, scale, sin_cos};
use crate::world::state::{Actor, ActorKind};

const SKINS: [[u8; 3]; 4] = [[224, 178, 148], [196, 144, 112], [140, 96, 70], [92, 62, 46]];
const HAIR: [[u8; 3]; 4] = [[40, 30, 24], [88, 60, 36], [150, 120, 70], [110, 110, 112]];
const TROUSERS: [[u8; 3]; 5] = [[38, 44, 66], [30, 30, 34], [92, 84, 70], [66, 72, 84], [112, 104, 92]];
const TURN: f64 = 2.0 * crate::maths::PI;

struct Wear {
    skin: Paint,
    hair: Paint,
    coat: Paint,
    legs: Paint,
    shoes: Paint,
}

fn wear(actor: &Actor) -> Wear {
    let h = hash(actor.id.wrapping_mul(7).wrapping_add(3)) as usize;
    let pick = |from: &[[u8; 3]], k: usize| Paint::matt(from.get(k % from.len()).copied().unwrap_or_default());
    Wear {
        skin: pick(&SKINS, h),
        hair: pick(&HAIR, h >> 3),
        coat: Paint::matt(actor.colour),
        legs: pick(&TROUSERS, h >> 6),
        shoes: Paint::matt([28, 26, 26]),
    }
}

fn phase(actor: &Actor) -> f64 {
    if actor.gait.is_finite() { (actor.gait % 1.0) * TURN } else { 0.0 }
}

/// Draws a grown person or a child on foot.
pub(crate) fn walker(pen: &mut Pen<'_, '_>, actor: &Actor) {
    let w = wear(actor);
    let k = (actor.height / 1.75).clamp(0.2, 2.0) as f32;
    let child = actor.kind == ActorKind::Child;
    pen.size = [k; 3];
    let stride = (actor.body.speed.abs() as f32 * 0.32).clamp(0.0, 0.62);
    for (side, turn) in [(1.0f32, 0.0), (-1.0, TURN / 2.0)] {
        let (s, c) = sin_cos(phase(actor) + turn);
        leg(pen, &w, side, stride * s, stride * c.max(0.0) * 1.2 + 0.05);
        arm(pen, &w, side, -stride * 0.9 * s);
    }
    let hips = [[-0.11, -0.16, 0.84], [0.11, -0.16, 0.84], [0.11, 0.16, 0.84], [-0.11, 0.16, 0.84]];
    let chest = [[-0.12, -0.20, 1.40], [0.11, -0.20, 1.40], [0.11, 0.20, 1.40], [-0.12, 0.20, 1.40]];
    let neck = [[-0.08, -0.09, 1.49], [0.06, -0.09, 1.49], [0.06, 0.09, 1.49], [-0.08, 0.09, 1.49]];
    pen.hexa(&hips, &chest, &w.coat);
    pen.hexa(&chest, &neck, &w.coat);
    let r = if child { 0.125 } else { 0.10 };
    head(pen, &w, [0.02, 0.0, 1.48], r);
    if hash(actor.id).is_multiple_of(3) && pen.detail > 6.0 {
        pen.block([-0.26, -0.13, 1.0], [-0.12, 0.13, 1.36], &Paint::matt([54, 40, 58]));
    }
}

fn leg(pen: &mut Pen<'_, '_>, w: &Wear, side: f32, swing: f32, bend: f32) {
    let hip = [0.0, side * 0.09, 0.88];
    let knee = add(hip, scale(direction(swing), 0.43));
    let foot = add(knee, scale(direction(swing - bend), 0.42));
    pen.limb((hip, 0.085), (knee, 0.065), &w.legs);
    pen.limb((knee, 0.062), (foot, 0.045), &w.legs);
    let low = (foot[2] - 0.03).max(0.0);
    pen.block([foot[0] - 0.06, foot[1] - 0.045, low], [foot[0] + 0.17, foot[1] + 0.045, low + 0.08], &w.shoes);
}

fn arm(pen: &mut Pen<'_, '_>, w: &Wear, side: f32, swing: f32) {
    let shoulder = [0.0, side * 0.24, 1.38];
    let elbow = add(shoulder, scale(direction(swing), 0.29));
    let hand = add(elbow, scale(direction(swing + 0.35), 0.27));
    pen.limb((shoulder, 0.055), (elbow, 0.045), &w.coat);
    pen.limb((elbow, 0.043), (hand, 0.038), &w.coat);
    pen.limb((hand, 0.035), (add(hand, [0.02, 0.0, -0.08]), 0.03), &w.skin);
}

/// Downwards, turned forwards by an angle that is small enough for three terms of its series.
fn direction(angle: f32) -> V3 {
    let (s, c) = sin_cos(f64::from(angle));
    [s, 0.0, -c]
}

fn head(pen: &mut Pen<'_, '_>, w: &Wear, foot: V3, r: f32) {
    let [x, y, z] = foot;
    let box_of = |h: f32, half: f32, shift: f32| -> [V3; 4] {
        [[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]
            .map(|k: [f32; 2]| [x + shift + k[0] * half * 1.1, y + k[1] * half, z + h])
    };
    pen.hexa(&box_of(0.0, r * 0.65, 0.0), &box_of(r * 0.9, r, 0.01), &w.skin);
    pen.hexa(&box_of(r * 0.9, r, 0.01), &box_of(r * 1.8, r * 1.02, 0.0), &w.skin);
    pen.hexa(&box_of(r * 1.55, r * 1.1, -0.015), &box_of(r * 2.5, r * 0.7, -0.01), &w.hair);
    pen.block([x - r * 1.25, y - r * 1.05, z + r * 0.7], [x - r * 0.45, y + r * 1.05, z + r * 2.0], &w.hair);
}

/// Draws a motorbike with its rider.
pub(crate) fn motorbike(pen: &mut Pen<'_, '_>, actor: &Actor, on: bool) {
    let w = wear(actor);
    let (l, h) = ((actor.length / 2.1) as f32, (actor.height / 1.55) as f32);
    pen.size = [l.clamp(0.4, 2.0), h.clamp(0.4, 2.0), h.clamp(0.4, 2.0)];
    let paint = Paint::glossy(actor.colour, 0.35);
    let metal = Paint::glossy([96, 98, 102], 0.3);
    let dark = Paint::matt([32, 32, 34]);
    for x in [-0.72, 0.72] {
        pen.wheel([x, 0.0, 0.31], 0.31, 0.065, &metal);
    }
    pen.block([-0.34, -0.15, 0.28], [0.32, 0.15, 0.64], &metal);
    pen.limb(([0.72, 0.0, 0.33], 0.05), ([0.44, 0.0, 1.02], 0.05), &metal);
    pen.limb(([-0.72, 0.0, 0.33], 0.05), ([-0.2, 0.0, 0.5], 0.06), &dark);
    let tank = [[-0.02, -0.16, 0.64], [0.42, -0.12, 0.70], [0.42, 0.12, 0.70], [-0.02, 0.16, 0.64]];
    let lid = [[0.0, -0.10, 0.90], [0.36, -0.09, 0.94], [0.36, 0.09, 0.94], [0.0, 0.10, 0.90]];
    pen.hexa(&tank, &lid, &paint);
    pen.block([-0.85, -0.11, 0.70], [-0.02, 0.11, 0.80], &dark);
    pen.block([0.40, -0.15, 0.78], [0.58, 0.15, 1.06], &paint);
    pen.limb(([0.42, -0.36, 1.04], 0.025), ([0.42, 0.36, 1.04], 0.025), &dark);
    rider(pen, &w, &Seat { hips: [-0.18, 0.80], shoulders: [0.10, 1.30], hands: [0.40, 0.34, 1.04] }, |side| {
        ([0.22, side * 0.20, 0.74], [-0.05, side * 0.20, 0.36])
    });
    let helmet = Paint::glossy([actor.colour[2], actor.colour[0], actor.colour[1]], 0.35);
    helmet_at(pen, [0.16, 0.0, 1.36], &helmet);
    let red = Paint {
        emit: if actor.brake {
            2.2
        } else if on {
            0.6
        } else {
            0.0
        },
        ..Paint::matt([190, 24, 20])
    };
    pen.front((-1.0, 0.86), [-0.09, 0.09], [0.70, 0.78], &red);
    pen.front((1.0, 0.585), [-0.11, 0.11], [0.84, 1.0], &Paint::shining([255, 250, 235], if on { 2.0 } else { 0.2 }));
    let dark_share = pen.light.dark;
    if red.emit > 0.0 {
        pen.glow(
            [-0.87, 0.0, 0.74],
            [-1.0, 0.0, 0.0],
            scale([1.0, 0.02, 0.01], red.emit * (0.08 + 0.3 * dark_share)),
            0.09,
        );
    }
    if on {
        pen.glow([0.6, 0.0, 0.92], [1.0, 0.0, 0.0], scale([1.0, 0.95, 0.84], 0.45 + 3.0 * dark_share), 0.12);
    }
}

/// Where a rider sits: (x, z) of hips and shoulders, one hand.
struct Seat {
    hips: [f32; 2],
    shoulders: [f32; 2],
    hands: V3,
}

fn rider(pen: &mut Pen<'_, '_>, w: &Wear, seat: &Seat, limbs: impl Fn(f32) -> (V3, V3)) {
    let ring = |p: [f32; 2], half: [f32; 2]| -> [V3; 4] {
        [[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]
            .map(|k: [f32; 2]| [p[0] + k[0] * half[0], k[1] * half[1], p[1]])
    };
    pen.hexa(&ring(seat.hips, [0.13, 0.16]), &ring(seat.shoulders, [0.12, 0.21]), &w.coat);
    for side in [1.0f32, -1.0] {
        let (knee, foot) = limbs(side);
        let hip = [seat.hips[0], side * 0.10, seat.hips[1]];
        pen.limb((hip, 0.085), (knee, 0.065), &w.legs);
        pen.limb((knee, 0.062), (foot, 0.045), &w.legs);
        pen.block(
            [foot[0] - 0.06, foot[1] - 0.045, foot[2] - 0.05],
            [foot[0] + 0.17, foot[1] + 0.045, foot[2] + 0.03],
            &w.shoes,
        );
        let shoulder = [seat.shoulders[0], side * 0.22, seat.shoulders[1] - 0.04];
        let hand = [seat.hands[0], side * seat.hands[1], seat.hands[2]];
        let elbow = [(shoulder[0] + hand[0]) * 0.5 - 0.05, side * 0.33, (shoulder[2] + hand[2]) * 0.5 - 0.06];
        pen.limb((shoulder, 0.055), (elbow, 0.045), &w.coat);
        pen.limb((elbow, 0.043), (hand, 0.036), &w.coat);
    }
}

fn helmet_at(pen: &mut Pen<'_, '_>, foot: V3, paint: &Paint) {
    let [x, y, z] = foot;
    let ring = |h: f32, half: f32| -> [V3; 4] {
        [[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]
            .map(|k: [f32; 2]| [x + k[0] * half * 1.15, y + k[1] * half, z + h])
    };
    pen.hexa(&ring(0.0, 0.09), &ring(0.10, 0.13), paint);
    pen.hexa(&ring(0.10, 0.13), &ring(0.20, 0.13), paint);
    pen.hexa(&ring(0.20, 0.13), &ring(0.27, 0.08), paint);
    pen.front((1.0, x + 0.155), [-0.10, 0.10], [z + 0.10, z + 0.19], &Paint::glossy([20, 22, 26], 0.5));
}

/// Draws a bicycle with its rider.
pub(crate) fn cyclist(pen: &mut Pen<'_, '_>, actor: &Actor, on: bool) {
    let w = wear(actor);
    let k = (actor.height / 1.75).clamp(0.4, 2.0) as f32;
    pen.size = [k; 3];
    let tyre = Paint::matt([24, 24, 26]);
    let frame = Paint::glossy([actor.colour[1], actor.colour[2], actor.colour[0]], 0.2);
    for x in [-0.53, 0.53] {
        pen.hoop([x, 0.0, 0.34], 0.34, 0.285, &tyre);
        // From ahead and behind a hoop is a line: the tread makes it a tyre.
        pen.block([x - 0.05, -0.022, 0.0], [x + 0.05, 0.022, 0.06], &tyre);
        for end in [-0.33, 0.33] {
            pen.block([x + end - 0.015, -0.022, 0.2], [x + end + 0.015, 0.022, 0.48], &tyre);
        }
    }
    let crank = [-0.02, 0.0, 0.30];
    let bars: [(V3, V3); 6] = [
        ([-0.53, 0.0, 0.34], crank),
        (crank, [-0.16, 0.0, 0.92]),
        (crank, [0.36, 0.0, 0.72]),
        ([-0.14, 0.0, 0.84], [0.34, 0.0, 0.86]),
        ([-0.53, 0.0, 0.34], [-0.14, 0.0, 0.84]),
        ([0.53, 0.0, 0.34], [0.36, 0.0, 0.98]),
    ];
    for (a, b) in bars {
        pen.limb((a, 0.022), (b, 0.022), &frame);
    }
    pen.limb(([0.40, -0.24, 1.02], 0.02), ([0.40, 0.24, 1.02], 0.02), &tyre);
    pen.block([-0.28, -0.07, 0.92], [-0.04, 0.07, 0.97], &tyre);
    let seat = Seat { hips: [-0.14, 0.98], shoulders: [0.18, 1.42], hands: [0.40, 0.22, 1.04] };
    rider(pen, &w, &seat, |side| {
        let (s, c) = sin_cos(phase(actor) + if side > 0.0 { 0.0 } else { TURN / 2.0 });
        let foot = [crank[0] + 0.17 * c, side * 0.12, crank[2] + 0.17 * s];
        ([(foot[0] - 0.14) * 0.5 + 0.22, side * 0.12, (foot[2] + 0.98) * 0.5 + 0.10], foot)
    });
    if hash(actor.id).is_multiple_of(2) {
        head(pen, &w, [0.26, 0.0, 1.46], 0.10);
    } else {
        helmet_at(pen, [0.26, 0.0, 1.47], &Paint::glossy([226, 226, 220], 0.2));
    }
    pen.front((-1.0, 0.3), [-0.04, 0.04], [0.72, 0.78], &Paint::shining([230, 30, 20], if on { 1.5 } else { 0.2 }));
    if on {
        let dark = pen.light.dark;
        pen.glow([-0.32, 0.0, 0.75], [-1.0, 0.0, 0.0], scale([1.0, 0.02, 0.01], 0.05 + 0.4 * dark), 0.06);
        pen.glow([0.45, 0.0, 0.95], [1.0, 0.0, 0.0], scale([1.0, 0.97, 0.9], 0.2 + 1.2 * dark), 0.07);
    }
}
