//! The whole agent in a simulated world: weeks of virtual time, with seeded faults of every source, the student, the disk and
//! the network at once.
//!
//! A *world* is a list of *happenings* drawn from a seed: drives, crashes, and faults that last a while. The unit in it is made of
//! the parts that `run` is made of (core, outbox policy, store, evidence), put together in the same order; threads, sockets and
//! clocks are not in it, and everything goes by one virtual clock, so that the same world gives the same trace. What must
//! hold is asked at every step. A world that fails is shrunk to the happenings that it fails by.
//!
//! `AGENT_WORLDS=500 AGENT_WORLD_SEED=1 cargo test --release -p firmware-agent world_tests -- --nocapture` runs more of them.

mod fleet;
mod link;
mod unit;

use agent_sim::rng::Rng;

use unit::World;

/// Days of one world; of one with a planted fault, which is lived many times.
const DAYS: u64 = 14;
const FEW_DAYS: u64 = 2;
const DAY: u64 = 86_400;
/// At the end everything works, for so long: what waits must arrive.
const CALM: u64 = 300;
/// Runs that shrinking a world may take.
const SHRINK_RUNS: usize = 300;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    /// The ignition is on for so many seconds.
    Drive(u64),
    /// An impact of so many g, as the motion sensor feels it.
    Impact(f32),
    /// An airbag, as the bus tells it.
    Airbag,
    /// A lesser event, as a configured signal tells it.
    Lesser,
    /// Sources that are silent for so many seconds.
    NoCamera(u64),
    NoImu(u64),
    NoCan(u64),
    NoGnss(u64),
    /// Frames that the camera loses.
    FramesLost(u64),
    /// The wall clock jumps by so many seconds.
    ClockStep(i64),
    /// No way to the broker for so many seconds.
    NoNetwork(u64),
    /// The broker acknowledges nothing, or everything twice, for so many seconds.
    NoAcks(u64),
    AcksTwice(u64),
    /// The student gives no word, or a late one, for so many seconds.
    StudentSilent(u64),
    StudentLate(u64),
    /// The disk is full, fails or is read-only for so many seconds.
    DiskFull(u64),
    DiskFails(u64),
    DiskReadOnly(u64),
    /// The disk answers nothing for so many seconds.
    DiskHangs(u64),
    /// The power goes after so many more operations of the disk, at the latest in ten seconds, and comes back after so many seconds.
    PowerCut(u64, u64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Happening {
    /// Seconds from the world's begin.
    at: u64,
    what: What,
}

/// A fault of the agent itself, planted to see that it is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Planted {
    #[default]
    None,
    /// Messages are sent before they are stored.
    SendsFirst,
    /// Evidence is named without being synced.
    NoSync,
    /// Every start has the same number.
    SameStart,
}

/// Two drives a day with what may happen in them, and faults at any time.
fn draw(seed: u64, days: u64) -> Vec<Happening> {
    let mut rng = Rng::new(seed, 7);
    let mut below = |n: u64| rng.next_u64() % n.max(1);
    let mut all = Vec::new();
    for day in 0..days {
        for hour in [7, 17] {
            let (at, length) = (day * DAY + hour * 3600 + below(1800), 300 + below(900));
            all.push(Happening { at, what: What::Drive(length) });
            for _ in 0..below(3) {
                let what = match below(4) {
                    0 => What::Impact(18.0 + below(20) as f32),
                    1 => What::Airbag,
                    _ => What::Lesser,
                };
                all.push(Happening { at: at + 60 + below(length - 60), what });
            }
            for _ in 0..below(4) {
                let last = 1 + below(240);
                let what = match below(18) {
                    0 => What::NoCamera(last),
                    1 => What::NoImu(last),
                    2 => What::NoCan(last),
                    3 => What::NoGnss(last),
                    4 => What::FramesLost(1 + below(50)),
                    5 => What::ClockStep(below(7200) as i64 - 3600),
                    // Weeks under the ground, too.
                    6 => What::NoNetwork(last * if below(4) == 0 { 3000 } else { 1 }),
                    7 => What::NoAcks(last),
                    8 => What::AcksTwice(last),
                    9 => What::StudentSilent(last),
                    10 => What::StudentLate(last),
                    11 => What::DiskFull(last),
                    12 => What::DiskFails(last),
                    13 => What::DiskReadOnly(last),
                    14 => What::DiskHangs(last),
                    _ => What::PowerCut(below(12), 1 + below(600)),
                };
                all.push(Happening { at: at + below(length), what });
            }
        }
    }
    all.sort_by_key(|h| h.at);
    all
}

/// Lives a world to its calm end; its trace, or what did not hold.
fn live(seed: u64, happenings: &[Happening], planted: Planted) -> Result<Trace, String> {
    let mut world = World::new(seed, planted);
    let end = happenings.last().map_or(0, |last| last.at) / DAY * DAY + DAY;
    let mut next = 0;
    while let Some(happening) = happenings.get(next) {
        world.until(happening.at)?;
        world.happen(happening.what);
        next += 1;
    }
    world.until(end)?;
    world.calm();
    world.happen(What::Drive(CALM));
    world.until(end + CALM + 60)?;
    world.end()
}

/// What a world came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Trace {
    /// Everything that was said and done, in order, as one number.
    hash: u64,
    samples: u64,
    starts: u64,
    cuts: u64,
    events: u64,
    crashes: u64,
    delivered: u64,
    doubled: u64,
    given_up: u64,
    /// Messages that were sent while the disk did not take them.
    not_durable: u64,
}

/// Takes happenings away, halves first, as long as the world still fails.
fn shrink(seed: u64, happenings: &[Happening], planted: Planted) -> Vec<Happening> {
    let (mut all, mut part, mut runs) = (happenings.to_vec(), happenings.len() / 2, 0);
    while part > 0 && runs < SHRINK_RUNS {
        let (mut at, before) = (0, all.len());
        while at < all.len() && runs < SHRINK_RUNS {
            let mut less = all.clone();
            less.drain(at..(at + part).min(all.len()));
            runs += 1;
            if live(seed, &less, planted).is_err() { all = less } else { at += part }
        }
        if all.len() == before || part > all.len() {
            part = if part == 1 { 0 } else { part / 2 };
        }
    }
    all
}

fn fail(seed: u64, what: &str, happenings: &[Happening], planted: Planted) -> String {
    let least = shrink(seed, happenings, planted);
    let why = live(seed, &least, planted).err().unwrap_or_default();
    format!("world {seed}: {what}\nshrunk to {} happenings ({why}): {least:#?}", least.len())
}

#[test]
fn weeks_of_faults_break_no_promise_and_go_the_same_way_twice() {
    let number = |name: &str, plain: u64| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(plain);
    let (worlds, first) = (number("AGENT_WORLDS", 2), number("AGENT_WORLD_SEED", 3));
    let mut sum = Trace::default();
    for seed in first..first + worlds {
        let happenings = draw(seed, DAYS);
        let trace = live(seed, &happenings, Planted::None)
            .unwrap_or_else(|what| panic!("{}", fail(seed, &what, &happenings, Planted::None)));
        if seed == first {
            assert_eq!(live(seed, &happenings, Planted::None), Ok(trace.clone()), "world {seed} went another way");
            assert_ne!(live(seed + 1_000_000, &happenings, Planted::None).map(|t| t.hash), Ok(trace.hash));
        }
        sum.samples += trace.samples;
        sum.starts += trace.starts;
        sum.cuts += trace.cuts;
        sum.events += trace.events;
        sum.crashes += trace.crashes;
        sum.delivered += trace.delivered;
        sum.doubled += trace.doubled;
        sum.given_up += trace.given_up;
        sum.not_durable += trace.not_durable;
    }
    crate::show::say!("{worlds} worlds of {DAYS} days from seed {first}: {sum:?}");
    // It was a world with something in it.
    assert!(
        sum.cuts >= worlds && sum.crashes > 3 * worlds && sum.delivered > sum.crashes && sum.doubled > 0,
        "{sum:?}"
    );
}

#[test]
fn planted_faults_are_found_and_shrunk_to_what_they_need() {
    for (planted, most) in [(Planted::SendsFirst, 3), (Planted::NoSync, 4), (Planted::SameStart, 4)] {
        let found = (1..40).find_map(|seed| {
            let happenings = draw(seed, FEW_DAYS);
            live(seed, &happenings, planted).is_err().then_some((seed, happenings))
        });
        let (seed, happenings) = found.unwrap_or_else(|| panic!("{planted:?} was never found"));
        let least = shrink(seed, &happenings, planted);
        assert!(
            live(seed, &least, planted).is_err() && live(seed, &least, Planted::None).is_ok(),
            "{planted:?}: {least:?}"
        );
        assert!(least.len() <= most, "{planted:?}: {least:#?}");
    }
}
