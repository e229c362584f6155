//! The words of the truth: closed sets of descriptions, causes and preventions, in our own wording.
//!
//! A code never changes its meaning; a new meaning gets a new code. Which of them holds follows from what happened in
//! the simulation, never from a text in the scenario.

/// A code and its words.
pub type Words = (&'static str, &'static str);

/// What happened: who hits whom.
pub const DESCRIPTIONS: [Words; 27] = [
    ("none", "no collision"),
    ("ego_rear_car", "ego vehicle runs into the back of a car"),
    ("ego_rear_large", "ego vehicle runs into the back of a truck or bus"),
    ("ego_rear_motorbike", "ego vehicle runs into the back of a motorbike"),
    ("ego_cross_car", "ego vehicle hits a crossing car"),
    ("ego_cross_large", "ego vehicle hits a crossing truck or bus"),
    ("ego_cross_motorbike", "ego vehicle hits a crossing motorbike"),
    ("ego_turning", "ego vehicle hits a vehicle turning across its way"),
    ("ego_pull_out", "ego vehicle hits a vehicle leaving the roadside"),
    ("ego_cut_in", "ego vehicle hits a vehicle that cut in"),
    ("ego_parked", "ego vehicle hits a parked vehicle"),
    ("ego_head_on", "ego vehicle meets an oncoming vehicle head-on"),
    ("ego_cyclist", "ego vehicle hits a cyclist"),
    ("ego_pedestrian", "ego vehicle hits a pedestrian"),
    ("ego_animal", "ego vehicle hits an animal"),
    ("ego_fallen", "ego vehicle hits a fallen motorbike"),
    ("ego_object", "ego vehicle hits an object on the road"),
    ("ego_road_block", "ego vehicle hits a road block"),
    ("ego_kerb", "ego vehicle strikes the kerb"),
    ("struck_rear", "vehicle runs into the back of the ego vehicle"),
    ("struck_side", "vehicle hits the side of the ego vehicle"),
    ("others_rear", "car runs into the back of another car"),
    ("others_rear_large", "truck runs into the back of a car"),
    ("others_cross", "car hits a crossing car"),
    ("others_motorbike", "car hits a motorbike"),
    ("others_cyclist", "car hits a cyclist"),
    ("others_pedestrian", "car hits a pedestrian"),
];

/// Why.
pub const CAUSES: [Words; 24] = [
    ("none", "no accident, no cause"),
    ("too_close", "the ego vehicle followed too closely"),
    ("late_brake", "the ego driver answered the braking ahead too late"),
    ("late_standing", "the ego driver noticed the standing traffic too late"),
    ("wet_road", "the wet road made the braking too long"),
    ("poor_sight", "darkness or fog hid the danger until late"),
    ("cut_in", "another vehicle changed lanes with too little room"),
    ("pull_out", "a vehicle left the roadside without giving way"),
    ("ran_light", "another vehicle drove through a red light"),
    ("no_way", "another vehicle crossed without giving way"),
    ("ego_light", "the ego vehicle drove through a red light"),
    ("turned_across", "an oncoming vehicle turned left without giving way"),
    ("left_its_lane", "an oncoming vehicle left its lane"),
    ("stepped_out", "a pedestrian walked on to the road without looking"),
    ("ran_out", "a child ran on to the road"),
    ("rode_out", "a cyclist rode on to the road without giving way"),
    ("swung_out", "a two-wheeler swung out in front of the ego vehicle"),
    ("animal", "an animal ran on to the road"),
    ("fell", "a motorbike ahead fell"),
    ("late_obstacle", "the ego driver noticed the obstacle too late"),
    ("no_room", "the ego driver passed a parked vehicle without room"),
    ("off_lane", "the ego driver steered off the lane"),
    ("follower_late", "the following driver did not brake in time"),
    ("others_late", "the driver ahead did not brake in time for the one before"),
];

/// What would have helped.
pub const PREVENTIONS: [Words; 17] = [
    ("none", "no accident, no prevention needed"),
    ("distance", "keep at least two seconds behind the vehicle ahead"),
    ("watch_ahead", "watch the road ahead and brake as soon as others do"),
    ("slow_wet", "drive more slowly and keep more distance on a wet road"),
    ("slow_sight", "drive so that you can stop within what you see"),
    ("leave_room", "ease off early and leave room for vehicles that change lanes"),
    ("roadside", "pass parked vehicles slowly and with a door's width of room"),
    ("junction", "look both ways before a junction and be ready to brake"),
    ("stop_red", "stop at the red light"),
    ("turning", "expect oncoming vehicles to turn and slow down before the junction"),
    ("keep_right", "keep to the right and brake early when an oncoming vehicle drifts"),
    ("people", "slow down where people stand at the roadside"),
    ("children", "drive slowly where children may run out"),
    ("two_wheelers", "pass two-wheelers with one and a half metres of room"),
    ("animals", "slow down where animals may cross"),
    ("stay_in_lane", "keep both hands on the wheel and the vehicle in its lane"),
    ("mirror", "watch the mirror while braking and leave room to move on"),
];

/// The words of a code.
#[must_use]
pub fn words(set: &'static [Words], code: &str) -> Option<&'static str> {
    set.iter().find(|(c, _)| *c == code).map(|(_, words)| *words)
}

/// The prevention that belongs to a cause.
#[must_use]
pub fn prevention_of(cause: &str) -> &'static str {
    match cause {
        "too_close" => "distance",
        "late_brake" | "late_standing" | "late_obstacle" | "others_late" | "fell" => "watch_ahead",
        "wet_road" => "slow_wet",
        "poor_sight" => "slow_sight",
        "cut_in" => "leave_room",
        "pull_out" | "no_room" => "roadside",
        "ran_light" | "no_way" => "junction",
        "ego_light" => "stop_red",
        "turned_across" => "turning",
        "left_its_lane" => "keep_right",
        "stepped_out" => "people",
        "ran_out" => "children",
        "rode_out" | "swung_out" => "two_wheelers",
        "animal" => "animals",
        "off_lane" => "stay_in_lane",
        "follower_late" => "mirror",
        _ => "none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_every_cause_has_a_prevention_with_words() {
        for set in [&DESCRIPTIONS[..], &CAUSES[..], &PREVENTIONS[..]] {
            for (i, (code, words)) in set.iter().enumerate() {
                assert!(set[i + 1..].iter().all(|(c, w)| c != code && w != words), "{code}");
            }
        }
        for (cause, _) in CAUSES {
            let prevention = prevention_of(cause);
            assert!(words(&PREVENTIONS, prevention).is_some(), "{cause}: {prevention}");
            assert_eq!(prevention == "none", cause == "none", "{cause}");
        }
    }
}
