//! The camera as its users see it: repeatable pictures, true boxes, light and weather, and calm under odd input.

use super::{BoxTruth, Camera, CameraLook};
use crate::world::state::{
    Actor, ActorKind, Body, Building, CameraPose, Marking, Material, Ribbon, RoadWorld, SceneState, Tree, TreeKind,
    Weather,
};
use crate::world::{DriveOptions, Next, WorldDrive, built_in, names};

const WIDTH: usize = 210;
const HEIGHT: usize = 126;

fn road() -> RoadWorld {
    let line = |y: f64| (0..120).map(|i| [f64::from(i) * 2.0 - 20.0, y]).collect::<Vec<_>>();
    RoadWorld {
        route: line(0.0),
        ribbons: vec![Ribbon { left: line(5.5), right: line(-2.0), material: Material::Asphalt }],
        markings: vec![Marking { points: line(1.75), width: 0.15, dash: Some((3.0, 3.0)), yellow: false }],
        ..RoadWorld::default()
    }
}

fn actor(kind: ActorKind, id: u32, x: f64, y: f64, size: [f64; 3]) -> Actor {
    Actor {
        id,
        kind,
        body: Body { x, y, ..Body::default() },
        length: size[0],
        width: size[1],
        height: size[2],
        colour: [90, 94, 100],
        brake: false,
        indicator: 0,
        headlights: false,
        lying: 0.0,
        damage: 0.0,
        gait: 0.2,
    }
}

fn car(id: u32, x: f64, y: f64) -> Actor {
    actor(ActorKind::Car, id, x, y, [4.4, 1.8, 1.45])
}

fn day() -> Weather {
    Weather { sun_elevation_deg: 45.0, sun_azimuth_deg: 90.0, cloud: 0.3, ..Weather::default() }
}

fn state<'a>(road: &'a RoadWorld, actors: &'a [Actor], weather: Weather) -> SceneState<'a> {
    let camera = CameraPose { z: 1.3, pitch: 0.03, focal_px_at_width_1: 0.75, k1: -0.1, ..CameraPose::default() };
    SceneState { t_s: 1.0, ego: Body::default(), camera, actors, road, weather, wipers: -1.0, seed: 5 }
}

fn plain() -> CameraLook {
    CameraLook { bonnet_height: 0.0, reflection: 0.0, noise: 0.0, caption: false, ..CameraLook::default() }
}

fn picture(look: CameraLook, state: &SceneState<'_>) -> (Vec<u8>, Vec<BoxTruth>) {
    let mut camera = Camera::new(WIDTH, HEIGHT, look);
    let mut rgb = vec![0; camera.bytes()];
    camera.render(state, &mut rgb);
    let mut boxes = Vec::new();
    camera.boxes(state, &mut boxes);
    (rgb, boxes)
}

/// Mean red, green, blue of a rectangle.
fn mean(rgb: &[u8], [x0, y0, x1, y1]: [usize; 4]) -> [f64; 3] {
    let mut sum = [0.0; 3];
    for y in y0..y1 {
        for x in x0..x1 {
            for (i, total) in sum.iter_mut().enumerate() {
                *total += f64::from(rgb[(y * WIDTH + x) * 3 + i]);
            }
        }
    }
    sum.map(|v| v / ((x1 - x0) * (y1 - y0)) as f64)
}

fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3))
}

/// Two pictures of everything there is, with all effects on.
fn rich_digest() -> u64 {
    let mut road = road();
    road.buildings.push(Building {
        at: [30.0, 16.0],
        heading: 0.0,
        length: 20.0,
        width: 9.0,
        height: 9.0,
        roof: 2.5,
        floors: 3,
        colour: [180, 150, 120],
    });
    road.trees.push(Tree {
        at: [22.0, -6.0],
        height: 7.0,
        radius: 2.4,
        kind: TreeKind::Broadleaf,
        colour: [70, 100, 50],
    });
    let kinds = [
        (ActorKind::Truck, 34.0, 3.4),
        (ActorKind::Cyclist, 12.0, -1.4),
        (ActorKind::Pedestrian, 15.0, 2.0),
        (ActorKind::Motorbike, 20.0, 3.0),
        (ActorKind::Animal, 18.0, -2.6),
    ];
    let actors: Vec<Actor> =
        kinds.iter().enumerate().map(|(i, (k, x, y))| actor(*k, i as u32, *x, *y, [1.8, 0.8, 1.7])).collect();
    let weather = Weather { rain: 0.6, wet: 0.8, fog: 0.1, ..day() };
    let mut camera = Camera::new(WIDTH, HEIGHT, CameraLook::default());
    let mut rgb = vec![0; camera.bytes()];
    let mut scene = state(&road, &actors, weather);
    scene.wipers = 0.3;
    scene.camera.yaw_rate = 0.8;
    camera.render(&scene, &mut rgb);
    let first = digest(&rgb);
    scene.t_s += 0.08;
    scene.weather = Weather { night: true, ..weather };
    camera.render(&scene, &mut rgb);
    first ^ digest(&rgb).rotate_left(1)
}

#[test]
fn the_same_states_give_the_same_bytes() {
    assert_eq!(rich_digest(), rich_digest());
}

#[test]
fn a_box_encloses_the_projected_car_and_a_lorry_before_it_hides_it() {
    let road = road();
    let actors = [car(7, 24.0, 0.4)];
    let scene = state(&road, &actors, day());
    let (_, boxes) = picture(plain(), &scene);
    let [found] = boxes[..] else { panic!("{boxes:?}") };
    assert_eq!((found.id, found.kind, found.cut, found.parked), (7, ActorKind::Car, false, false));
    assert!(found.visible > 0.99, "{found:?}");
    assert!((found.distance_m - 24.0).abs() < 0.1, "{found:?}");
    // The rear face is 21.8 m away, 1.8 m wide: a pinhole of 157 px focal length puts its edges here; the lens bends
    // this near the middle by less than a pixel.
    let focal = 0.75 * WIDTH as f64;
    let (left, right) = (105.0 - focal * 1.3 / 21.8, 105.0 + focal * 0.5 / 21.8);
    assert!((f64::from(found.corners[0]) - left).abs() < 2.0, "{found:?} {left}");
    assert!((f64::from(found.corners[2]) - right).abs() < 2.0, "{found:?} {right}");
    let tall = f64::from(found.corners[3] - found.corners[1]);
    assert!((tall - focal * 1.45 / 21.8).abs() < 2.5, "{found:?}");

    let beside = [car(7, 24.0, 0.4), actor(ActorKind::Truck, 9, 16.0, -1.5, [6.0, 2.5, 3.2])];
    let (_, boxes) = picture(plain(), &state(&road, &beside, day()));
    let behind = boxes.iter().find(|b| b.id == 7).expect("a part is seen");
    assert!(behind.visible > 0.1 && behind.visible < 0.9, "{behind:?}");

    let hidden = [car(7, 24.0, 0.0), actor(ActorKind::Truck, 9, 16.0, 0.0, [6.0, 2.5, 3.2])];
    let (_, boxes) = picture(plain(), &state(&road, &hidden, day()));
    assert!(boxes.iter().all(|b| b.id != 7 || b.visible < 0.12), "{boxes:?}");
    assert_eq!(boxes[0].id, 9);
}

#[test]
fn boxes_belong_to_the_last_picture_only() {
    let (road, actors) = (road(), [car(1, 12.0, 0.0)]);
    let mut camera = Camera::new(WIDTH, HEIGHT, plain());
    let mut scene = state(&road, &actors, day());
    let mut boxes = vec![];
    camera.boxes(&scene, &mut boxes);
    assert!(boxes.is_empty(), "nothing was rendered yet");
    let mut rgb = vec![0; camera.bytes()];
    camera.render(&scene, &mut rgb);
    camera.boxes(&scene, &mut boxes);
    assert_eq!(boxes.len(), 1);
    scene.t_s += 0.1;
    camera.boxes(&scene, &mut boxes);
    assert!(boxes.is_empty());
}

/// Of pictures of every scenario, some of them in its tunnel. Whoever means to change what is painted changes this too; drives
/// that recipes draw are no longer the same then.
const PAINTED: u64 = 0xf805_feab_a258_bd0e;

#[test]
fn every_scenario_is_painted_as_it_was() {
    let mut all = 0u64;
    for (seed, name) in names().enumerate() {
        let options = DriveOptions { size: [96, 54], fps: 0.25, imu_hz: 10, gnss_hz: 1 };
        let mut drive = WorldDrive::new(&built_in(name).unwrap().unwrap(), seed as u64, options).unwrap();
        let mut camera = Camera::new(96, 54, CameraLook::default());
        let mut rgb = vec![0; camera.bytes()];
        while let Some(next) = drive.next_due() {
            let Next::Picture { t, .. } = next else { continue };
            camera.render(&drive.scene((t.0 / 1_000_000) as usize), &mut rgb);
            all = all.rotate_left(1) ^ digest(&rgb);
        }
    }
    assert_eq!(all, PAINTED, "{all:#x}");
}

#[test]
fn an_outline_has_the_boxes_of_the_picture() {
    let (mut of_picture, mut of_outline, mut hidden) = (vec![], vec![], 0);
    for (seed, name) in names().enumerate() {
        let options = DriveOptions { size: [192, 108], fps: 1.0, imu_hz: 10, gnss_hz: 1 };
        let mut drive = WorldDrive::new(&built_in(name).unwrap().unwrap(), seed as u64, options).unwrap();
        let look = CameraLook { bonnet_height: drive.look().bonnet_height, ..CameraLook::default() };
        let (mut camera, mut tracer) = (Camera::new(192, 108, look), Camera::new(192, 108, look));
        let mut rgb = vec![0; camera.bytes()];
        while let Some(next) = drive.next_due() {
            let Next::Picture { t, .. } = next else { continue };
            let scene = drive.scene((t.0 / 1_000_000) as usize);
            camera.render(&scene, &mut rgb);
            camera.boxes(&scene, &mut of_picture);
            tracer.outline(&scene);
            tracer.boxes(&scene, &mut of_outline);
            assert_eq!(of_picture, of_outline, "{name} {t:?}");
            hidden += of_outline.iter().filter(|b| b.visible < 0.8).count();
        }
    }
    assert!(hidden > 1_000, "{hidden}");
}

#[test]
fn every_kind_is_seen_with_about_its_size() {
    let road = road();
    let kinds = [
        (ActorKind::Car, [4.4, 1.8, 1.45]),
        (ActorKind::Suv, [4.6, 1.9, 1.7]),
        (ActorKind::Van, [5.5, 2.0, 2.4]),
        (ActorKind::Truck, [10.0, 2.5, 3.6]),
        (ActorKind::Bus, [12.0, 2.5, 3.1]),
        (ActorKind::Motorbike, [2.1, 0.8, 1.55]),
        (ActorKind::Cyclist, [1.75, 0.6, 1.75]),
        (ActorKind::Pedestrian, [0.5, 0.55, 1.75]),
        (ActorKind::Child, [0.4, 0.45, 1.15]),
        (ActorKind::Animal, [1.6, 0.5, 1.3]),
        (ActorKind::Cone, [0.36, 0.36, 0.72]),
        (ActorKind::Barrier, [0.5, 2.0, 1.05]),
        (ActorKind::Debris, [1.2, 1.0, 0.4]),
    ];
    for (kind, size) in kinds {
        let actors = [actor(kind, 3, 14.0 + size[0] / 2.0, 0.0, size)];
        let (_, boxes) = picture(plain(), &state(&road, &actors, day()));
        let [b] = boxes[..] else { panic!("{kind:?}: {boxes:?}") };
        let metres = f64::from(b.corners[3] - b.corners[1]) * 14.0 / (0.75 * WIDTH as f64);
        // The nearer part of a low thing lies lower in the picture than its height alone would put it.
        assert!(metres > 0.6 * size[2] && metres < 1.25 * size[2] + 0.35, "{kind:?}: {metres} for {}, {b:?}", size[2]);
    }
}

#[test]
fn night_is_dark_fog_hides_and_brakes_shine() {
    let road = road();
    let mut actors = [car(1, 12.0, 0.0)];
    actors[0].colour = [60, 64, 70];
    let sky = [20, 5, 190, 20];
    let (noon, boxes) = picture(plain(), &state(&road, &actors, day()));
    let (night, _) = picture(plain(), &state(&road, &actors, Weather { night: true, ..day() }));
    assert!(mean(&night, sky)[1] < 0.25 * mean(&noon, sky)[1]);
    let b = boxes[0].corners.map(usize::from);
    let rear = [b[0], b[1], b[2], b[3]];
    actors[0].brake = true;
    let (braking, _) = picture(plain(), &state(&road, &actors, day()));
    let redness = |rgb: &[u8]| mean(rgb, rear)[0] - mean(rgb, rear)[2];
    assert!(redness(&braking) > redness(&noon) + 8.0, "{} {}", redness(&braking), redness(&noon));
    let far = [car(1, 90.0, 0.0)];
    let seen = |fog: f32| {
        let (rgb, boxes) = picture(plain(), &state(&road, &far, Weather { fog, ..day() }));
        let b = boxes[0].corners.map(usize::from);
        let above = [b[0], b[1] - 6, b[2], b[1] - 2];
        (mean(&rgb, [b[0], b[1], b[2], b[3]])[1] - mean(&rgb, above)[1]).abs()
    };
    assert!(seen(1.0) < 3.0 && seen(0.0) > 15.0, "{} {}", seen(1.0), seen(0.0));
}

#[test]
fn turning_smears_along_the_turn_only() {
    let road = road();
    let actors = [car(1, 12.0, 0.0)];
    let edges = |yaw_rate: f64| {
        let mut scene = state(&road, &actors, day());
        scene.camera.yaw_rate = yaw_rate;
        let (rgb, _) = picture(plain(), &scene);
        let at = |x: usize, y: usize| f64::from(rgb[(y * WIDTH + x) * 3 + 1]);
        let sum = |dx: usize, dy: usize| -> f64 {
            let rows = 40..100;
            rows.flat_map(|y| (60..150).map(move |x| (x, y))).map(|(x, y)| (at(x + dx, y + dy) - at(x, y)).abs()).sum()
        };
        (sum(1, 0), sum(0, 1))
    };
    let (still, turning) = (edges(0.0), edges(8.0));
    assert!(turning.0 < 0.65 * still.0, "{still:?} {turning:?}");
    assert!(turning.1 > 0.7 * still.1, "{still:?} {turning:?}");
}

#[test]
fn the_picture_says_that_it_is_synthetic_and_the_bonnet_hides() {
    let road = road();
    let actors = [actor(ActorKind::Cone, 4, 3.2, 0.0, [0.4, 0.4, 0.3])];
    let scene = state(&road, &actors, day());
    let look = CameraLook { caption: true, ..plain() };
    let ((with, _), (without, open)) = (picture(look, &scene), picture(plain(), &scene));
    let changed = |y: usize| with[y * WIDTH * 3..(y + 1) * WIDTH * 3] != without[y * WIDTH * 3..(y + 1) * WIDTH * 3];
    assert!((4..11).any(changed) && !(20..HEIGHT).any(changed));
    let (_, covered) = picture(CameraLook { bonnet_height: 0.3, ..plain() }, &scene);
    let seen = |boxes: &[BoxTruth]| boxes.first().map_or(0.0, |b| b.visible);
    assert!(seen(&open) > 0.9 && seen(&covered) < 0.5 * seen(&open), "{open:?} {covered:?}");
}

#[test]
fn odd_numbers_and_too_many_things_are_harmless() {
    let mut road = road();
    let odd = [f64::NAN, f64::INFINITY, -1e300, 0.0];
    for (i, x) in odd.into_iter().enumerate() {
        road.markings.push(Marking { points: vec![[x, 1.0], [5.0, x]], width: x, dash: Some((x, -x)), yellow: true });
        road.trees.push(Tree { at: [x, 9.0], height: x, radius: x, kind: TreeKind::Bush, colour: [9; 3] });
        road.buildings.push(Building {
            at: [12.0, x],
            heading: x,
            length: x,
            width: x,
            height: x,
            roof: x,
            floors: i as u8,
            colour: [9; 3],
        });
        road.ribbons.push(Ribbon { left: vec![[x, x]; 3], right: vec![[1.0, x]; 2], material: Material::Pavement });
    }
    road.tunnel = Some((f64::NEG_INFINITY, 40.0));
    let mut actors: Vec<Actor> = (0..700).map(|i| car(i, f64::from(i % 40) * 3.0, f64::from(i / 40) - 8.0)).collect();
    for (actor, x) in actors.iter_mut().zip(odd.iter().cycle().take(40)) {
        actor.body.pitch = *x;
        actor.length = *x;
        actor.gait = *x;
        actor.damage = *x;
        actor.lying = *x;
    }
    for x in odd {
        let weather =
            Weather { rain: x as f32, fog: x as f32, wet: x as f32, cloud: x as f32, car_wash: true, ..day() };
        let mut scene = state(&road, &actors, weather);
        scene.t_s = x;
        scene.wipers = x as f32;
        scene.camera = CameraPose { x, y: x, z: x, yaw: x, pitch: x, roll: x, yaw_rate: x, ..scene.camera };
        scene.camera.k1 = x;
        scene.camera.focal_px_at_width_1 = x;
        let (rgb, boxes) = picture(CameraLook::default(), &scene);
        assert_eq!(rgb.len(), WIDTH * HEIGHT * 3);
        assert!(boxes.len() <= super::limits::ACTORS);
    }
    let mut short = vec![0; 100];
    Camera::new(WIDTH, HEIGHT, plain()).render(&state(&road, &actors, day()), &mut short);
}
