//! Updates that are not what they should be, and what an installation, a trial and a fall leave.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use agent_disk::{Disk, Faults, SimDisk};
use agent_keys::{PublicKey, SecretKey};
use agent_wire::UnitId;
use sha2::Digest as _;

use super::*;
use crate::limits::{MAX_FILES, ROOM_LEFT_BYTES};

const DIR: &str = "/state/updates";

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32]).unwrap()
}

fn id(name: &str) -> UnitId {
    UnitId::new(name).unwrap()
}

fn entry(role: Role, name: &str, content: &[u8]) -> Entry {
    let sha256 = Digest(sha2::Sha256::digest(content).into());
    Entry { role, name: name.to_owned(), bytes: content.len() as u64, sha256 }
}

fn manifest(sequence: u64, files: Vec<Entry>) -> Manifest {
    let min_agent = Version([0, 1, 0]);
    Manifest { fleet: id("north"), units: vec![], sequence, made_unix_ms: 1, min_agent, files }
}

/// An update of that head with any contents behind it.
fn signed(by: &SecretKey, manifest: &Manifest, contents: &[&[u8]]) -> Vec<u8> {
    [&Head::make(by, manifest).unwrap().to_bytes(), &contents.concat()[..]].concat()
}

/// An update with a layer of configuration and another file.
fn update(sequence: u64) -> Vec<u8> {
    let (layer, other) = (format!("# {sequence}\n"), vec![sequence as u8; 900]);
    let files = vec![entry(Role::Config, "layer.toml", layer.as_bytes()), entry(Role::Dbc, "car.dbc", &other)];
    signed(&key(1), &manifest(sequence, files), &[layer.as_bytes(), &other])
}

fn settings(keys: &[PublicKey]) -> Settings {
    let who = Who { fleet: id("north"), unit: id("truck-17"), agent: Version([0, 2, 0]) };
    Settings { dir: DIR.into(), keys: keys.to_vec(), who, trial_starts: 3 }
}

fn store(disk: &SimDisk) -> Store {
    Store::new(Arc::new(disk.clone()), settings(&[key(1).public()]))
}

fn install(store: &Store, bytes: &[u8]) -> Result<Manifest, UpdateError> {
    store.install(&mut &*bytes, bytes.len() as u64, None, &mut |_, _, _| Ok(()))
}

/// Sequence of what a start uses; 0 for the unit's own configuration.
fn used(chosen: &Chosen) -> u64 {
    chosen.slot.as_ref().map_or(0, |slot| slot.manifest.sequence)
}

fn confirmed(disk: &SimDisk, sequence: u64) -> Store {
    let store = store(disk);
    install(&store, &update(sequence)).unwrap();
    assert_eq!(used(&store.choose(&[])), sequence);
    assert!(store.confirm(sequence, Came::default()).unwrap());
    store
}

#[test]
fn every_byte_changed_once_is_refused_and_writes_nothing() {
    let good = update(7);
    let disk = SimDisk::new(1);
    disk.make_folder(Path::new(DIR)).unwrap();
    let store = store(&disk);
    let mut by_trust = 0;
    for at in 0..good.len() {
        for flip in [1, 0x80] {
            let mut bad = good.clone();
            bad[at] ^= flip;
            let error = install(&store, &bad).expect_err("one byte is another");
            // Head and layer are judged before anything is written.
            assert!(disk.operations() == 0 || at >= good.len() - 900, "byte {at}: {error}");
            by_trust += u32::from(error.is_of_trust());
            assert_eq!(store.slots(), [] as [u64; 0], "byte {at}: {error}");
            assert_eq!(store.record().unwrap(), Record::default(), "byte {at}: {error}");
        }
    }
    // But for magic, form and length all of it is a matter of trust.
    assert!(by_trust as usize > 2 * (good.len() - 12), "{by_trust}");
    for cut in 0..good.len() {
        assert!(matches!(install(&store, &good[..cut]), Err(UpdateError::Cut(_) | UpdateError::NotAnUpdate)), "{cut}");
    }
    let longer = [&good[..], b"x"].concat();
    assert!(matches!(install(&store, &longer), Err(UpdateError::Longer(1))));
    assert_eq!(install(&store, &good).unwrap().sequence, 7);
}

#[test]
fn what_is_not_for_this_unit_is_refused_before_anything_is_written() {
    let disk = SimDisk::new(1);
    disk.make_folder(Path::new(DIR)).unwrap();
    let store = store(&disk);
    let content: &[u8] = b"content";
    let files = || vec![entry(Role::File, "a", content)];
    let of = |change: &dyn Fn(&mut Manifest)| {
        let mut m = manifest(7, files());
        change(&mut m);
        install(&store, &signed(&key(1), &m, &[content]))
    };
    assert!(matches!(of(&|m| m.fleet = id("south")), Err(UpdateError::OtherFleet(f)) if f == "south"));
    assert!(matches!(of(&|m| m.units = vec![id("truck-18")]), Err(UpdateError::OtherUnit(u)) if u == "truck-17"));
    let newer = |m: &mut Manifest| m.min_agent = Version([0, 2, 1]);
    assert!(matches!(of(&newer), Err(UpdateError::NeedsAgent { wanted, has }) if wanted == "0.2.1" && has == "0.2.0"));
    let other = signed(&key(2), &manifest(7, files()), &[content]);
    assert!(matches!(install(&store, &other), Err(UpdateError::UnknownKey(k)) if k == key(2).public().id()));
    let nobody = Store::new(Arc::new(disk.clone()), settings(&[]));
    assert!(matches!(install(&nobody, &other), Err(UpdateError::NoKeys)));
    let refused = store.install(&mut &*update(7), update(7).len() as u64, None, &mut |m, folder, layer| {
        assert_eq!((m.sequence, folder, layer), (7, Path::new("/state/updates/7"), Some(&b"# 7\n"[..])));
        Err("unit.name may not be changed".to_owned())
    });
    assert!(matches!(refused, Err(UpdateError::Refused(why)) if why == "unit.name may not be changed"));
    let bytes = update(7);
    let free = Some(ROOM_LEFT_BYTES + 900);
    let full = store.install(&mut &*bytes, bytes.len() as u64, free, &mut |_, _, _| Ok(()));
    assert!(matches!(full, Err(UpdateError::NoRoom { needed: 904, .. })), "{full:?}");
    assert_eq!((disk.operations(), disk.used()), (0, 0), "nothing was written");
    assert!(of(&|m| m.units = vec![id("x"), id("truck-17")]).is_ok());
}

#[test]
fn a_signed_head_that_breaks_a_rule_is_refused_by_name() {
    let e = |role, name: &str| entry(role, name, b"");
    let with = |files: Vec<Entry>| manifest(7, files).check().map_err(|e| e.to_string());
    for (name, files) in [
        ("../outside", vec![e(Role::File, "../outside")]),
        ("/etc/passwd", vec![e(Role::File, "/etc/passwd")]),
        (".hidden", vec![e(Role::File, ".hidden")]),
        ("update.head", vec![e(Role::File, "update.head")]),
        ("a b", vec![e(Role::File, "a b")]),
        ("", vec![e(Role::File, "")]),
        ("twice", vec![e(Role::File, "twice"), e(Role::Dbc, "twice")]),
        ("b.gguf", vec![e(Role::Student, "a.gguf"), e(Role::Student, "b.gguf")]),
        ("late.toml", vec![e(Role::File, "a"), e(Role::Config, "late.toml")]),
        ("big.toml", vec![Entry { bytes: limits::MAX_CONFIG_BYTES + 1, ..e(Role::Config, "big.toml") }]),
    ] {
        let error = with(files).expect_err(name);
        assert!(error.starts_with(&format!("file \"{name}\": ")), "{error}");
    }
    let many = (0..=MAX_FILES).map(|i| e(Role::File, &format!("f{i}"))).collect();
    assert_eq!(with(many).unwrap_err(), "the head: 17 files, not 1 to 16");
    assert_eq!(with(vec![]).unwrap_err(), "the head: 0 files, not 1 to 16");
    let half = |name: &str| Entry { bytes: limits::MAX_TOTAL_BYTES / 2 + 1, ..e(Role::File, name) };
    assert!(with(vec![half("a"), half("b")]).unwrap_err().contains("bytes in its files, above"));
    let whole = Entry { bytes: u64::MAX, ..e(Role::File, "a") };
    assert!(with(vec![whole.clone(), Entry { name: "b".to_owned(), ..whole }]).is_err(), "the sum does not go round");
    let mut zero = manifest(0, vec![e(Role::File, "a")]);
    assert_eq!(zero.check().unwrap_err().to_string(), "the head: sequence 0 is no update's");
    zero.sequence = 1;
    zero.units = (0..300).map(|i| id(&format!("u{i}"))).collect();
    assert_eq!(zero.check().unwrap_err().to_string(), "the head: 300 units, above 256");
    // The reader holds itself to the same rules as the maker, and to a form without more.
    let text = serde_json::to_string(&manifest(7, vec![e(Role::File, "a")])).unwrap();
    assert!(Manifest::parse(text.as_bytes()).is_ok());
    for (from, to) in
        [("\"a\"", "\"../a\""), ("0.1.0", "0.1"), ("\"sequence\":7", "\"sequence\":-7"), ("{", "{\"x\":1,")]
    {
        assert!(Manifest::parse(text.replacen(from, to, 1).as_bytes()).is_err(), "{from} as {to}");
    }
}

#[test]
fn a_number_is_taken_once_and_only_upwards_whatever_became_of_it() {
    let disk = SimDisk::new(1);
    let store = confirmed(&disk, 5);
    let before = disk.operations();
    for sequence in [5, 4] {
        let old = install(&store, &update(sequence));
        assert_eq!(disk.operations(), before, "the slot of that number is let alone");
        assert!(matches!(old, Err(UpdateError::Old { highest: 5, .. })), "{old:?}");
    }
    install(&store, &update(9)).unwrap();
    assert_eq!(used(&store.choose(&[])), 9);
    assert_eq!(store.fall_back(9, "no frames"), "fell back from update 9: no frames");
    assert!(matches!(install(&store, &update(9)), Err(UpdateError::Old { sequence: 9, highest: 9 })));
    assert_eq!(used(&store.choose(&[])), 5);
    store.clean();
    assert_eq!(store.slots(), [5]);
    assert!(matches!(install(&store, &update(8)), Err(UpdateError::Old { highest: 9, .. })), "also without its slot");
    install(&store, &update(10)).unwrap();
}

#[test]
fn starts_without_a_verdict_are_counted_and_end_the_trial_and_orderly_ends_do_not_count() {
    let disk = SimDisk::new(1);
    let store = confirmed(&disk, 5);
    install(&store, &update(6)).unwrap();
    for start in 1..=3 {
        let chosen = store.choose(&[]);
        assert_eq!(chosen.slot.as_ref().unwrap().trial, Some(Trial { sequence: 6, starts: start, ended: 0 }));
    }
    store.give_back(6).unwrap();
    assert_eq!(used(&store.choose(&[])), 6, "one start did not count");
    let chosen = store.choose(&[]);
    assert_eq!(
        (used(&chosen), chosen.said),
        (5, vec!["fell back from update 6: 3 starts without being confirmed".into()])
    );
    assert_eq!(store.record().unwrap().fell.unwrap().sequence, 6);
    assert!(!store.confirm(6, Came::default()).unwrap(), "too late");
    assert_eq!(used(&store.choose(&[])), 5);
    // Many that end in order do count in the end: an update may be what makes them end.
    install(&store, &update(7)).unwrap();
    let mut starts = 0;
    while used(&store.choose(&[])) == 7 {
        store.give_back(7).unwrap();
        starts += 1;
    }
    assert_eq!((starts, store.record().unwrap().fell.unwrap().sequence), (30, 7));
}

#[test]
fn a_slot_that_is_not_whole_is_not_used_and_the_one_before_it_is() {
    let disk = SimDisk::new(1);
    let store = confirmed(&disk, 5);
    let spoil = |sequence: u64| {
        let path = Path::new(DIR).join(format!("{sequence}/car.dbc"));
        let file = disk.open(&path, agent_disk::How::OpenOrCreate).unwrap();
        file.write_at(500, b"x").unwrap();
    };
    install(&store, &update(6)).unwrap();
    spoil(6);
    let chosen = store.choose(&[]);
    assert_eq!(used(&chosen), 5);
    assert_eq!(
        chosen.said,
        ["fell back from update 6: file \"car.dbc\" was altered: another SHA-256 than the head says"]
    );
    // A confirmed one stays named: its damage may be of this start only.
    install(&store, &update(7)).unwrap();
    store.choose(&[]).slot.unwrap();
    store.confirm(7, Came::default()).unwrap();
    spoil(7);
    assert_eq!((used(&store.choose(&[])), store.record().unwrap().confirmed), (5, 7));
    spoil(5);
    let chosen = store.choose(&[]);
    assert_eq!((used(&chosen), chosen.said.len()), (0, 2));
    assert_eq!(used(&store.choose(&[7, 5])), 0);
    // A key that is taken out of the configuration takes its updates with it.
    let disk = SimDisk::new(1);
    confirmed(&disk, 5);
    let other = Store::new(Arc::new(disk.clone()), settings(&[key(2).public()]));
    assert_eq!(used(&other.choose(&[])), 0);
    let mut moved = settings(&[key(1).public()]);
    moved.who.fleet = id("south");
    assert_eq!(used(&Store::new(Arc::new(disk.clone()), moved).choose(&[])), 0, "a card of another fleet");
    assert_eq!(used(&self::store(&disk).choose(&[])), 5);
}

#[test]
fn by_hand_it_goes_back_one_step_and_only_to_what_is_whole() {
    let disk = SimDisk::new(1);
    let store = confirmed(&disk, 5);
    install(&store, &update(6)).unwrap();
    assert_eq!(store.take_back().unwrap(), (6, 5), "from the trial");
    assert_eq!(used(&store.choose(&[])), 5);
    assert_eq!(store.take_back().unwrap(), (5, 0), "to the unit's own");
    assert_eq!(used(&store.choose(&[])), 0);
    assert!(matches!(store.take_back(), Err(UpdateError::NothingBefore)));
    install(&store, &update(7)).unwrap();
    store.choose(&[]).slot.unwrap();
    store.confirm(7, Came::default()).unwrap();
    install(&store, &update(8)).unwrap();
    store.choose(&[]).slot.unwrap();
    store.confirm(8, Came::default()).unwrap();
    disk.remove(Path::new("/state/updates/7/car.dbc")).unwrap();
    assert!(matches!(store.take_back(), Err(UpdateError::Missing(name)) if name == "car.dbc"));
    assert_eq!(used(&store.choose(&[])), 8);
}

#[test]
fn slots_are_kept_two_and_one_on_trial_and_what_is_in_use_is_left() {
    let disk = SimDisk::new(1);
    let store = confirmed(&disk, 1);
    for sequence in [2, 3] {
        install(&store, &update(sequence)).unwrap();
        store.choose(&[]).slot.unwrap();
        store.confirm(sequence, Came::default()).unwrap();
    }
    assert_eq!(store.slots(), [2, 3]);
    install(&store, &update(4)).unwrap();
    install(&store, &update(5)).unwrap();
    assert_eq!(store.slots(), [2, 3, 5], "4 was never used");
    store.choose(&[]).slot.unwrap();
    install(&store, &update(6)).unwrap();
    install(&store, &update(7)).unwrap();
    assert_eq!(store.slots(), [2, 3, 5, 7], "5 may be in use");
    // Unfinished installations go with the next one; an installation that goes on is let alone.
    disk.make_folder(Path::new("/state/updates/99")).unwrap();
    let claim = store.claim_run().unwrap();
    assert!(matches!(store.claim("run.lock", 1), Err(UpdateError::Busy(_))));
    drop(claim);
    let bytes = update(8);
    store.install(&mut Peek { bytes: &bytes, store: &store }, bytes.len() as u64, None, &mut |_, _, _| Ok(())).unwrap();
    assert_eq!(store.slots(), [2, 3, 8]);
}

/// While it is read the daemon cleans.
struct Peek<'a> {
    bytes: &'a [u8],
    store: &'a Store,
}

impl Read for Peek<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.store.clean();
        self.bytes.read(into)
    }
}

#[test]
fn of_two_installations_of_a_number_one_is_taken_and_left_whole() {
    let disk = SimDisk::new(1);
    let store = store(&disk);
    let bytes = update(7);
    let other = signed(&key(1), &manifest(7, vec![entry(Role::Dbc, "car.dbc", b"x")]), &[b"x"]);
    // The other comes to its end between this one's judgement and its writing.
    let mut judge =
        |_: &Manifest, _: &Path, _: Option<&[u8]>| install(&store, &other).map(drop).map_err(|e| e.to_string());
    let late = store.install(&mut &*bytes, bytes.len() as u64, None, &mut judge);
    assert!(matches!(late, Err(UpdateError::Old { sequence: 7, highest: 7 })), "{late:?}");
    assert_eq!(store.choose(&[]).slot.unwrap().manifest.files[0].bytes, 1);
}

#[test]
fn a_disk_that_takes_nothing_tries_no_update_and_uses_what_is_confirmed() {
    let disk = SimDisk::new(1);
    let store = confirmed(&disk, 5);
    install(&store, &update(6)).unwrap();
    disk.set_faults(Faults { read_only: true, ..Faults::default() });
    let chosen = store.choose(&[]);
    assert_eq!(used(&chosen), 5);
    assert!(chosen.said[0].starts_with("no update is tried in this start: "), "{:?}", chosen.said);
    disk.set_faults(Faults::default());
    assert_eq!(used(&store.choose(&[])), 6, "it is tried when the disk works");
    // An installation that the disk refuses leaves everything as before.
    disk.set_faults(Faults { capacity: Some(disk.used() + 500), ..Faults::default() });
    let before = (store.slots(), store.record().unwrap());
    assert!(matches!(install(&store, &update(7)), Err(UpdateError::Disk { .. })));
    assert_eq!((store.slots(), store.record().unwrap()), before);
    disk.set_faults(Faults { syncs: true, ..Faults::default() });
    assert!(matches!(install(&store, &update(7)), Err(UpdateError::Disk { .. })));
    assert_eq!((store.slots(), store.record().unwrap()), before);
}

#[test]
fn a_damaged_record_is_made_of_the_slots_and_the_newest_is_tried_again() {
    let disk = SimDisk::new(1);
    let store = confirmed(&disk, 5);
    let path = Path::new("/state/updates/record");
    let good = disk.read(path, 4096).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert_eq!(Record::from_bytes(&bad), None, "byte {at}");
        assert_eq!(Record::from_bytes(&good[..at]), None);
    }
    disk.replace(path, &[b'x'; 5000]).unwrap();
    assert!(matches!(store.record(), Err(UpdateError::Damaged(_))));
    assert!(matches!(install(&store, &update(5)), Err(UpdateError::Old { highest: 5, .. })));
    assert_eq!(store.choose(&[]).slot.unwrap().trial, Some(Trial { sequence: 5, starts: 1, ended: 0 }));
    assert_eq!(store.record().unwrap().confirmed, 0);
}

#[test]
fn what_came_is_kept_and_large_files_are_held_against_their_hashes_later() {
    let disk = SimDisk::new(1);
    let store = confirmed(&disk, 5);
    let came = Came { frames: true, imu: true, ..Came::default() };
    store.note(came).unwrap();
    let before = disk.operations();
    store.note(came).unwrap();
    assert_eq!((store.record().unwrap().came, disk.operations()), (Some(came), before), "written when it changes");

    let large = vec![7; limits::HASHED_AT_START_BYTES as usize + 1];
    let files = vec![entry(Role::Student, "s.gguf", &large)];
    install(&store, &signed(&key(1), &manifest(6, files), &[&large])).unwrap();
    let slot = store.choose(&[]).slot.unwrap();
    slot.verify_large(&disk, &|| false).unwrap();
    let path = slot.path_of(Role::Student).unwrap();
    disk.open(&path, agent_disk::How::OpenOrCreate).unwrap().write_at(9, b"x").unwrap();
    assert!(matches!(slot.verify_large(&disk, &|| false), Err(UpdateError::Altered(name)) if name == "s.gguf"));
    assert!(slot.verify_large(&disk, &|| true).is_ok(), "told to stop");
}
