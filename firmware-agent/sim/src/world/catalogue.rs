//! The built-in scenarios, by name.

use super::scenario::{Expect, Scenario, ScenarioError};
use crate::rng::Rng;

/// Name and text of every built-in scenario file.
const FILES: [(&str, &str); 87] = [
    ("rear_end", include_str!("../../assets/scenarios/rear_end.toml")),
    ("rear_end_close", include_str!("../../assets/scenarios/rear_end_close.toml")),
    ("rear_end_truck", include_str!("../../assets/scenarios/rear_end_truck.toml")),
    ("rear_end_motorbike", include_str!("../../assets/scenarios/rear_end_motorbike.toml")),
    ("standing_queue", include_str!("../../assets/scenarios/standing_queue.toml")),
    ("standing_truck", include_str!("../../assets/scenarios/standing_truck.toml")),
    ("crossing_car", include_str!("../../assets/scenarios/crossing_car.toml")),
    ("crossing_red", include_str!("../../assets/scenarios/crossing_red.toml")),
    ("crossing_truck", include_str!("../../assets/scenarios/crossing_truck.toml")),
    ("crossing_motorbike", include_str!("../../assets/scenarios/crossing_motorbike.toml")),
    ("ego_red_light", include_str!("../../assets/scenarios/ego_red_light.toml")),
    ("turning_car", include_str!("../../assets/scenarios/turning_car.toml")),
    ("pull_out", include_str!("../../assets/scenarios/pull_out.toml")),
    ("cut_in", include_str!("../../assets/scenarios/cut_in.toml")),
    ("parked_car", include_str!("../../assets/scenarios/parked_car.toml")),
    ("head_on", include_str!("../../assets/scenarios/head_on.toml")),
    ("cyclist_crossing", include_str!("../../assets/scenarios/cyclist_crossing.toml")),
    ("cyclist_swings_out", include_str!("../../assets/scenarios/cyclist_swings_out.toml")),
    ("pedestrian", include_str!("../../assets/scenarios/pedestrian.toml")),
    ("child", include_str!("../../assets/scenarios/child.toml")),
    ("animal", include_str!("../../assets/scenarios/animal.toml")),
    ("fallen_motorbike", include_str!("../../assets/scenarios/fallen_motorbike.toml")),
    ("debris", include_str!("../../assets/scenarios/debris.toml")),
    ("road_block", include_str!("../../assets/scenarios/road_block.toml")),
    ("kerb", include_str!("../../assets/scenarios/kerb.toml")),
    ("hit_from_behind", include_str!("../../assets/scenarios/hit_from_behind.toml")),
    ("hit_from_behind_motorway", include_str!("../../assets/scenarios/hit_from_behind_motorway.toml")),
    ("hit_from_side", include_str!("../../assets/scenarios/hit_from_side.toml")),
    ("others_rear_end", include_str!("../../assets/scenarios/others_rear_end.toml")),
    ("others_truck", include_str!("../../assets/scenarios/others_truck.toml")),
    ("others_motorbike", include_str!("../../assets/scenarios/others_motorbike.toml")),
    ("others_crossing", include_str!("../../assets/scenarios/others_crossing.toml")),
    ("others_crossing_red", include_str!("../../assets/scenarios/others_crossing_red.toml")),
    ("others_pedestrian", include_str!("../../assets/scenarios/others_pedestrian.toml")),
    ("others_cyclist", include_str!("../../assets/scenarios/others_cyclist.toml")),
    ("near_rear_end", include_str!("../../assets/scenarios/near_rear_end.toml")),
    ("near_truck", include_str!("../../assets/scenarios/near_truck.toml")),
    ("near_motorbike", include_str!("../../assets/scenarios/near_motorbike.toml")),
    ("near_standing", include_str!("../../assets/scenarios/near_standing.toml")),
    ("near_crossing", include_str!("../../assets/scenarios/near_crossing.toml")),
    ("near_crossing_red", include_str!("../../assets/scenarios/near_crossing_red.toml")),
    ("near_turning", include_str!("../../assets/scenarios/near_turning.toml")),
    ("near_pull_out", include_str!("../../assets/scenarios/near_pull_out.toml")),
    ("near_cut_in", include_str!("../../assets/scenarios/near_cut_in.toml")),
    ("near_parked", include_str!("../../assets/scenarios/near_parked.toml")),
    ("near_oncoming", include_str!("../../assets/scenarios/near_oncoming.toml")),
    ("near_pedestrian", include_str!("../../assets/scenarios/near_pedestrian.toml")),
    ("near_child", include_str!("../../assets/scenarios/near_child.toml")),
    ("near_cyclist", include_str!("../../assets/scenarios/near_cyclist.toml")),
    ("near_swing_out", include_str!("../../assets/scenarios/near_swing_out.toml")),
    ("near_animal", include_str!("../../assets/scenarios/near_animal.toml")),
    ("near_fall", include_str!("../../assets/scenarios/near_fall.toml")),
    ("near_obstacle", include_str!("../../assets/scenarios/near_obstacle.toml")),
    ("town", include_str!("../../assets/scenarios/town.toml")),
    ("town_light", include_str!("../../assets/scenarios/town_light.toml")),
    ("town_junction", include_str!("../../assets/scenarios/town_junction.toml")),
    ("town_turn", include_str!("../../assets/scenarios/town_turn.toml")),
    ("motorway", include_str!("../../assets/scenarios/motorway.toml")),
    ("country", include_str!("../../assets/scenarios/country.toml")),
    ("following", include_str!("../../assets/scenarios/following.toml")),
    ("crossing_waits", include_str!("../../assets/scenarios/crossing_waits.toml")),
    ("crossing_yields", include_str!("../../assets/scenarios/crossing_yields.toml")),
    ("crossing_yields_left", include_str!("../../assets/scenarios/crossing_yields_left.toml")),
    ("people_wait", include_str!("../../assets/scenarios/people_wait.toml")),
    ("passing_cyclist", include_str!("../../assets/scenarios/passing_cyclist.toml")),
    ("passing_parked", include_str!("../../assets/scenarios/passing_parked.toml")),
    ("oncoming_close", include_str!("../../assets/scenarios/oncoming_close.toml")),
    ("pull_out_ahead", include_str!("../../assets/scenarios/pull_out_ahead.toml")),
    ("turns_behind", include_str!("../../assets/scenarios/turns_behind.toml")),
    ("lane_change_ahead", include_str!("../../assets/scenarios/lane_change_ahead.toml")),
    ("emergency_stop", include_str!("../../assets/scenarios/emergency_stop.toml")),
    ("pothole", include_str!("../../assets/scenarios/pothole.toml")),
    ("speed_bump", include_str!("../../assets/scenarios/speed_bump.toml")),
    ("level_crossing", include_str!("../../assets/scenarios/level_crossing.toml")),
    ("kerb_parking", include_str!("../../assets/scenarios/kerb_parking.toml")),
    ("slammed_door", include_str!("../../assets/scenarios/slammed_door.toml")),
    ("unit_knocked", include_str!("../../assets/scenarios/unit_knocked.toml")),
    ("unit_knocked_standing", include_str!("../../assets/scenarios/unit_knocked_standing.toml")),
    ("wipers", include_str!("../../assets/scenarios/wipers.toml")),
    ("low_sun", include_str!("../../assets/scenarios/low_sun.toml")),
    ("tunnel", include_str!("../../assets/scenarios/tunnel.toml")),
    ("night", include_str!("../../assets/scenarios/night.toml")),
    ("heavy_rain", include_str!("../../assets/scenarios/heavy_rain.toml")),
    ("fog", include_str!("../../assets/scenarios/fog.toml")),
    ("car_wash", include_str!("../../assets/scenarios/car_wash.toml")),
    ("near_kerb", include_str!("../../assets/scenarios/near_kerb.toml")),
    ("near_behind", include_str!("../../assets/scenarios/near_behind.toml")),
];

/// Files that the mix draws from: those that were there when what ships was trained, so that its recipes draw the same drives again.
const MIXED: usize = 85;

/// Shares of the mix: collisions of the ego vehicle, of others, near collisions; the rest is normal driving.
const MIX: [f64; 3] = [0.34, 0.10, 0.20];

/// The scenario of a seed in the built-in mix.
#[must_use]
pub fn scenario_of(seed: u64) -> &'static str {
    let mut rng = Rng::new(seed, 199);
    let draw = rng.unit();
    let pick = rng.next_u64() as usize;
    let group = if draw < MIX[0] {
        Expect::Collision
    } else if draw < MIX[0] + MIX[1] {
        Expect::CollisionOfOthers
    } else if draw < MIX[0] + MIX[1] + MIX[2] {
        Expect::NearCollision
    } else {
        Expect::Normal
    };
    let of_group = || FILES.iter().take(MIXED).filter(|(_, text)| text.contains(group.line()));
    of_group().nth(pick % of_group().count().max(1)).map_or("town", |(name, _)| name)
}

/// Names of the built-in scenarios, in the order in which they are listed.
pub fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, _)| *name)
}

/// A built-in scenario, `None` if there is none of that name.
///
/// # Errors
/// Those of [`Scenario::parse`]; the files that ship have none, which a test holds.
pub fn built_in(name: &str) -> Option<Result<Scenario, ScenarioError>> {
    FILES.iter().find(|(n, _)| *n == name).map(|(_, text)| Scenario::parse(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_scenario_is_read_and_has_its_files_name() {
        for name in names() {
            let scenario = built_in(name).unwrap().unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(scenario.name(), name);
        }
    }
}
