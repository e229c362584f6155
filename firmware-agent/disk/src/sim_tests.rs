//! What a cut leaves and what faults do.

use super::*;

fn disk(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.make_folder(Path::new("/d")).unwrap();
    disk
}

#[test]
fn what_was_synced_is_there_and_the_rest_may_be_there_in_any_part() {
    let path = Path::new("/d/a");
    let (mut lengths, mut tails) = (BTreeSet::new(), BTreeSet::new());
    for seed in 0..300 {
        let disk = disk(seed);
        let file = disk.open(path, How::Create).unwrap();
        file.write_at(0, &[1; 1024]).unwrap();
        file.sync().unwrap();
        disk.sync_folder(Path::new("/d")).unwrap();
        file.write_at(512, &[2; 2048]).unwrap();
        let bytes = disk.after_cut().read(path, 10_000).unwrap();
        assert!(bytes[..512] == [1; 512] && bytes.len() >= 1024);
        lengths.insert(bytes.len());
        tails.insert(bytes[512..].iter().step_by(512).copied().collect::<Vec<_>>());
    }
    // Lost, torn and reordered: a later sector without an earlier one.
    assert!(lengths.contains(&1024) && lengths.contains(&2560), "{lengths:?}");
    assert!(
        tails.contains(&vec![1]) && tails.contains(&vec![2, 2, 2, 2]) && tails.contains(&vec![1, 2, 2, 2]),
        "{tails:?}"
    );
}

#[test]
fn a_name_that_was_not_synced_may_be_lost_though_the_content_was_synced() {
    let (mut lost, mut kept) = (0, 0);
    for seed in 0..100 {
        let disk = disk(seed);
        let file = disk.open(Path::new("/d/a"), How::Create).unwrap();
        file.write_at(0, b"x").unwrap();
        file.sync().unwrap();
        match disk.after_cut().exists(Path::new("/d/a")) {
            true => kept += 1,
            false => lost += 1,
        }
    }
    assert!(lost > 20 && kept > 20, "{lost} lost, {kept} kept");
}

#[test]
fn replacing_leaves_the_old_or_the_new_at_every_cut() {
    let path = Path::new("/d/a");
    let mut seen = BTreeSet::new();
    for seed in 0..50 {
        for cut in 0..6 {
            let disk = disk(seed);
            disk.replace(path, &[1; 700]).unwrap();
            disk.cut_at(Some(disk.operations() + cut));
            let replaced = disk.replace(path, &[2; 900]).is_ok();
            let bytes = disk.after_cut().read(path, 1000).unwrap();
            assert!(bytes == [1; 700] && !replaced || bytes == [2; 900], "seed {seed}, cut {cut}");
            seen.insert((cut, bytes[0]));
        }
    }
    assert!(seen.contains(&(4, 1)) && seen.contains(&(4, 2)), "{seen:?}");
}

#[test]
fn after_the_cut_nothing_goes_and_a_fault_ends_when_it_is_taken_away() {
    let disk = disk(1);
    let file = disk.open(Path::new("/d/a"), How::Create).unwrap();
    disk.set_faults(Faults { capacity: Some(0), ..Faults::default() });
    assert_eq!(file.write_at(0, b"x").unwrap_err().kind(), io::ErrorKind::StorageFull);
    disk.set_faults(Faults::default());
    file.write_at(0, b"x").unwrap();
    disk.cut_at(Some(disk.operations()));
    assert!(file.sync().is_err() && file.len().is_err() && disk.is_off());
    assert!(disk.open(Path::new("/d/b"), How::Create).is_err());
}

#[test]
fn each_fault_hits_what_it_says_and_nothing_else() {
    let disk = disk(1);
    let (a, b) = (Path::new("/d/a"), Path::new("/d/b"));
    let file = disk.open(a, How::Create).unwrap();
    file.write_at(0, &[1; 100]).unwrap();
    let with = |faults: Faults| disk.set_faults(faults);
    let mut byte = [0];
    with(Faults { capacity: Some(150), ..Faults::default() });
    file.write_at(50, &[2; 100]).unwrap();
    assert_eq!(file.write_at(51, &[2; 100]).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.set_len(151).unwrap_err().kind(), io::ErrorKind::StorageFull);
    file.set_len(10).unwrap();
    file.write_at(0, &[3; 150]).unwrap();
    assert_eq!(disk.used(), 150);
    with(Faults { reads: true, ..Faults::default() });
    assert_eq!(file.read_at(0, &mut byte).unwrap_err().raw_os_error(), Some(EIO));
    file.write_at(0, b"x").unwrap();
    with(Faults { writes: true, ..Faults::default() });
    assert_eq!(file.write_at(0, b"y").unwrap_err().raw_os_error(), Some(EIO));
    file.read_at(0, &mut byte).unwrap();
    assert_eq!(byte, *b"x");
    with(Faults { read_only: true, ..Faults::default() });
    assert_eq!(disk.open(b, How::Create).map(drop).unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
    assert!(disk.rename(a, b).is_err() && disk.remove(a).is_err() && file.sync().is_ok());
    with(Faults { slow: Duration::from_millis(30), ..Faults::default() });
    let begun = std::time::Instant::now();
    file.sync().unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(30));
}

#[test]
fn what_a_failed_sync_should_have_saved_is_read_until_a_cut_and_lost_with_it() {
    let disk = disk(1);
    let path = Path::new("/d/a");
    let file = disk.open(path, How::Create).unwrap();
    file.write_at(0, b"old").unwrap();
    file.sync().unwrap();
    disk.sync_folder(Path::new("/d")).unwrap();
    file.write_at(0, b"new").unwrap();
    disk.set_faults(Faults { syncs: true, ..Faults::default() });
    assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(EIO));
    disk.set_faults(Faults::default());
    file.sync().unwrap();
    assert_eq!(disk.read(path, 10).unwrap(), b"new");
    assert_eq!(disk.after_cut().read(path, 10).unwrap(), b"old");
}
