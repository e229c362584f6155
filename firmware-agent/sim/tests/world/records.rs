//! What the sensors and the bus hand out.

use std::collections::BTreeMap;

use agent_sim::SimRecord;
use agent_sim::render::{Camera, CameraLook};
use agent_sim::world::truth::{Severity, split_of};
use agent_sim::world::wording::{CAUSES, DESCRIPTIONS, PREVENTIONS, prevention_of, words};
use agent_sim::world::{DriveOptions, Expect, Next, WorldDrive, names, scenario_of};

use super::{BLIND, drive, records, scenario};

fn digest(records: &[SimRecord<'_>]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut add = |bytes: &[u8]| {
        for b in bytes {
            hash = (hash ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3);
        }
    };
    for record in records {
        add(&record.t().0.to_le_bytes());
        match record {
            SimRecord::Imu(s) => s.accel_mps2.iter().chain(&s.gyro_rps).for_each(|v| add(&v.to_le_bytes())),
            SimRecord::Gnss(f) => {
                add(&f.lat_deg.to_le_bytes());
                add(&f.speed_mps.to_le_bytes());
            }
            SimRecord::Can(f) => add(f.payload()),
            SimRecord::Frame { .. } => {}
        }
    }
    hash
}

#[test]
fn every_scenario_ends_as_it_is_meant_and_its_words_are_of_the_sets() {
    for name in names() {
        let drive = drive(name, 4);
        let truth = drive.truth();
        let severity = match scenario(name).expect() {
            Expect::Collision | Expect::CollisionOfOthers => Severity::Collision,
            Expect::NearCollision => Severity::NearCollision,
            Expect::Normal => Severity::Normal,
        };
        assert_eq!((truth.severity, truth.simulated, truth.split), (severity, true, split_of(4)), "{name}");
        for (set, label) in
            [(&DESCRIPTIONS[..], truth.description), (&CAUSES[..], truth.cause), (&PREVENTIONS[..], truth.prevention)]
        {
            assert!(set.contains(&(label.code, label.text)), "{name}: {label:?}");
        }
        let collision = severity == Severity::Collision;
        assert_eq!(collision, truth.description.code != "none", "{name}");
        assert_eq!(collision, truth.cause.code != "none", "{name}");
        assert_eq!(truth.danger == "none", severity == Severity::Normal, "{name}");
        assert!(truth.danger == "none" || words(&CAUSES, truth.danger).is_some(), "{name}");
        if let Some(event) = &truth.event {
            assert!(event.first_sign_s <= event.contact_s && event.contact_s < truth.length_s, "{name}: {event:?}");
            assert!(truth.length_s - event.contact_s > 1.0, "{name}");
        }
    }
}

/// A scenario, what its drives may be described as, and what may bring their danger about.
type Said = (&'static str, &'static [&'static str], &'static [&'static str]);

const BRAKES: &[&str] = &["late_brake", "wet_road"];
const STANDS: &[&str] = &["late_standing", "wet_road", "poor_sight"];
const BLOCKS: &[&str] = &["late_obstacle", "poor_sight"];
const CAR: &[&str] = &["ego_cross_car", "struck_side"];

const COLLISIONS: [Said; 34] = [
    ("rear_end", &["ego_rear_car"], BRAKES),
    ("rear_end_close", &["ego_rear_car"], &["too_close"]),
    ("rear_end_truck", &["ego_rear_large"], BRAKES),
    ("rear_end_motorbike", &["ego_rear_motorbike"], &["too_close", "late_brake", "wet_road"]),
    ("standing_queue", &["ego_rear_car"], STANDS),
    ("standing_truck", &["ego_rear_large"], STANDS),
    ("crossing_car", CAR, &["no_way"]),
    ("crossing_red", CAR, &["ran_light"]),
    ("crossing_truck", &["ego_cross_large", "struck_side"], &["no_way"]),
    ("crossing_motorbike", &["ego_cross_motorbike", "struck_side"], &["no_way"]),
    ("ego_red_light", CAR, &["ego_light"]),
    ("turning_car", &["ego_turning", "struck_side"], &["turned_across"]),
    ("pull_out", &["ego_pull_out"], &["pull_out"]),
    ("cut_in", &["ego_cut_in"], &["cut_in"]),
    ("parked_car", &["ego_parked"], &["no_room"]),
    ("head_on", &["ego_head_on"], &["left_its_lane"]),
    ("cyclist_crossing", &["ego_cyclist"], &["rode_out"]),
    ("cyclist_swings_out", &["ego_cyclist"], &["swung_out"]),
    ("pedestrian", &["ego_pedestrian"], &["stepped_out"]),
    ("child", &["ego_pedestrian"], &["ran_out"]),
    ("animal", &["ego_animal"], &["animal"]),
    ("fallen_motorbike", &["ego_fallen"], &["fell"]),
    ("debris", &["ego_object"], BLOCKS),
    ("road_block", &["ego_road_block"], BLOCKS),
    ("kerb", &["ego_kerb"], &["off_lane"]),
    ("hit_from_behind", &["struck_rear"], &["follower_late"]),
    ("hit_from_side", &["struck_side", "ego_cross_car", "ego_cross_large"], &["no_way"]),
    ("others_rear_end", &["others_rear"], &["others_late"]),
    ("others_truck", &["others_rear_large"], &["others_late"]),
    ("others_motorbike", &["others_motorbike"], &["others_late"]),
    ("others_crossing", &["others_cross"], &["no_way"]),
    ("others_crossing_red", &["others_cross"], &["ran_light"]),
    ("others_pedestrian", &["others_pedestrian"], &["stepped_out"]),
    ("others_cyclist", &["others_cyclist"], &["rode_out"]),
];

/// Nothing happens; only the danger is named.
const NEAR: [Said; 18] = [
    ("near_rear_end", &["none"], &["too_close", "late_brake"]),
    ("near_truck", &["none"], &["too_close", "late_brake"]),
    ("near_motorbike", &["none"], &["too_close", "late_brake"]),
    ("near_standing", &["none"], &["late_standing", "poor_sight"]),
    ("near_crossing", &["none"], &["no_way"]),
    ("near_crossing_red", &["none"], &["ran_light"]),
    ("near_turning", &["none"], &["turned_across"]),
    ("near_pull_out", &["none"], &["pull_out"]),
    ("near_cut_in", &["none"], &["cut_in"]),
    ("near_parked", &["none"], &["no_room"]),
    ("near_oncoming", &["none"], &["left_its_lane"]),
    ("near_pedestrian", &["none"], &["stepped_out"]),
    ("near_child", &["none"], &["ran_out"]),
    ("near_cyclist", &["none"], &["rode_out"]),
    ("near_swing_out", &["none"], &["swung_out"]),
    ("near_animal", &["none"], &["animal"]),
    ("near_fall", &["none"], &["fell"]),
    ("near_obstacle", &["none"], BLOCKS),
];

#[test]
fn what_a_scenario_is_for_is_what_its_words_say() {
    // Once more where it may be one or another.
    let several = COLLISIONS.iter().filter(|(_, descriptions, dangers)| descriptions.len() + dangers.len() > 2);
    let second = several.map(|said| (said, 11));
    let mut drives = 0;
    for ((name, descriptions, dangers), seed) in COLLISIONS.iter().chain(&NEAR).map(|said| (said, 4)).chain(second) {
        // Every scenario has a drive of seed 4; of another seed no draw may end as meant.
        let Ok(drive) = WorldDrive::new(&scenario(name), seed, BLIND) else { continue };
        let truth = drive.truth();
        let codes = (truth.description.code, truth.cause.code, truth.danger);
        assert!(descriptions.contains(&codes.0), "{name} {seed}: {codes:?}");
        assert!(dangers.contains(&truth.danger), "{name} {seed}: {codes:?}");
        let cause = if truth.severity == Severity::Collision { truth.danger } else { "none" };
        assert_eq!((truth.cause.code, truth.prevention.code), (cause, prevention_of(cause)), "{name} {seed}");
        drives += 1;
    }
    assert!(drives >= 60, "{drives}");
}

#[test]
fn a_seed_makes_the_same_records_twice_and_on_every_machine() {
    for name in ["rear_end", "others_crossing", "town", "unit_knocked"] {
        let (a, b) = (records(&mut drive(name, 7)), records(&mut drive(name, 7)));
        assert!(a == b, "{name}");
        assert_ne!(digest(&a), digest(&records(&mut drive(name, 8))), "{name}");
    }
    // Held so that another machine, compiler or profile is found out. A change that is meant changes it too.
    assert_eq!(digest(&records(&mut drive("rear_end", 7))), DIGEST, "rear_end, seed 7");
}

const DIGEST: u64 = 0x9f30_d8ce_ae3e_0fb7;

#[test]
fn the_mix_of_seeds_has_all_outcomes() {
    let mut counts = BTreeMap::new();
    for seed in 0..4000 {
        *counts.entry(scenario_of(seed)).or_insert(0) += 1;
    }
    // Two scenarios came after what ships was trained, and are not in the mix.
    let mixed = |n: &&str| !["near_kerb", "near_behind"].contains(n);
    assert!(names().filter(mixed).all(|n| counts.get(n).is_some_and(|c| *c > 10)), "{counts:?}");
    assert_eq!(names().filter(|n| !mixed(n)).count(), names().count() - counts.len(), "{counts:?}");
    let share = |expect: Expect| {
        counts.iter().filter(|(n, _)| scenario(n).expect() == expect).map(|(_, c)| c).sum::<usize>() as f64 / 4000.0
    };
    assert!((0.31..0.37).contains(&share(Expect::Collision)), "{}", share(Expect::Collision));
    assert!((0.33..0.39).contains(&share(Expect::Normal)), "{}", share(Expect::Normal));
}

#[test]
fn bus_messages_keep_their_times_counters_and_checksums() {
    let mut drive = drive("head_on", 2);
    let airbag_s = drive.truth().event.as_ref().unwrap().airbag_s.unwrap();
    let all = records(&mut drive);
    let mut by_id: BTreeMap<u32, Vec<_>> = BTreeMap::new();
    for record in &all {
        if let SimRecord::Can(f) = record {
            by_id.entry(f.id).or_default().push(*f);
        }
    }
    let seconds = drive.length_ms() as f64 * 1e-3;
    for (id, hz) in [(0x50, 10.0), (0x100, 50.0), (0x110, 50.0), (0x120, 100.0), (0x130, 20.0)] {
        let frames = &by_id[&id];
        assert!((frames.len() as f64 - hz * seconds).abs() < 3.0, "{id:x}: {}", frames.len());
        for (i, f) in frames.iter().enumerate() {
            assert_eq!(usize::from(f.data[6]), i % 16, "{id:x}");
            let sum = f.data[..7].iter().fold(0u8, |s, b| s.wrapping_add(*b));
            assert_eq!(f.data[7], sum.wrapping_add(id as u8).wrapping_add((id >> 8) as u8), "{id:x}");
        }
    }
    let first = by_id[&0x50].iter().find(|f| f.data[0] & 1 == 1).unwrap().t.as_s();
    assert!((first - airbag_s).abs() < 0.002, "{first} {airbag_s}");
    for f in &by_id[&0x100] {
        let shown = f64::from(u16::from_le_bytes([f.data[0], f.data[1]])) * 0.01;
        let (v, _) = drive.motion((f.t.0 / 1_000_000) as usize);
        assert!((shown - v.abs() * 3.6 * 1.005).abs() < 0.3, "{shown} {v}");
    }
}

#[test]
fn the_inertial_sensor_rests_at_one_g_and_clips_at_sixteen() {
    let range = 16.0 * 9.806_65;
    for (hz, per_second) in [(100, 100), (500, 500)] {
        let options = DriveOptions { imu_hz: hz, ..BLIND };
        let mut standing = WorldDrive::new(&scenario("slammed_door"), 3, options).unwrap();
        let door = standing.truth().sensors.accel_bias_mps2;
        let samples: Vec<_> = records(&mut standing)
            .into_iter()
            .filter_map(|r| if let SimRecord::Imu(s) = r { Some(s) } else { None })
            .collect();
        assert_eq!(samples.len(), (standing.length_ms() * per_second).div_ceil(1000));
        let mean =
            (0..3).map(|i| samples.iter().map(|s| f64::from(s.accel_mps2[i])).sum::<f64>() / samples.len() as f64);
        let norm = mean.zip(door).map(|(m, b)| (m - b) * (m - b)).sum::<f64>().sqrt();
        // Scale and misalignment are within some percent.
        assert!((norm - 9.806_65).abs() < 0.25, "{hz}: {norm}");
        let shock =
            samples.iter().map(|s| s.accel_mps2.iter().map(|x| x.abs()).fold(0.0, f32::max)).fold(0.0, f32::max);
        assert!((10.0..80.0).contains(&shock), "{hz}: {shock}");
    }
    let hard = (0..12).map(|seed| drive("head_on", seed)).find(|d| d.truth().event.as_ref().unwrap().peak_mps2 > 190.0);
    let peak = records(&mut hard.unwrap())
        .iter()
        .filter_map(|r| if let SimRecord::Imu(s) = r { Some(s.accel_mps2) } else { None })
        .flatten()
        .fold(0.0f32, |m, x| m.max(x.abs()));
    assert!((f64::from(peak) - range).abs() < 0.01, "{peak}");
}

#[test]
fn fixes_follow_the_vehicle_and_pause_in_the_tunnel() {
    let mut drive = drive("tunnel", 5);
    let outages = drive.truth().sensors.gnss_outages_s.clone();
    assert!(!outages.is_empty());
    let mut count = 0;
    for record in records(&mut drive) {
        let SimRecord::Gnss(fix) = record else { continue };
        let (v, _) = drive.motion((fix.t.0 / 1_000_000) as usize);
        assert!((f64::from(fix.speed_mps) - v).abs() < 0.7, "{fix:?} {v}");
        assert!(outages.iter().all(|(a, b)| !(*a..*b).contains(&fix.t.as_s())), "{fix:?} {outages:?}");
        count += 1;
    }
    assert!(count > 20 && count < drive.length_ms() / 200, "{count}");
}

#[test]
fn the_camera_sees_the_one_that_will_be_hit_grow() {
    let options = DriveOptions { size: [320, 192], fps: 5.0, ..BLIND };
    let mut drive = WorldDrive::new(&scenario("standing_queue"), 6, options).unwrap();
    let contact = drive.truth().event.as_ref().unwrap().contact_s;
    let id = drive.truth().contacts[0].who.into_iter().flatten().find(|id| *id != 0).unwrap();
    let mut camera = Camera::new(320, 192, CameraLook::default());
    let (mut rgb, mut boxes, mut widths) = (vec![0; 320 * 192 * 3], Vec::new(), Vec::new());
    while let Some(next) = drive.next_due() {
        let Next::Picture { t, .. } = next else { continue };
        let before = contact - t.as_s();
        if !(0.0..3.0).contains(&before) {
            continue;
        }
        let scene = drive.scene((t.0 / 1_000_000) as usize);
        camera.render(&scene, &mut rgb);
        camera.boxes(&scene, &mut boxes);
        widths.extend(boxes.iter().find(|b| b.id == id).map(|b| b.corners[2] - b.corners[0]));
    }
    assert!(widths.len() >= 10, "{widths:?}");
    let growth = f64::from(*widths.last().unwrap()) / f64::from(widths[0]);
    assert!(growth > 2.5, "{widths:?}");
}

#[test]
fn a_first_sign_is_seen_and_one_behind_something_else_only_when_it_comes_out() {
    // Seeds in which the crossing vehicle is hidden while its way already is a danger.
    let mut out_of_hiding = 0;
    for (name, seed) in [("crossing_red", 618), ("crossing_motorbike", 462), ("ego_red_light", 128), ("rear_end", 2)] {
        let mut drive = WorldDrive::new(&scenario(name), seed, BLIND).unwrap();
        let event = drive.truth().event.clone().unwrap();
        let id = drive.truth().contacts[0].who.into_iter().flatten().find(|id| *id != 0).unwrap();
        let look = CameraLook { bonnet_height: drive.look().bonnet_height, ..CameraLook::default() };
        let mut camera = Camera::new(640, 360, look);
        let (mut rgb, mut boxes) = (vec![0; 640 * 360 * 3], Vec::new());
        let mut seen_at = |s: f64| {
            let scene = drive.scene((s * 1000.0).round() as usize);
            camera.render(&scene, &mut rgb);
            camera.boxes(&scene, &mut boxes);
            boxes.iter().find(|b| b.id == id).map_or(0, |b| b.pixels)
        };
        assert!(event.sign_in_view, "{name} {seed}");
        assert!(seen_at(event.first_sign_s) >= 20, "{name} {seed}: not seen");
        let (before, after) = (seen_at(event.first_sign_s - 0.1), seen_at(event.first_sign_s + 0.5));
        assert!(after > 40, "{name} {seed}: {after} pixels half a second later");
        out_of_hiding += usize::from(before < 24 && name != "rear_end");
    }
    assert_eq!(out_of_hiding, 3);
}
