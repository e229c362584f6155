//! Who is on the road: sizes, masses and colours of road users, and how stiffly they are hit.
//!
//! Sizes and masses are those of ordinary vehicles and people, drawn within a class; none is a make or a person.

use super::state::ActorKind;
use crate::rng::Rng;

/// Length, width, height (m), mass (kg).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Build {
    pub(crate) size: [f64; 3],
    pub(crate) mass: f64,
    pub(crate) colour: [u8; 3],
}

/// Bounds of a class: length, width, height, mass.
const fn bounds(kind: ActorKind) -> [[f64; 2]; 4] {
    match kind {
        ActorKind::Car => [[3.9, 4.8], [1.7, 1.85], [1.42, 1.52], [1100.0, 1700.0]],
        ActorKind::Suv => [[4.4, 4.9], [1.82, 1.95], [1.62, 1.78], [1600.0, 2300.0]],
        ActorKind::Van => [[4.9, 6.0], [1.95, 2.05], [1.95, 2.6], [1900.0, 3300.0]],
        ActorKind::Truck => [[7.5, 12.0], [2.4, 2.5], [3.2, 3.9], [8000.0, 18000.0]],
        ActorKind::Bus => [[10.5, 12.0], [2.5, 2.55], [3.0, 3.3], [11000.0, 16000.0]],
        ActorKind::Motorbike => [[2.0, 2.2], [0.75, 0.85], [1.55, 1.7], [240.0, 330.0]],
        ActorKind::Cyclist => [[1.7, 1.85], [0.55, 0.65], [1.65, 1.8], [75.0, 105.0]],
        ActorKind::Pedestrian => [[0.4, 0.5], [0.45, 0.6], [1.6, 1.9], [55.0, 95.0]],
        ActorKind::Child => [[0.3, 0.4], [0.35, 0.45], [1.05, 1.4], [20.0, 40.0]],
        ActorKind::Animal => [[1.1, 1.5], [0.35, 0.45], [0.75, 1.1], [20.0, 60.0]],
        ActorKind::Cone => [[0.4, 0.4], [0.4, 0.4], [0.75, 0.75], [5.0, 6.0]],
        ActorKind::Barrier => [[0.55, 0.65], [2.0, 2.4], [0.9, 1.1], [450.0, 1500.0]],
        ActorKind::Debris => [[0.5, 1.0], [0.6, 1.2], [0.3, 0.6], [25.0, 120.0]],
    }
}

/// One of a class.
pub(crate) fn draw(rng: &mut Rng, kind: ActorKind) -> Build {
    const PAINT: [[u8; 3]; 12] = [
        [228, 229, 228],
        [30, 32, 36],
        [96, 100, 106],
        [168, 172, 176],
        [150, 26, 30],
        [28, 58, 122],
        [52, 84, 62],
        [196, 178, 140],
        [70, 44, 38],
        [206, 120, 32],
        [92, 132, 170],
        [214, 196, 60],
    ];
    const CLOTHES: [[u8; 3]; 8] = [
        [44, 50, 78],
        [122, 34, 40],
        [60, 60, 62],
        [188, 170, 132],
        [214, 88, 40],
        [46, 92, 70],
        [198, 200, 206],
        [120, 100, 150],
    ];
    let [length, width, height, mass] = bounds(kind).map(|[low, high]| rng.between(low, high));
    let pick = rng.next_u64();
    let colour = match kind {
        ActorKind::Pedestrian | ActorKind::Child | ActorKind::Cyclist => CLOTHES[(pick % 8) as usize],
        ActorKind::Animal => [118, 88, 58],
        ActorKind::Cone => [232, 92, 24],
        ActorKind::Barrier => [208, 60, 44],
        ActorKind::Debris => [112, 96, 78],
        ActorKind::Bus => [PAINT[5], PAINT[11], PAINT[4], PAINT[0]][(pick % 4) as usize],
        _ => PAINT[(pick % 12) as usize],
    };
    Build { size: [length, width, height], mass, colour }
}

/// Falls over when struck.
pub(crate) const fn falls(kind: ActorKind) -> bool {
    matches!(
        kind,
        ActorKind::Motorbike
            | ActorKind::Cyclist
            | ActorKind::Pedestrian
            | ActorKind::Child
            | ActorKind::Animal
            | ActorKind::Cone
    )
}

/// On two wheels.
pub(crate) const fn two_wheeled(kind: ActorKind) -> bool {
    matches!(kind, ActorKind::Motorbike | ActorKind::Cyclist)
}

/// Goes on feet.
pub(crate) const fn walks(kind: ActorKind) -> bool {
    matches!(kind, ActorKind::Pedestrian | ActorKind::Child | ActorKind::Animal)
}

/// Length of the crash pulse of two partners, milliseconds: softer and longer with crush zones on both sides, shorter
/// where one is a person, whose mass is carried off at once, or a stiff obstacle.
pub(crate) fn pulse_ms(a: ActorKind, b: ActorKind) -> [f64; 2] {
    let pair = [a, b];
    let any = |f: fn(ActorKind) -> bool| pair.into_iter().any(f);
    if any(walks) || any(|k| k == ActorKind::Cyclist) {
        [40.0, 70.0]
    } else if any(|k| matches!(k, ActorKind::Cone | ActorKind::Debris)) {
        [25.0, 50.0]
    } else if any(|k| k == ActorKind::Motorbike) {
        [70.0, 110.0]
    } else if any(|k| k == ActorKind::Barrier) {
        [80.0, 110.0]
    } else if any(|k| matches!(k, ActorKind::Truck | ActorKind::Bus)) {
        [100.0, 150.0]
    } else {
        [90.0, 135.0]
    }
}
