//! Speeds, decelerations and changes of velocity are those of the road, and the product's own trigger agrees.

use agent_sim::world::Expect;
use agent_sim::world::truth::Severity;

use super::{all, drive, impacts, largest_delta_v, records};

#[test]
fn rear_end_impacts_have_the_delta_v_of_momentum_and_the_pulse_of_crumple_zones() {
    let mut peaks = Vec::new();
    for seed in 0..16 {
        let drive = drive("rear_end", seed);
        let (truth, contact) = (drive.truth(), &drive.truth().contacts[0]);
        let event = truth.event.as_ref().unwrap();
        // Equal or heavier partner of 1,000 to 3,300 kg against 1,100 to 3,300 kg: 0.24 to 0.76 of the impulse's
        // velocity, with a little either way for what turns.
        let share = -contact.ego_delta_v_mps[0] / (contact.closing_mps * (1.0 + contact.restitution));
        assert!((0.2..0.8).contains(&share), "seed {seed}: {share}");
        assert!(contact.ego_delta_v_mps[1].abs() < 0.45 * contact.ego_delta_v_mps[0].abs(), "seed {seed}");
        assert!((0.05..0.35).contains(&contact.restitution) && (80..=150).contains(&contact.pulse_ms), "seed {seed}");
        // A haversine's peak is twice its mean; the ring and the brakes add to it.
        let mean = contact.ego_delta_v_mps[0].abs() / (contact.pulse_ms as f64 * 1e-3);
        let ratio = event.peak_mps2 / mean;
        assert!((1.6..3.4).contains(&ratio), "seed {seed}: {ratio}");
        assert!(event.ego_takes_part && event.sign_in_view, "seed {seed}");
        let [begin, end] = event.crash_interval_s.unwrap();
        assert!(begin == event.contact_s && (0.49..2.51).contains(&(end - begin)), "seed {seed}: {begin} {end}");
        assert!((0.5..8.0).contains(&(event.contact_s - event.first_sign_s)), "seed {seed}");
        peaks.push(event.peak_mps2 / 9.81);
    }
    peaks.sort_by(f64::total_cmp);
    // Town and country rear-end impacts: several g, no less than one and no more than forty.
    assert!(peaks[0] > 1.0 && peaks[8] > 3.0 && peaks[8] < 20.0 && peaks[15] < 40.0, "{peaks:?}");
}

#[test]
fn people_are_too_light_to_slow_a_vehicle_and_lorries_are_not() {
    for seed in 0..6 {
        assert!(largest_delta_v(&drive("pedestrian", seed)) < 8.0, "seed {seed}");
        let truck = drive("standing_truck", seed);
        let contact = &truck.truth().contacts[0];
        let lost = -contact.ego_delta_v_mps[0] / contact.closing_mps;
        assert!((0.7..1.25).contains(&lost), "seed {seed}: {lost}");
    }
}

#[test]
fn struck_from_behind_the_vehicle_is_pushed_on_and_from_the_side_aside() {
    for seed in 0..6 {
        let behind = drive("hit_from_behind", seed);
        let contact = &behind.truth().contacts[0];
        assert!(contact.ego_delta_v_mps[0] > 1.0, "seed {seed}: {contact:?}");
        assert!(contact.bearing_deg.unwrap().abs() > 120.0, "seed {seed}: {contact:?}");
    }
    // Some of the scenario's drives end with the ego vehicle in the other's side instead.
    let mut struck = 0;
    for seed in 0..12 {
        let side = drive("hit_from_side", seed);
        let contact = &side.truth().contacts[0];
        if side.truth().description.code == "struck_side" {
            let [along, aside] = contact.ego_delta_v_mps;
            assert!(aside.abs() > along.abs(), "seed {seed}: {contact:?}");
            // Away from the side that was struck.
            assert!(aside * contact.bearing_deg.unwrap() < 0.0, "seed {seed}: {contact:?}");
            struck += 1;
        }
        if seed >= 5 && struck > 0 {
            break;
        }
    }
    assert!(struck > 0, "no drive in which the ego vehicle is struck from the side");
}

#[test]
fn drives_without_a_collision_stay_below_the_trigger_and_within_the_tyres() {
    let (mut worst, mut count) = ((0.0, ""), 0);
    for name in all(Expect::Normal).chain(all(Expect::NearCollision)) {
        for seed in [1, 2] {
            let mut drive = drive(name, seed);
            let truth = drive.truth().clone();
            assert_ne!(truth.severity, Severity::Collision, "{name} {seed}");
            let delta_v = largest_delta_v(&drive);
            worst = if delta_v > worst.0 { (delta_v, name) } else { worst };
            assert!(truth.closest.braking_mps2 <= truth.weather.mu * 9.81, "{name} {seed}: {truth:?}");
            let fired = impacts(&records(&mut drive));
            assert!(fired.is_empty(), "{name} {seed}: an impact at {fired:?}");
            count += 1;
        }
    }
    assert!(count > 80 && worst.0 < 6.5, "{worst:?} of {count}");
}

#[test]
fn the_products_trigger_finds_the_impacts_at_the_time_of_the_truth() {
    let (mut found, mut missed) = (0, Vec::new());
    for name in all(Expect::Collision) {
        let mut drive = drive(name, 11);
        let contacts: Vec<f64> = drive.truth().contacts.iter().map(|c| c.t_s).collect();
        let delta_v = largest_delta_v(&drive);
        let fired = impacts(&records(&mut drive));
        for at in &fired {
            assert!(contacts.iter().any(|c| (at - c).abs() < 0.25), "{name}: {at} is none of {contacts:?}");
        }
        // Between 6 and 10 km/h, the brakes' share included, it may do either.
        match (delta_v > 10.0, fired.is_empty()) {
            (true, false) => found += 1,
            (true, true) => missed.push((name, delta_v)),
            (false, _) => {}
        }
    }
    assert!(found >= 15 && missed.is_empty(), "{found} found, missed {missed:?}");
}

#[test]
fn near_misses_of_a_kerb_and_from_behind_touch_nothing_and_say_what_they_were() {
    for seed in [2, 7, 18] {
        let kerb = drive("near_kerb", seed).truth().clone();
        let event = kerb.event.unwrap();
        assert_eq!((kerb.danger, kerb.contacts.len()), ("off_lane", 0), "seed {seed}");
        assert!(
            kerb.closest.ttc_s.is_some_and(|ttc| ttc <= 1.0) && event.sign_in_view,
            "seed {seed}: {:?}",
            kerb.closest
        );
        assert!((0.3..2.0).contains(&(event.contact_s - event.first_sign_s)), "seed {seed}: {event:?}");
        let behind = drive("near_behind", seed).truth().clone();
        assert_eq!((behind.danger, behind.contacts.len()), ("follower_late", 0), "seed {seed}");
        // The camera looks ahead.
        assert!(behind.event.is_some_and(|e| !e.sign_in_view), "seed {seed}");
    }
}
