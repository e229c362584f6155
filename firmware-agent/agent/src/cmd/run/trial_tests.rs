//! What makes an update confirmed or fallen back from, without threads and clocks.

use agent_update::{Entry, Manifest, Version};
use agent_wire::UnitId;

use super::*;

const LIVE: &str = "[sources]\nkind = \"device\"\n[sources.camera]\nkind = \"test\"\n[sources.imu]\nkind = \"bmi160\"\ndevice = \"/dev/i2c-1\"\n[sources.can]\ninterfaces = [\"can0\"]\n[sources.gnss]\nkind = \"gpsd\"\n";

fn slot(role: Role) -> Slot {
    let entry = Entry { role, name: "f".to_owned(), bytes: 0, sha256: agent_update::Digest([0; 32]) };
    let fleet = UnitId::new("north").unwrap();
    let manifest =
        Manifest { fleet, units: vec![], sequence: 7, made_unix_ms: 0, min_agent: Version([0; 3]), files: vec![entry] };
    Slot { folder: "u".into(), manifest, trial: None }
}

fn config(text: &str) -> Config {
    crate::config::load_str("unit.toml", text).unwrap_or_else(|e| panic!("{e}"))
}

const ALL: Came = Came { frames: true, imu: true, can: true, gnss: true, student: true };

#[test]
fn what_is_needed_is_what_came_before_and_is_still_configured() {
    let of = |text: &str, came, role, (detector, student)| {
        Needs::of(&config(text), came, &slot(role), Has { detector, student, other_brokers: false })
    };
    let known = of(LIVE, Some(ALL), Role::Config, (true, true));
    assert_eq!(known, Needs { kinds: [true; 4], seen: true, student: true, session: false, anything: false });
    let first = of(LIVE, None, Role::Config, (true, false));
    assert_eq!((first.kinds, first.seen, first.student), ([true, true, false, false], true, false));
    let without = of(&LIVE.replace("\"test\"", "\"none\""), Some(ALL), Role::Config, (true, false));
    assert_eq!((without.kinds, without.seen), ([false, true, true, true], false));
    let silent = Came { student: false, frames: false, ..ALL };
    let never = of(LIVE, Some(silent), Role::Config, (true, true));
    assert_eq!((never.kinds[0], never.seen, never.student), (false, false, false));
    assert!(of(LIVE, Some(silent), Role::Student, (true, true)).student, "what an update brings must speak");
    let drive = of("", None, Role::Config, (true, false));
    assert_eq!((drive.kinds, drive.anything), ([false; 4], true));
    assert_eq!(of("", Some(ALL), Role::Config, (false, false)).kinds, [true; 4]);
}

/// A judge of 10 s, or 6 s well, and how it is told of second after second.
struct Bench {
    judge: Judge,
    begun: Instant,
    sight: Sight,
}

impl Bench {
    fn new(needs: Needs) -> Self {
        let begun = Instant::now();
        let config = config("[updates]\ntrial_s = 10\nwell_s = 6\n");
        Self { judge: Judge::new(needs, &config, begun), begun, sight: Sight::default() }
    }

    /// Seconds from..to, in each of which `change` happens. The first verdict that decides, with its second.
    fn run(&mut self, seconds: std::ops::Range<u64>, change: impl Fn(u64, &mut Sight)) -> Option<(u64, Verdict)> {
        seconds.into_iter().find_map(|s| {
            change(s, &mut self.sight);
            let verdict = self.judge.look(self.begun + Duration::from_secs(s), self.sight);
            (verdict != Verdict::Undecided).then_some((s, verdict))
        })
    }
}

const CAMERA: Needs =
    Needs { kinds: [true, false, false, false], seen: true, student: false, session: false, anything: false };

fn fails(why: &str) -> Verdict {
    Verdict::Fails(format!("not well within 10 s: {why}"))
}

fn frames(_: u64, sight: &mut Sight) {
    sight.counts[0] += 10;
    sight.seen += 10;
}

#[test]
fn well_for_long_enough_is_confirmed_and_a_break_begins_it_anew() {
    assert_eq!(Bench::new(CAMERA).run(0..60, frames), Some((6, Verdict::Works)));
    let hangs = |s, sight: &mut Sight| {
        frames(s, sight);
        sight.hung = (s == 3).then_some("core");
    };
    assert_eq!(Bench::new(CAMERA).run(0..60, hangs), Some((10, Verdict::Works)));
    // Well when the time is up: it may finish.
    let late = |s, sight: &mut Sight| {
        if s >= 8 {
            frames(s, sight)
        }
    };
    assert_eq!(Bench::new(CAMERA).run(0..60, late), Some((14, Verdict::Works)));
}

#[test]
fn each_thing_that_is_missing_is_named() {
    assert_eq!(Bench::new(CAMERA).run(0..60, |_, _| {}), Some((10, fails("no frames"))));
    let stops = |s, sight: &mut Sight| {
        if s < 1 {
            frames(s, sight)
        }
    };
    assert_eq!(Bench::new(CAMERA).run(0..60, stops), Some((10, fails("no frames"))));
    let unseen = |_, sight: &mut Sight| sight.counts[0] += 1;
    let said = fails("the trigger model ran on 0 frames, not yet on 10");
    assert_eq!(Bench::new(CAMERA).run(0..60, unseen), Some((10, said)));
    let disk = |s, sight: &mut Sight| {
        frames(s, sight);
        sight.outbox_failing = true;
    };
    assert_eq!(Bench::new(CAMERA).run(0..60, disk), Some((10, fails("the outbox cannot be written"))));
    let hangs = |s, sight: &mut Sight| {
        frames(s, sight);
        sight.hung = Some("look");
    };
    assert_eq!(Bench::new(CAMERA).run(0..60, hangs), Some((10, fails("the look stage hangs"))));
    let student = Needs { student: true, ..CAMERA };
    assert_eq!(Bench::new(student).run(0..60, frames), Some((10, fails("no word of the student's worker"))));
    let any = Needs { kinds: [false; 4], seen: false, anything: true, ..CAMERA };
    assert_eq!(Bench::new(any).run(0..60, |_, _| {}), Some((10, fails("nothing comes from the drives"))));
    assert_eq!(Bench::new(any).run(0..60, |_, sight| sight.counts[2] += 1), Some((6, Verdict::Works)));
}

#[test]
fn buses_receivers_and_brokers_have_ten_times_as_long_and_nothing_else_has() {
    let bus = Needs { kinds: [true, false, true, false], ..CAMERA };
    let asleep = |s, sight: &mut Sight| {
        frames(s, sight);
        sight.counts[2] += u64::from(s >= 60);
    };
    assert_eq!(Bench::new(bus).run(0..200, asleep), Some((66, Verdict::Works)));
    let never = Verdict::Fails("not well within 100 s: no CAN frames".to_owned());
    assert_eq!(Bench::new(bus).run(0..200, frames), Some((100, never)));
    let far = Needs { session: true, ..CAMERA };
    let never = Verdict::Fails("not well within 100 s: none of its brokers answers".to_owned());
    assert_eq!(Bench::new(far).run(0..200, frames), Some((100, never)));
    let reached = |s, sight: &mut Sight| {
        frames(s, sight);
        sight.session = s >= 30;
    };
    assert_eq!(Bench::new(far).run(0..200, reached), Some((36, Verdict::Works)));
    let blind = |s, sight: &mut Sight| {
        if s < 20 {
            frames(s, sight)
        }
    };
    assert_eq!(Bench::new(bus).run(0..200, blind), Some((24, fails("no frames"))));
}

#[test]
fn what_the_core_says_is_what_is_seen() {
    let vitals = Vitals::default();
    assert_eq!(vitals.look(None).came(), Came::default());
    vitals.frame();
    vitals.seen();
    vitals.student();
    vitals.link(LinkState { store_failing: true, connected: true });
    vitals.link(LinkState { store_failing: true, connected: false });
    assert!(vitals.look(None).session, "a session that stood will do");
    let sight = vitals.look(Some("seal"));
    assert_eq!((sight.counts, sight.seen, sight.outbox_failing, sight.hung), ([1, 0, 0, 0], 1, true, Some("seal")));
    assert_eq!(sight.came(), Came { frames: true, student: true, ..Came::default() });
}
