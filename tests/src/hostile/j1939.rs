//! Frames of a bus with the program's own presets, J1939 and OBD-II: what is decoded is a number and no more than the frame can
//! hold, and the kernel's filters let every frame through that is decoded.
//!
//! A frame is a byte of flags (bit 0 OBD-II, 1 extended, 2 FD, 3 remote), the identifier (4 bytes, little endian), a length and
//! its data.

use std::sync::OnceLock;

use agent_core::samples::CanFrame;
use agent_core::time::MonoTime;
use agent_drive::SignalMap;

use crate::config::types::CanPreset;
use crate::preset::preset;

/// Values of one frame at most: each preset has fewer signals.
const MOST_VALUES: usize = 8;

fn maps() -> &'static [SignalMap; 2] {
    static MAPS: OnceLock<[SignalMap; 2]> = OnceLock::new();
    MAPS.get_or_init(|| {
        [CanPreset::J1939, CanPreset::Obd2].map(|which| {
            let (text, mappings) = preset(which).expect("a preset of a name");
            SignalMap::from_dbc(text, mappings).expect("the program's own DBC is sound")
        })
    })
}

pub fn judge(data: &[u8]) {
    let mut maps = maps().clone();
    let (mut rest, mut out) = (data, Vec::new());
    while let Some(([flags, i0, i1, i2, i3, length], after)) = rest.split_first_chunk::<6>() {
        let extended = flags & 2 != 0;
        let id = u32::from_le_bytes([*i0, *i1, *i2, *i3]) & if extended { 0x1FFF_FFFF } else { 0x7FF };
        let fd = flags & 4 != 0;
        let len = usize::from(*length).min(if fd { 64 } else { 8 }).min(after.len());
        let mut payload = [0; 64];
        payload[..len].copy_from_slice(&after[..len]);
        rest = &after[len..];
        let remote = flags & 8 != 0;
        let frame = CanFrame { t: MonoTime(7), bus: 0, id, extended, fd, remote, len: len as u8, data: payload };
        let map = &mut maps[usize::from(flags & 1)];
        out.clear();
        map.decode(&frame, &mut out);
        assert!(out.len() <= MOST_VALUES && out.iter().all(|s| s.value.is_finite() && s.t == frame.t), "{out:?}");
        assert!(out.is_empty() || !remote);
        let passes = map.filters().iter().any(|f| f.extended == extended && (f.id ^ id) & f.mask == 0);
        assert!(passes || out.is_empty(), "{frame:?} gives {out:?}, but no filter lets it through");
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let frame = |flags: u8, id: u32, data: &[u8]| [&[flags][..], &id.to_le_bytes(), &[data.len() as u8], data].concat();
    let trucks = [
        frame(2, 0x18FE_F10B, &[0xff, 0, 0x50, 0x10, 0, 0, 0, 0]),
        frame(2, 0x0CF0_0400, &[0, 0, 0, 0x80, 0x25, 0, 0, 0]),
        frame(2, 0x0CF0_0913, &[0xe0, 0x7d, 0, 0x70, 0x7d, 0, 0, 0]),
        frame(2, 0x0CF0_0300, &[0xff, 0xfe, 0xff, 0xff]),
        frame(2, 0x18F0_010B, &[0x10]),
    ];
    let cars = [
        frame(1, 0x7e8, &[3, 0x41, 0x0d, 50, 0, 0, 0, 0]),
        frame(1, 0x7e8, &[4, 0x41, 0x0c, 0x1a, 0xf8, 0, 0, 0]),
        frame(1, 0x7e8, &[3, 0x7f, 0x01, 0x12, 0, 0, 0, 0]),
        frame(9, 0x7e8, &[]),
    ];
    trucks.iter().chain(&cars).cloned().chain([trucks.concat(), cars.concat()]).collect()
}
