//! Lorries and buses: boxes with cabs, window bands, many wheels, lamps and the marks that tell them apart.
//!
//! Figures are ours, by eye, in shares of length, width and height.

use super::car::{Lamps, all_lamps};
use super::light::Paint;
use super::mesh::Pen;
use crate::world::state::Actor;

const DARK: Paint = Paint::matt([34, 34, 36]);
const GLASS: Paint = Paint::glossy([26, 30, 34], 0.5);

fn wheels(pen: &mut Pen<'_, '_>, axles: &[f32], radius: f32, half: f32) {
    let size = pen.size;
    pen.size = [1.0; 3];
    let hub = Paint::glossy([132, 132, 134], 0.2);
    for x in axles {
        for side in [-1.0, 1.0] {
            let y = side * (size[1] * 0.5 - half - 0.02);
            pen.wheel([x * size[0], y, radius], radius, half, &hub);
        }
    }
    pen.size = size;
}

/// Draws a lorry: cab, load box and chassis.
pub(crate) fn truck(pen: &mut Pen<'_, '_>, actor: &Actor, on: bool) {
    let soot = 1.0 - 0.3 * pen.damage;
    let cab = Paint::glossy(actor.colour, 0.25).times(soot);
    let load = if actor.id.is_multiple_of(2) {
        Paint::glossy([206, 206, 202], 0.08)
    } else {
        Paint::glossy(actor.colour.map(|c| 90 + c / 2), 0.08)
    };
    // Share of the length that 2.3 m of cab take.
    let cab_x = 0.5 - (2.3 / pen.size[0]).clamp(0.1, 0.4);
    pen.block([-0.49, -0.36, 0.13], [0.48, 0.36, 0.27], &DARK);
    pen.block([-0.5, -0.5, 0.27], [cab_x - 0.03, 0.5, 1.0], &load.times(soot));
    let nose = [[cab_x, -0.48, 0.10], [0.5, -0.47, 0.10], [0.5, 0.47, 0.10], [cab_x, 0.48, 0.10]];
    let brow = [[cab_x, -0.48, 0.50], [0.5, -0.47, 0.50], [0.5, 0.47, 0.50], [cab_x, 0.48, 0.50]];
    let roof = [[cab_x, -0.46, 0.86], [0.485, -0.45, 0.86], [0.485, 0.45, 0.86], [cab_x, 0.46, 0.86]];
    pen.hexa(&nose, &brow, &cab);
    pen.hexa(&brow, &roof, &cab);
    pen.front((1.0, 0.503), [-0.42, 0.42], [0.54, 0.77], &GLASS);
    pen.front((1.0, 0.503), [-0.30, 0.30], [0.22, 0.46], &DARK);
    let window = [cab_x + (0.5 - cab_x) * 0.35, 0.492];
    for side in [-1.0, 1.0] {
        pen.flank((side, 0.486), window, [0.55, 0.76], &GLASS);
        pen.flank((side, 0.504), [-0.45, cab_x - 0.1], [0.275, 0.295], &Paint::matt([190, 60, 40]));
        pen.flank((side, 0.45), [-0.22, cab_x - 0.14], [0.11, 0.25], &Paint::matt([96, 96, 98]));
    }
    if pen.detail > 4.0 {
        rear_doors(pen);
    }
    pen.front((-1.0, 0.503), [-0.46, 0.46], [0.13, 0.19], &Paint::matt([70, 70, 72]));
    let lamps = Lamps {
        x: [-0.506, 0.506],
        tail_y: [0.30, 0.46],
        tail_z: [0.195, 0.25],
        head_y: [0.28, 0.44],
        head_z: [0.15, 0.21],
    };
    all_lamps(pen, &lamps, actor, on);
    wheels(pen, &[-0.40, -0.31, -0.22, cab_x + (0.5 - cab_x) * 0.35], 0.50, 0.16);
}

fn rear_doors(pen: &mut Pen<'_, '_>) {
    let seam = Paint::matt([120, 120, 120]);
    pen.front((-1.0, 0.502), [-0.008, 0.008], [0.29, 0.98], &seam);
    for y in [-0.25, -0.12, 0.12, 0.25] {
        pen.front((-1.0, 0.502), [y - 0.008, y + 0.008], [0.30, 0.97], &seam);
    }
    for k in 0..8 {
        let y = -0.48 + 0.12 * k as f32;
        let paint = if k % 2 == 0 { Paint::matt([200, 40, 34]) } else { Paint::matt([230, 228, 220]) };
        pen.front((-1.0, 0.503), [y, y + 0.12], [0.255, 0.285], &paint);
    }
}

/// Draws a bus.
pub(crate) fn bus(pen: &mut Pen<'_, '_>, actor: &Actor, on: bool) {
    let soot = 1.0 - 0.3 * pen.damage;
    let paint = Paint::glossy(actor.colour, 0.25).times(soot);
    pen.block([-0.5, -0.5, 0.10], [0.5, 0.5, 1.0], &paint);
    for side in [-1.0, 1.0] {
        pen.flank((side, 0.502), [-0.5, 0.5], [0.10, 0.17], &DARK);
        for k in 0..8 {
            let x = -0.475 + 0.118 * k as f32;
            pen.flank((side, 0.504), [x, x + 0.108], [0.46, 0.82], &GLASS);
        }
    }
    for x in [0.41, 0.02] {
        pen.flank((-1.0, 0.506), [x, x + 0.075], [0.13, 0.80], &GLASS);
    }
    pen.front((1.0, 0.502), [-0.47, 0.47], [0.36, 0.82], &GLASS);
    pen.front((1.0, 0.503), [-0.36, 0.36], [0.85, 0.96], &Paint::matt([20, 20, 22]));
    pen.front((1.0, 0.504), [-0.26, 0.22], [0.885, 0.93], &Paint::shining([255, 170, 40], 0.9));
    pen.front((-1.0, 0.502), [-0.40, 0.40], [0.52, 0.82], &GLASS);
    pen.front((-1.0, 0.502), [-0.36, 0.36], [0.20, 0.42], &paint.times(0.6));
    let lamps = Lamps {
        x: [-0.505, 0.505],
        tail_y: [0.38, 0.47],
        tail_z: [0.22, 0.36],
        head_y: [0.30, 0.45],
        head_z: [0.17, 0.23],
    };
    all_lamps(pen, &lamps, actor, on);
    wheels(pen, &[-0.28, 0.29], 0.48, 0.14);
}
