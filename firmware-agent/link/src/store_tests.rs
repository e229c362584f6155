//! The store on a real disk and on one that fails.

use std::fs;

use agent_disk::{Faults, SimDisk};

use super::*;

fn stored(key: u64) -> Stored {
    Stored {
        key,
        class: Class::Alert,
        crash: true,
        kind: MessageKind::Alert,
        created_unix_ms: 5,
        payload: vec![key as u8; 100],
    }
}

#[test]
fn what_was_committed_is_there_again_and_boots_grow() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox.redb");
    let (mut store, opened) = Store::open(&path).unwrap();
    assert_eq!(opened, Opened::default());
    assert_eq!(store.next_boot().unwrap(), 1);
    store.commit(&[&stored(1), &stored(2)], &[]).unwrap();
    store.commit(&[&stored(3)], &[1]).unwrap();
    store.set_command_counter("command", 9).unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::InUse(_))));
    drop(store);
    let (mut store, opened) = Store::open(&path).unwrap();
    assert_eq!(opened.waiting, [stored(2), stored(3)]);
    assert_eq!((store.command_counter("command"), store.command_counter("command:x")), (9, 0));
    assert_eq!(store.next_boot().unwrap(), 2);
}

#[test]
fn an_unreadable_store_is_set_aside_and_boots_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox.redb");
    let (mut store, _) = Store::open(&path).unwrap();
    assert_eq!(store.next_boot().unwrap(), 1);
    store.commit(&[&stored(1)], &[]).unwrap();
    store.set_command_counter("command:x", 7).unwrap();
    drop(store);
    let whole = fs::read(&path).unwrap();
    // Garbage, a cut file, and a file whose inner half is overwritten.
    let mut holed = whole.clone();
    holed[512..].fill(0xA5);
    for (n, bytes) in [vec![7u8; 9000], whole[..whole.len() / 3].to_vec(), holed].into_iter().enumerate() {
        fs::write(&path, &bytes).unwrap();
        let (mut store, opened) = Store::open(&path).unwrap();
        let (aside, why) = opened.set_aside.expect("set aside");
        assert_eq!(fs::read(&aside).unwrap().len(), bytes.len(), "kept as it was: {why}");
        assert!(opened.waiting.is_empty());
        assert_eq!(store.command_counter("command:x"), 7, "a command does not come again with a lost store");
        assert_eq!(store.next_boot().unwrap(), 2 + n as u32);
        store.commit(&[&stored(4)], &[]).unwrap();
    }
    fs::remove_file(beside(&path, ".boot")).unwrap();
    fs::write(&path, b"x").unwrap();
    let (mut store, _) = Store::open(&path).unwrap();
    assert!(store.next_boot().unwrap() > 1_000_000, "above every counter that was ever reached");
}

#[test]
fn a_record_that_is_no_message_is_counted_and_the_others_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox.redb");
    let (mut store, _) = Store::open(&path).unwrap();
    store.commit(&[&stored(1), &Stored { payload: vec![0; MESSAGE_BYTES + 1], ..stored(2) }], &[]).unwrap();
    drop(store);
    let (_, opened) = Store::open(&path).unwrap();
    assert_eq!((opened.waiting, opened.unreadable), (vec![stored(1)], 1));
}

#[test]
fn a_folder_that_is_not_there_is_an_error_that_names_the_file() {
    let error = Store::open(Path::new("/no/such/folder/outbox.redb")).unwrap_err();
    assert!(error.to_string().contains("/no/such/folder/outbox.redb"), "{error}");
    assert!(!error.disk_fails(), "that is no fault of the disk");
}

/// What waits on a disk, by key.
fn on(disk: &SimDisk) -> Vec<u64> {
    let (_, opened) = Store::open_on(Arc::new(disk.clone()), Path::new("/s/outbox.redb")).unwrap();
    assert_eq!((opened.set_aside, opened.unreadable), (None, 0));
    opened.waiting.into_iter().map(|s| s.key).collect()
}

fn sim(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.make_folder(Path::new("/s")).unwrap();
    disk
}

/// After a failed sync pages that look written are not: a store that went on in the old file would be damaged by the next power cut.
#[test]
fn a_store_made_anew_after_a_failed_sync_outlives_a_power_cut() {
    for seed in 0..40 {
        let disk = sim(seed);
        let (mut store, _) = Store::open_on(Arc::new(disk.clone()), Path::new("/s/outbox.redb")).unwrap();
        assert_eq!(store.next_boot().unwrap(), 1);
        store.commit(&[&stored(1), &stored(2)], &[]).unwrap();
        disk.set_faults(Faults { syncs: true, ..Faults::default() });
        store.commit(&[&stored(3)], &[1]).unwrap_err();
        assert!(!store.is_open());
        store.reopen([stored(2), stored(3)].iter()).unwrap_err();
        disk.set_faults(Faults::default());
        assert_eq!(store.reopen([stored(2), stored(3)].iter()).unwrap(), None);
        store.commit(&[&stored(4)], &[2]).unwrap();
        let after = disk.after_cut();
        assert_eq!(on(&after), [3, 4], "seed {seed}");
        let (mut store, _) = Store::open_on(Arc::new(after), Path::new("/s/outbox.redb")).unwrap();
        assert_eq!(store.next_boot().unwrap(), 2, "the count of starts came along");
    }
}

#[test]
fn a_full_disk_keeps_the_old_store_and_gets_its_room_back() {
    let disk = sim(1);
    let (mut store, _) = Store::open_on(Arc::new(disk.clone()), Path::new("/s/outbox.redb")).unwrap();
    store.commit(&[&stored(1)], &[]).unwrap();
    let used = disk.used();
    disk.set_faults(Faults { capacity: Some(used), ..Faults::default() });
    let many: Vec<Stored> = (2..4000).map(|key| Stored { payload: vec![1; MESSAGE_BYTES], ..stored(key) }).collect();
    store.commit(&many.iter().collect::<Vec<_>>(), &[]).unwrap_err();
    store.reopen(many.iter()).unwrap_err();
    assert_eq!(disk.used(), used, "nothing half made is left");
    drop(store);
    disk.set_faults(Faults::default());
    assert_eq!(on(&disk), [1]);
}

#[test]
fn a_store_that_could_not_be_read_at_the_start_is_opened_later_and_not_replaced() {
    let disk = sim(1);
    let path = Path::new("/s/outbox.redb");
    let (mut store, _) = Store::open_on(Arc::new(disk.clone()), path).unwrap();
    assert_eq!(store.next_boot().unwrap(), 1);
    store.commit(&[&stored(1)], &[]).unwrap();
    drop(store);
    disk.set_faults(Faults { read_only: true, ..Faults::default() });
    assert!(Store::open_on(Arc::new(disk.clone()), path).unwrap_err().disk_fails());
    let mut late = Store::without_disk(Arc::new(disk.clone()), path);
    let drawn = late.boot();
    assert!(drawn >= 1 << 31, "no counter gets there");
    assert_ne!(drawn, Store::without_disk(Arc::new(disk.clone()), path).boot());
    late.commit(&[&stored(9)], &[]).unwrap_err();
    late.reopen([stored(9)].iter()).unwrap_err();
    disk.set_faults(Faults::default());
    let found = late.reopen([stored(9)].iter()).unwrap().expect("what was there");
    assert_eq!(found.waiting, [stored(1)]);
    assert_eq!(late.boot(), drawn);
    late.commit(&[&stored(9)], &[]).unwrap();
    drop(late);
    assert_eq!(on(&disk), [1, 9]);
    let (mut store, _) = Store::open_on(Arc::new(disk), path).unwrap();
    assert_eq!(store.next_boot().unwrap(), 2, "the count goes on where it was");
}

#[test]
fn a_disk_that_fails_is_told_from_a_wrong_path_whatever_fails() {
    let path = Path::new("/s/outbox.redb");
    let faults = [
        Faults { reads: true, ..Faults::default() },
        Faults { writes: true, ..Faults::default() },
        Faults { syncs: true, ..Faults::default() },
        Faults { read_only: true, ..Faults::default() },
        Faults { capacity: Some(0), ..Faults::default() },
    ];
    for (faults, there) in faults.into_iter().flat_map(|f| [(f, true), (f, false)]) {
        let disk = sim(1);
        if there {
            let (mut store, _) = Store::open_on(Arc::new(disk.clone()), path).unwrap();
            store.next_boot().unwrap();
        }
        disk.set_faults(faults);
        let opened = Store::open_on(Arc::new(disk.clone()), path).and_then(|(mut store, _)| store.next_boot());
        // A store that is there may fit on a full disk.
        match opened {
            Ok(boot) => assert!(there && faults.capacity.is_some() && boot == 2, "{faults:?}"),
            Err(error) => assert!(error.disk_fails(), "{faults:?}, {there}: {error}"),
        }
        disk.set_faults(Faults::default());
        let (_, opened) = Store::open_on(Arc::new(disk), path).unwrap();
        assert_eq!(opened.set_aside, None, "{faults:?}, {there}: a good store was set aside");
    }
}

/// Whenever the power goes, a counter that was said to be kept is there after it, so that no command is taken twice.
#[test]
fn no_power_cut_brings_a_command_back() {
    let path = Path::new("/state/outbox.redb");
    let (mut cuts, mut kept_at_all) = (0, 0);
    let live = |disk: &agent_disk::SimDisk| -> u64 {
        let Ok((mut store, _)) = Store::open_on(Arc::new(disk.clone()), path) else { return 0 };
        (1..=5).take_while(|n| store.set_command_counter("command:k", *n).is_ok()).last().unwrap_or(0)
    };
    let whole = agent_disk::SimDisk::new(1);
    whole.make_folder(Path::new("/state")).unwrap();
    assert_eq!(live(&whole), 5);
    for cut in 0..whole.operations() {
        let disk = agent_disk::SimDisk::new(cut);
        disk.make_folder(Path::new("/state")).unwrap();
        disk.cut_at(Some(cut));
        let kept = live(&disk);
        let after = disk.after_cut();
        if after.make_folder(Path::new("/state")).is_err() {
            continue;
        }
        let (store, _) = Store::open_on(Arc::new(after), path).unwrap();
        let found = store.command_counter("command:k");
        assert!(found >= kept && found <= kept + 1, "cut at {cut}: {kept} was kept, {found} is there");
        (cuts, kept_at_all) = (cuts + 1, kept_at_all + u64::from(kept > 0));
    }
    assert!(cuts > 20 && kept_at_all > 10, "{cuts} {kept_at_all}");
}
