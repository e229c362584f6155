//! Seeded changes to sound inputs, for a bounded run without a fuzzer: the same seed gives the same inputs everywhere.

use agent_sim::rng::Rng;

/// Values at which lengths and counts go wrong.
const EDGES: [u64; 8] = [0, 1, 0x7F, 0xFF, 0x7FFF_FFFF, 0xFFFF_FFFF, u64::MAX >> 1, u64::MAX];

/// One input made from two others: some bytes flipped, set or written over with an edge of a number, a part cut out,
/// doubled or taken from the second, the end cut off. At most `most` bytes.
#[must_use]
pub fn mutate(rng: &mut Rng, first: &[u8], second: &[u8], most: usize) -> Vec<u8> {
    let mut bytes = first.to_vec();
    for _ in 0..1 + below(rng, 4) {
        let at = below(rng, bytes.len());
        match below(rng, 7) {
            0 => flip(rng, &mut bytes, at),
            1 => {
                let byte = rng.next_u64() as u8;
                bytes.get_mut(at..).unwrap_or_default().iter_mut().take(1).for_each(|b| *b = byte);
            }
            2 => {
                let edge = EDGES[below(rng, EDGES.len())].to_le_bytes();
                let width = 1 << below(rng, 4);
                bytes.iter_mut().skip(at).zip(edge).take(width).for_each(|(b, edge)| *b = edge);
            }
            3 => bytes.truncate(at),
            4 => {
                let end = at + below(rng, (bytes.len() - at).min(64));
                bytes.drain(at..end);
            }
            5 => {
                let end = at + below(rng, (bytes.len() - at).min(64));
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => {
                let from = below(rng, second.len());
                let end = from + below(rng, second.len() - from);
                let until = at + below(rng, bytes.len() - at);
                bytes.splice(at..until, second[from..end].iter().copied());
            }
        }
    }
    bytes.truncate(most);
    bytes
}

fn flip(rng: &mut Rng, bytes: &mut [u8], at: usize) {
    let bit = below(rng, 8);
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << bit;
    }
}

/// A number below `n`; 0 if there is none.
#[must_use]
pub fn below(rng: &mut Rng, n: usize) -> usize {
    (rng.next_u64() % n.max(1) as u64) as usize
}
