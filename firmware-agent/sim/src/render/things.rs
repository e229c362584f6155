//! Animals, cones, road blocks, things fallen on the road, and the choice of the model for an actor.
//!
//! What it never does: move anything; the actor says where it is and how far it has fallen over.

use super::light::{Light, Paint};
use super::limits::FAR_M;
use super::mesh::{Canvas, Pen};
use super::noise::{hash, unit};
use super::vec3::{V3, sin_cos};
use super::{car, heavy, people};
use crate::world::state::{Actor, ActorKind, Body};

/// Where a thing lies after it has fallen by `lying`: two-wheelers on their side, people along the ground.
fn fallen(actor: &Actor) -> Body {
    let mut body = actor.body;
    let lying = if actor.lying.is_finite() { actor.lying.clamp(0.0, 1.0) } else { 0.0 };
    if lying <= 0.0 {
        return body;
    }
    let side = if actor.id.is_multiple_of(2) { 1.0 } else { -1.0 };
    let angle = lying * crate::maths::PI / 2.0 * side;
    match actor.kind {
        ActorKind::Pedestrian | ActorKind::Child | ActorKind::Animal => {
            body.pitch += angle;
            body.heave += 0.14 * lying;
        }
        ActorKind::Motorbike | ActorKind::Cyclist => {
            body.roll += angle;
            // It rests on handlebar and pedal.
            body.heave += lying * 0.16;
        }
        _ => {
            body.roll += angle;
            body.heave += lying * (actor.width * 0.5).clamp(0.1, 1.3);
        }
    }
    body
}

/// Draws one actor. `t_s` decides blinking; lamps are on when the actor says so.
pub(crate) fn draw(canvas: &mut Canvas<'_>, light: &Light, actor: &Actor) {
    let tame = |x: f64| if x.is_finite() { x.clamp(0.05, 40.0) as f32 } else { 1.0 };
    let size = [tame(actor.length), tame(actor.width), tame(actor.height)];
    let reach = size[0].max(size[2]) * 0.6 + 0.6;
    let Some(mut pen) = Pen::at_body(canvas, light, &fallen(actor), reach) else { return };
    pen.size = size;
    pen.salt = actor.id;
    let on = actor.headlights;
    let damage = if actor.damage.is_finite() { actor.damage.clamp(0.0, 1.0) as f32 } else { 0.0 };
    match actor.kind {
        ActorKind::Car | ActorKind::Suv | ActorKind::Van => {
            pen.damage = damage;
            car::draw(&mut pen, actor, on);
        }
        ActorKind::Truck => {
            pen.damage = damage * 0.5;
            heavy::truck(&mut pen, actor, on);
        }
        ActorKind::Bus => {
            pen.damage = damage * 0.5;
            heavy::bus(&mut pen, actor, on);
        }
        ActorKind::Motorbike => people::motorbike(&mut pen, actor, on),
        ActorKind::Cyclist => people::cyclist(&mut pen, actor, on),
        ActorKind::Pedestrian | ActorKind::Child => people::walker(&mut pen, actor),
        ActorKind::Animal => animal(&mut pen, actor),
        ActorKind::Cone => cone(&mut pen),
        ActorKind::Barrier => barrier(&mut pen),
        ActorKind::Debris => debris(&mut pen, actor),
    }
}

/// How near an actor must be to be worth drawing, metres.
pub(crate) fn sight(actor: &Actor) -> f32 {
    match actor.kind {
        ActorKind::Cone | ActorKind::Debris | ActorKind::Animal => 140.0,
        ActorKind::Pedestrian | ActorKind::Child | ActorKind::Cyclist | ActorKind::Motorbike => 200.0,
        _ => FAR_M,
    }
}

/// In metres of a beast 1.6 m long and 1.3 m high to its ears.
fn animal(pen: &mut Pen<'_, '_>, actor: &Actor) {
    let [long, wide, high] = pen.size;
    pen.size = [1.0; 3];
    let at = |x: f32, y: f32, z: f32| -> V3 { [x * long, y * wide, z * high] };
    let thick = |r: f32| r * high / 1.3;
    let coat = Paint::matt(actor.colour);
    let pale = Paint::matt(actor.colour.map(|c| c.saturating_add(46)));
    let phase = if actor.gait.is_finite() { (actor.gait % 1.0) * 2.0 * crate::maths::PI } else { 0.0 };
    let ring = |x: f32, half: f32, z: [f32; 2]| -> [V3; 4] {
        [at(x, -half, z[0]), at(x, half, z[0]), at(x, half, z[1]), at(x, -half, z[1])]
    };
    pen.hexa(&ring(-0.40, 0.34, [0.48, 0.74]), &ring(0.02, 0.46, [0.44, 0.76]), &coat);
    pen.hexa(&ring(0.02, 0.46, [0.44, 0.76]), &ring(0.30, 0.34, [0.46, 0.76]), &coat);
    pen.limb((at(0.26, 0.0, 0.66), thick(0.11)), (at(0.38, 0.0, 0.92), thick(0.075)), &coat);
    pen.limb((at(0.35, 0.0, 0.93), thick(0.10)), (at(0.50, 0.0, 0.85), thick(0.05)), &coat);
    for side in [-1.0, 1.0] {
        pen.limb((at(0.36, side * 0.10, 0.94), thick(0.035)), (at(0.34, side * 0.24, 1.0), thick(0.02)), &pale);
        for (x, turn) in [(-0.34, 0.0), (0.24, 1.6)] {
            let (s, _) = sin_cos(phase + turn + if side > 0.0 { 0.0 } else { 3.1 });
            let swing = s * (actor.body.speed.abs() as f32 * 0.03).min(0.16);
            pen.limb((at(x, side * 0.24, 0.52), thick(0.075)), (at(x + swing, side * 0.24, 0.0), thick(0.04)), &coat);
        }
    }
    let x = 0.405 * long;
    pen.front((-1.0, x), [-0.2 * wide, 0.2 * wide], [0.54 * high, 0.70 * high], &pale);
}

fn cone(pen: &mut Pen<'_, '_>) {
    let (orange, white) = (Paint::matt([232, 92, 24]), Paint::matt([232, 232, 228]));
    let ring =
        |z: f32, half: f32| -> [V3; 4] { [[-half, -half, z], [half, -half, z], [half, half, z], [-half, half, z]] };
    pen.hexa(&ring(0.0, 0.5), &ring(0.06, 0.48), &Paint::matt([30, 30, 30]));
    pen.hexa(&ring(0.06, 0.34), &ring(0.38, 0.25), &orange);
    pen.hexa(&ring(0.38, 0.25), &ring(0.62, 0.18), &white);
    pen.hexa(&ring(0.62, 0.18), &ring(0.80, 0.13), &orange);
    pen.hexa(&ring(0.80, 0.13), &ring(1.0, 0.07), &white);
}

/// The longer side across: a board with stripes on feet, or a concrete element when it is thick.
fn barrier(pen: &mut Pen<'_, '_>) {
    let across = pen.size[1] >= pen.size[0];
    if !across {
        let ring =
            |z: f32, half: f32| -> [V3; 4] { [[-0.5, -half, z], [0.5, -half, z], [0.5, half, z], [-0.5, half, z]] };
        let concrete = Paint::matt([172, 170, 164]);
        pen.hexa(&ring(0.0, 0.5), &ring(0.3, 0.45), &concrete);
        pen.hexa(&ring(0.3, 0.45), &ring(1.0, 0.22), &concrete);
        return;
    }
    let (red, white) = (Paint::matt([206, 36, 30]), Paint::matt([236, 236, 232]));
    for y in [-0.42, 0.42] {
        pen.block([-0.5, y - 0.03, 0.0], [0.5, y + 0.03, 0.07], &Paint::matt([50, 50, 52]));
        pen.block([-0.08, y - 0.015, 0.07], [0.08, y + 0.015, 1.0], &Paint::matt([120, 120, 124]));
    }
    let n = 8;
    for k in 0..n {
        let y = -0.5 + k as f32 / n as f32;
        let paint = if k % 2 == 0 { red } else { white };
        pen.block([-0.12, y, 0.62], [0.12, y + 1.0 / n as f32, 0.95], &paint);
        pen.block([-0.10, y, 0.22], [0.10, y + 1.0 / n as f32, 0.36], &if k % 2 == 0 { white } else { red });
    }
}

fn debris(pen: &mut Pen<'_, '_>, actor: &Actor) {
    for k in 0..5u32 {
        let r = |j: u32| unit(hash(actor.id.wrapping_mul(31).wrapping_add(k * 8 + j))) - 0.5;
        let (x, y, s) = (r(0) * 0.7, r(1) * 0.7, 0.14 + 0.16 * (r(2) + 0.5));
        let tone = if k % 2 == 0 { actor.colour } else { actor.colour.map(|c| c / 2 + 20) };
        let skew = r(4) * 0.2;
        let low = [[x - s, y - s, 0.0], [x + s, y - s + skew, 0.0], [x + s, y + s, 0.0], [x - s, y + s - skew, 0.0]];
        let high = low.map(|p| [p[0] * 0.85 + skew * 0.3, p[1] * 0.85, 0.35 + 0.6 * (r(3) + 0.5)]);
        pen.hexa(&low, &high, &Paint::matt(tone));
    }
}
