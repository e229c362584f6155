//! Power cuts, simulated, while updates are installed, tried, confirmed, fallen back from, taken back and removed.
//!
//! A *life* is a row of steps drawn from the seed, on a disk whose power goes at any operation ([`SimDisk`]). A model of its own, four
//! numbers and no disk, says what the record must be after each step; where a step was cut, what it was before or what it would have
//! been. What is then used must be that slot and whole in every byte, the highest sequence never lower than was said, and nothing
//! left but what the record names. Every second recovery is cut too.
//!
//! `AGENT_POWER_CUTS` and `AGENT_POWER_SEED` are those of `power_tests`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use agent_disk::{Disk, DiskFile, How, SimDisk};
use agent_keys::SecretKey;
use agent_sim::rng::Rng;
use agent_update::{
    Came, Chosen, Digest, Entry, Head, Manifest, Role, Settings, Store, Trial, UpdateError, Version, Who,
};
use agent_wire::UnitId;
use sha2::{Digest as _, Sha256};

const DIR: &str = "/state/updates";
/// Steps of one life.
const STEPS: u32 = 7;
/// Starts that an update on trial has.
const STARTS: u32 = 2;
/// Updates that are made, once.
const UPDATES: u64 = 40;

fn key() -> SecretKey {
    SecretKey::from_seed(&[9; 32]).unwrap()
}

/// The files of an update: the same each time, of more than one sector.
fn contents(sequence: u64) -> Vec<(Role, String, Vec<u8>)> {
    let mut rng = Rng::new(sequence, 7);
    let mut of = |role, name: &str, most: u64| {
        let bytes = rng.next_u64() % most;
        (role, name.to_owned(), (0..bytes).map(|_| rng.next_u64() as u8).collect())
    };
    vec![of(Role::Config, "layer.toml", 700), of(Role::Trigger, "t.toml", 600), of(Role::File, "t.onnx", 3000)]
}

/// The update of a sequence as a file.
fn update(sequence: u64) -> &'static [u8] {
    static ALL: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let make = |sequence| {
        let contents = contents(sequence);
        let entry = |(role, name, bytes): &(Role, String, Vec<u8>)| Entry {
            role: *role,
            name: name.clone(),
            bytes: bytes.len() as u64,
            sha256: Digest(Sha256::digest(bytes).into()),
        };
        let files = contents.iter().map(entry).collect();
        let fleet = UnitId::new("fleet").unwrap();
        let min_agent = Version([0; 3]);
        let head = Head::make(&key(), &Manifest { fleet, units: vec![], sequence, made_unix_ms: 0, min_agent, files });
        let bytes = contents.into_iter().flat_map(|(_, _, bytes)| bytes);
        head.unwrap().to_bytes().into_iter().chain(bytes).collect()
    };
    &ALL.get_or_init(|| (1..=UPDATES).map(make).collect())[sequence as usize - 1]
}

/// What the record must say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Model {
    highest: u64,
    confirmed: u64,
    before: Option<u64>,
    trial: Option<Trial>,
}

impl Model {
    fn of(store: &Store) -> Result<Self, UpdateError> {
        let record = store.record()?;
        let (highest, confirmed, before, trial) = (record.highest, record.confirmed, record.before, record.trial);
        Ok(Self { highest, confirmed, before, trial })
    }

    fn installed(self, sequence: u64) -> Self {
        Self { highest: sequence, trial: Some(Trial { sequence, starts: 0, ended: 0 }), ..self }
    }

    fn started(self) -> Self {
        // No life is long enough for more orderly ends than a trial may have.
        let trial = self.trial.filter(|t| t.starts < STARTS);
        Self { trial: trial.map(|t| Trial { starts: t.starts + 1, ..t }), ..self }
    }

    fn confirmed(self) -> Self {
        let Some(trial) = self.trial else { return self };
        Self { confirmed: trial.sequence, before: Some(self.confirmed), trial: None, ..self }
    }

    fn given_back(self) -> Self {
        let less = |t: Trial| Trial { starts: t.starts.saturating_sub(1), ended: t.ended + 1, ..t };
        Self { trial: self.trial.map(less), ..self }
    }

    fn taken_back(self) -> Self {
        match (self.trial, self.before) {
            (Some(_), _) => Self { trial: None, ..self },
            (None, Some(before)) => Self { confirmed: before, before: None, ..self },
            (None, None) => self,
        }
    }

    /// What a start uses.
    fn used(&self) -> u64 {
        self.trial.map_or(self.confirmed, |t| t.sequence)
    }
}

/// What was promised: the record as it is, or where a step was cut also as it would be.
#[derive(Clone, Debug, Default)]
struct Truth {
    may_be: Vec<Model>,
    /// How often each step was cut.
    cut_in: [u32; 6],
}

/// One start after the other on a disk, until the power goes (`Err`).
struct Life<'a> {
    disk: &'a dyn Disk,
    off: &'a dyn Fn() -> bool,
    store: Store,
    truth: &'a mut Truth,
    what: &'a str,
}

type Cut = Result<(), ()>;

impl Life<'_> {
    /// A step from the record as it is to `after`.
    fn step<T>(
        &mut self,
        kind: usize,
        after: impl Fn(Model) -> Model,
        done: impl FnOnce(&Store) -> T,
    ) -> Result<T, ()> {
        let [now] = self.truth.may_be[..] else { panic!("{}: a step from {:?}", self.what, self.truth.may_be) };
        let out = done(&self.store);
        if (self.off)() {
            self.truth.may_be = vec![now, after(now)];
            self.truth.cut_in[kind] += 1;
            return Err(());
        }
        let found = Model::of(&self.store).unwrap_or_else(|e| panic!("{}: {e}", self.what));
        assert_eq!(found, after(now), "{}: step {kind} from {now:?}", self.what);
        self.truth.may_be = vec![found];
        Ok(out)
    }

    /// A start of the agent: what was promised holds, and what is used is whole.
    fn start(&mut self) -> Cut {
        let found = match Model::of(&self.store) {
            _ if (self.off)() => return Err(()),
            found => found.unwrap_or_else(|e| panic!("{}: the record is lost: {e}", self.what)),
        };
        let promised = &self.truth.may_be;
        assert!(promised.contains(&found), "{}: found {found:?}, promised one of {promised:?}", self.what);
        self.truth.may_be = vec![found];
        self.store.clean();
        let chosen = self.step(0, Model::started, |store| store.choose(&[]))?;
        let now = found.started();
        self.check(&chosen, now);
        let named = [Some(now.confirmed), now.before, now.trial.map(|t| t.sequence), found.trial.map(|t| t.sequence)];
        let strays: Vec<u64> = self.store.slots().into_iter().filter(|s| !named.contains(&Some(*s))).collect();
        assert!(strays.is_empty(), "{}: left behind: {strays:?} by {now:?}", self.what);
        Ok(())
    }

    fn check(&self, chosen: &Chosen, now: Model) {
        let used = chosen.slot.as_ref().map_or(0, |slot| slot.manifest.sequence);
        assert_eq!(used, now.used(), "{}: {now:?}, {:?}", self.what, chosen.said);
        for (_, name, content) in if used > 0 { contents(used) } else { Vec::new() } {
            let path = Path::new(DIR).join(used.to_string()).join(&name);
            let found = self.disk.read(&path, 1 << 20);
            assert!(found.is_ok_and(|f| f == content), "{}: {name} of update {used} is not whole", self.what);
        }
    }

    fn live(&mut self, rng: &mut Rng, steps: u32) -> Cut {
        self.disk.make_folder(Path::new(DIR)).map_err(drop)?;
        self.start()?;
        for _ in 0..steps {
            let now = self.truth.may_be[0];
            let highest = now.highest;
            match rng.next_u64() % 8 {
                // An old one again is refused and changes nothing.
                0 if highest > 0 => {
                    let done = self.step(1, |m| m, |store| install(store, highest))?;
                    assert!(matches!(done, Err(UpdateError::Old { .. })), "{}: {done:?}", self.what);
                }
                0..=3 if highest < UPDATES => {
                    let next = highest + 1;
                    let done = self.step(1, |m| m.installed(next), |store| install(store, next))?;
                    assert!(done.is_ok(), "{}: {done:?}", self.what);
                    self.start()?;
                }
                4 | 5 => {
                    let sequence = now.used();
                    self.step(2, Model::confirmed, |store| store.confirm(sequence, Came::default()))?
                        .unwrap_or_else(|e| panic!("{}: {e}", self.what));
                }
                6 => match now.trial {
                    Some(trial) if rng.next_u64().is_multiple_of(2) => {
                        let done = |store: &Store| store.fall_back(trial.sequence, "a reason");
                        drop(self.step(3, |m| Model { trial: None, ..m }, done)?);
                    }
                    Some(trial) => {
                        drop(self.step(4, Model::given_back, |store| store.give_back(trial.sequence))?);
                    }
                    None => {}
                },
                7 => {
                    let done = self.step(5, Model::taken_back, Store::take_back)?;
                    assert_eq!(done.is_ok(), now.trial.is_some() || now.before.is_some(), "{}: {done:?}", self.what);
                }
                // Killed and started again.
                _ => self.start()?,
            }
        }
        self.start()
    }
}

fn install(store: &Store, sequence: u64) -> Result<Manifest, UpdateError> {
    let bytes = update(sequence);
    store.install(&mut &*bytes, bytes.len() as u64, None, &mut |_, _, _| Ok(()))
}

/// Lives on a disk; `careless` forgets to sync the content of what is installed.
fn live(sim: &SimDisk, careless: bool, truth: &mut Truth, rng: &mut Rng, steps: u32, what: &str) -> Cut {
    let disk: Arc<dyn Disk> = if careless { Arc::new(Careless(sim.clone())) } else { Arc::new(sim.clone()) };
    let who = Who { fleet: UnitId::new("fleet").unwrap(), unit: UnitId::new("unit").unwrap(), agent: Version([1; 3]) };
    let settings = Settings { dir: DIR.into(), keys: vec![key().public()], who, trial_starts: STARTS };
    let store = Store::new(Arc::clone(&disk), settings);
    Life { disk: &*disk, off: &|| sim.is_off(), store, truth, what }.live(rng, steps)
}

/// As in `power_tests`: a life without a cut, then one for each operation at which it may be cut.
fn campaign(cuts: u64, first_seed: u64, careless: bool) -> (u64, u64, [u32; 6]) {
    let (mut done, mut recovering, mut seed, mut cut_in) = (0, 0, first_seed, [0; 6]);
    let fresh = || Truth { may_be: vec![Model::default()], ..Truth::default() };
    while done < cuts {
        let whole = SimDisk::new(seed);
        live(&whole, false, &mut fresh(), &mut Rng::new(seed, 1), STEPS, "whole").expect("nobody cut it");
        let operations = whole.operations();
        for cut in 0..operations {
            let (mut truth, mut rng) = (fresh(), Rng::new(seed, 1));
            let disk = SimDisk::new(seed.wrapping_mul(1_000_003) + cut);
            disk.cut_at(Some(cut));
            let what = format!("seed {seed}, cut at {cut} of {operations}");
            let ended = live(&disk, careless, &mut truth, &mut rng, STEPS, &what);
            // The last operations may be of a removal, which tells nobody.
            assert!(disk.is_off() || ended.is_ok(), "{what}");
            let mut after = disk.after_cut();
            done += 1;
            if rng.next_u64().is_multiple_of(2) {
                after.cut_at(Some(rng.next_u64() % 40));
                let what = format!("{what}, and again");
                if live(&after, careless, &mut truth, &mut rng, STEPS, &what).is_err() {
                    (done, recovering) = (done + 1, recovering + 1);
                    after = after.after_cut();
                }
                after.cut_at(None);
            }
            let what = format!("{what}, recovered");
            live(&after, careless, &mut truth, &mut rng, 3, &what).expect("nobody cut it");
            cut_in.iter_mut().zip(truth.cut_in).for_each(|(sum, n)| *sum += n);
            if done >= cuts {
                break;
            }
        }
        seed += 1;
    }
    (done, recovering, cut_in)
}

#[test]
fn no_power_cut_leaves_less_than_a_whole_update_or_takes_a_number_back() {
    let of = |name: &str| std::env::var(name).ok().and_then(|n| n.parse().ok());
    let (cuts, seed) = (of("AGENT_POWER_CUTS").unwrap_or(1000), of("AGENT_POWER_SEED").unwrap_or(1));
    let (done, recovering, cut_in) = campaign(cuts, seed, false);
    let [start, install, confirm, fall, give, take] = cut_in;
    crate::show::say!(
        "{done} power cuts from seed {seed}, {recovering} of them during recovery: in {start} starts, {install} installations, \
         {confirm} confirmations, {fall} falls, {give} starts given back, {take} takings back"
    );
    assert!(done >= cuts && recovering > cuts / 20 && cut_in.iter().all(|n| *n > 0), "{recovering} {cut_in:?}");
}

/// The campaign finds what it is there to find: without the syncs of files an update is less than whole.
#[test]
#[should_panic(expected = "seed 1, cut at")]
fn an_installation_without_its_syncs_is_found_out() {
    campaign(1000, 1, true);
}

/// A disk whose user forgets to sync files in the folders of slots.
#[derive(Debug)]
struct Careless(SimDisk);

/// And whether it is one of them.
#[derive(Debug)]
struct CarelessFile(Box<dyn DiskFile>, bool);

impl Disk for Careless {
    fn open(&self, path: &Path, how: How) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(CarelessFile(self.0.open(path, how)?, path.parent() != Some(Path::new(DIR)))))
    }
    fn exists(&self, path: &Path) -> bool {
        self.0.exists(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.0.make_folder(path)
    }
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.0.sync_folder(path)
    }
    fn list(&self, folder: &Path) -> Vec<(PathBuf, u64)> {
        self.0.list(folder)
    }
    fn folders(&self, folder: &Path) -> Vec<PathBuf> {
        self.0.folders(folder)
    }
    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.0.remove_folder(path)
    }
}

impl DiskFile for CarelessFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.read_at(at, into)
    }
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(at, bytes)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn sync(&self) -> io::Result<()> {
        if self.1 { Ok(()) } else { self.0.sync() }
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.0.try_lock()
    }
}
