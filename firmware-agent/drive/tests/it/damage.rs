//! Cut and damaged drives give up everything that is whole, and say what is lost.

use crate::util::{Owned, drive, read_all};

/// Offsets at which the chunks of a drive begin and end.
fn chunks(bytes: &[u8]) -> Vec<(usize, usize)> {
    let (mut at, mut out) = (8, Vec::new());
    while let Some(head) = bytes.get(at..at + 9) {
        let n = u64::from_le_bytes(head[1..].try_into().unwrap()) as usize;
        if head[0] == 6 {
            out.push((at, at + 9 + n));
        }
        if head[0] == 0x0F {
            break;
        }
        at += 9 + n;
    }
    out
}

fn next_random(x: &mut u64) -> u64 {
    *x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *x >> 33
}

#[test]
fn a_drive_cut_anywhere_gives_all_records_of_its_whole_chunks() {
    let (bytes, all) = drive(180);
    let chunks = chunks(&bytes);
    assert!(chunks.len() >= 3, "{} chunks", chunks.len());
    // How many records lie in the first n chunks: read files that end there.
    let whole: Vec<usize> =
        std::iter::once(0).chain(chunks.iter().map(|(_, end)| read_all(bytes[..*end].to_vec()).0.len())).collect();
    assert_eq!(*whole.last().unwrap(), all.len());
    let mut cuts: Vec<usize> = chunks.iter().flat_map(|(s, e)| [*s, s + 1, s + 9, s + 60, e - 1, *e, e + 4]).collect();
    let mut x = 7;
    cuts.extend((0..40).map(|_| 8 + next_random(&mut x) as usize % (bytes.len() - 8)));
    for cut in cuts {
        let (got, reader) = read_all(bytes[..cut].to_vec());
        let n = chunks.iter().filter(|(_, end)| *end <= cut).count();
        assert_eq!(got.len(), whole[n], "cut at {cut}");
        assert!(got[..] == all[..got.len()], "cut at {cut}");
        let loss = reader.loss().unwrap_or_else(|| panic!("cut at {cut}: no loss said"));
        assert!(loss.offset <= cut as u64 && loss.bytes <= cut as u64, "cut at {cut}: {loss}");
        if n < chunks.len() && cut > chunks[n].0 {
            assert_eq!(loss.bytes, (cut - chunks[n].0) as u64, "cut at {cut}: {loss}");
        }
        assert_eq!(reader.info().unit, if cut > chunks[0].0 { "unit-7" } else { reader.info().unit.as_str() });
    }
}

#[test]
fn a_flipped_bit_is_never_silent_and_costs_its_own_chunk_at_most_what_follows() {
    let (bytes, all) = drive(120);
    let chunks = chunks(&bytes);
    let mut x = 99;
    let mut places: Vec<usize> = (0..60).map(|_| 8 + next_random(&mut x) as usize % (bytes.len() - 8)).collect();
    // Heads of chunks, the end of the data, the index.
    for (start, end) in &chunks {
        places.extend([*start, start + 2, start + 12, start + 26, start + 34, start + 40, end - 2]);
    }
    let mut inside = 0;
    for place in places {
        let mut broken = bytes.clone();
        broken[place] ^= 1 << (next_random(&mut x) % 8);
        let (got, reader) = read_all(broken);
        assert!(reader.loss().is_some(), "flip at {place} of {} is silent", bytes.len());
        // Nothing wrong may come out: what is read is a subsequence of what was written.
        let mut rest = all.iter();
        assert!(got.iter().all(|g| rest.any(|a| a == g)), "flip at {place} gave a record that was never written");
        let lost = all.len() - got.len();
        if let Some((start, end)) = chunks.iter().find(|(s, e)| (s + 70..*e).contains(&place))
            && lost > 0
        {
            // (A flip in LZ4's own trailing checksum costs nothing: it is said, with 0 bytes lost.)
            inside += 1;
            let loss = reader.loss().unwrap();
            assert_eq!((loss.offset, loss.bytes, loss.places), (*start as u64, (end - start) as u64, 1));
            assert!(lost < all.len() / 2, "flip at {place} cost {lost} of {}", all.len());
        }
    }
    assert!(inside > 30, "{inside}");
}

#[test]
fn a_drive_that_was_never_finished_is_read_but_for_its_open_chunk() {
    let (bytes, all) = drive(120);
    let end = chunks(&bytes)[1].1;
    let (got, reader) = read_all(bytes[..end].to_vec());
    assert!(!got.is_empty() && got[..] == all[..got.len()]);
    assert_eq!(reader.loss().map(|l| (l.bytes, l.reason.as_str())), Some((0, "cut: the end of the data is missing")));
    assert!(matches!(got[0], Owned::Frame(..)));
}
