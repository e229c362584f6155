//! JPEG pictures of cameras, made whole: most cameras leave the Huffman tables out, which no viewer forgives.
//!
//! Cameras that speak MJPEG mean the tables of ITU-T T.81, annex K.3 where a picture has none. They are put in before the
//! scan, so that each kept frame is a JPEG file of its own. Looks at the segments before the scan and decodes nothing.

/// What the segments before the scan say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    size: [u16; 2],
    tables: bool,
    /// Where the start-of-scan marker begins.
    scan: usize,
}

/// Copies a picture to `out`, with tables; gives its width and height, or `None` if it is no whole picture: one that
/// was cut on its way has no end marker.
pub(crate) fn whole(bytes: &[u8], out: &mut Vec<u8>) -> Option<[u16; 2]> {
    let head = head(bytes)?;
    // Some cameras fill the buffer up with zeros.
    let end = bytes.iter().rposition(|b| *b != 0)? + 1;
    let bytes = bytes.get(..end)?;
    bytes.ends_with(&[0xFF, 0xD9]).then_some(())?;
    out.clear();
    if head.tables {
        out.extend_from_slice(bytes);
        return Some(head.size);
    }
    let (before, scan) = bytes.split_at_checked(head.scan)?;
    out.extend_from_slice(before);
    for (class, lengths, values) in TABLES {
        let length = 2 + 1 + lengths.len() + values.len();
        out.extend_from_slice(&[0xFF, 0xC4, (length >> 8) as u8, length as u8, class]);
        out.extend_from_slice(&lengths);
        out.extend_from_slice(values);
    }
    out.extend_from_slice(scan);
    Some(head.size)
}

fn head(bytes: &[u8]) -> Option<Head> {
    let (mut at, mut size, mut tables) = (2, None, false);
    bytes.starts_with(&[0xFF, 0xD8]).then_some(())?;
    loop {
        let marker = bytes.get(at..at + 2)?;
        (marker[0] == 0xFF).then_some(())?;
        let kind = marker[1];
        // Fill bytes, and markers that stand alone.
        if kind == 0xFF {
            at += 1;
            continue;
        }
        if matches!(kind, 0x01 | 0xD0..=0xD7) {
            at += 2;
            continue;
        }
        let length = bytes.get(at + 2..at + 4)?;
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        (length >= 2).then_some(())?;
        match kind {
            0xC4 => tables = true,
            0xC0..=0xC2 => {
                let s = bytes.get(at + 5..at + 9)?;
                size = Some([u16::from_be_bytes([s[2], s[3]]), u16::from_be_bytes([s[0], s[1]])]);
            }
            0xDA => return Some(Head { size: size?, tables, scan: at }),
            _ => {}
        }
        at += 2 + length;
    }
}

/// Class and number, counts of codes of each length, values: annex K.3.
type Table = (u8, [u8; 16], &'static [u8]);
const TABLES: [Table; 4] = [
    (0x00, [0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0], &DC_VALUES),
    (0x10, [0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7D], &AC_LUMA),
    (0x01, [0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0], &DC_VALUES),
    (0x11, [0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 0x77], &AC_CHROMA),
];
const DC_VALUES: [u8; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
#[rustfmt::skip]
const AC_LUMA: [u8; 162] = [
    0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07, 0x22, 0x71,
    0x14, 0x32, 0x81, 0x91, 0xA1, 0x08, 0x23, 0x42, 0xB1, 0xC1, 0x15, 0x52, 0xD1, 0xF0, 0x24, 0x33, 0x62, 0x72,
    0x82, 0x09, 0x0A, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2A, 0x34, 0x35, 0x36, 0x37,
    0x38, 0x39, 0x3A, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4A, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59,
    0x5A, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6A, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7A, 0x83,
    0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0xA2, 0xA3,
    0xA4, 0xA5, 0xA6, 0xA7, 0xA8, 0xA9, 0xAA, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6, 0xB7, 0xB8, 0xB9, 0xBA, 0xC2, 0xC3,
    0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8, 0xD9, 0xDA, 0xE1, 0xE2,
    0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEA, 0xF1, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8, 0xF9, 0xFA,
];
#[rustfmt::skip]
const AC_CHROMA: [u8; 162] = [
    0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71, 0x13, 0x22,
    0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xA1, 0xB1, 0xC1, 0x09, 0x23, 0x33, 0x52, 0xF0, 0x15, 0x62, 0x72, 0xD1,
    0x0A, 0x16, 0x24, 0x34, 0xE1, 0x25, 0xF1, 0x17, 0x18, 0x19, 0x1A, 0x26, 0x27, 0x28, 0x29, 0x2A, 0x35, 0x36,
    0x37, 0x38, 0x39, 0x3A, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4A, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58,
    0x59, 0x5A, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6A, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7A,
    0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A,
    0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7, 0xA8, 0xA9, 0xAA, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6, 0xB7, 0xB8, 0xB9, 0xBA,
    0xC2, 0xC3, 0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8, 0xD9, 0xDA,
    0xE2, 0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEA, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8, 0xF9, 0xFA,
];

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn picture(width: u16, height: u16) -> Vec<u8> {
        let rgb: Vec<u8> = (0..3 * usize::from(width) * usize::from(height)).map(|i| (i * 7 % 251) as u8).collect();
        let mut out = Vec::new();
        let encoder = jpeg_encoder::Encoder::new(&mut out, 80);
        encoder.encode(&rgb, width, height, jpeg_encoder::ColorType::Rgb).unwrap();
        out
    }

    /// The same picture as a camera sends it: without tables.
    fn bare(bytes: &[u8]) -> Vec<u8> {
        let mut out = bytes[..2].to_vec();
        let mut at = 2;
        while bytes[at + 1] != 0xDA {
            let length = 2 + usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
            if bytes[at + 1] != 0xC4 {
                out.extend_from_slice(&bytes[at..at + length]);
            }
            at += length;
        }
        out.extend_from_slice(&bytes[at..]);
        out
    }

    #[test]
    fn a_picture_with_tables_stays_as_it_is() {
        let picture = picture(48, 32);
        let mut out = Vec::new();
        assert_eq!(whole(&picture, &mut out), Some([48, 32]));
        assert_eq!(out, picture);
        let mut padded = picture.clone();
        padded.extend([0; 100]);
        assert_eq!(whole(&padded, &mut out), Some([48, 32]));
        assert_eq!(out, picture, "without the zeros behind it");
    }

    #[test]
    fn a_picture_without_tables_gets_those_that_its_encoder_used() {
        let picture = picture(48, 32);
        let bare = bare(&picture);
        assert!(bare.len() < picture.len() - 400);
        let mut out = Vec::new();
        assert_eq!(whole(&bare, &mut out), Some([48, 32]));
        let decode = |bytes: &[u8]| {
            let meta = agent_core::samples::FrameMeta {
                t: agent_core::time::MonoTime::ZERO,
                seq: 0,
                codec: agent_core::samples::VideoCodec::Jpeg,
                key: true,
                size: [48, 32],
            };
            let mut decoder = agent_drive::VideoDecoder::new(meta.codec, 640).unwrap();
            decoder.decode(&meta, bytes).unwrap().unwrap().rgb.to_vec()
        };
        assert_eq!(decode(&out), decode(&picture));
    }

    #[test]
    fn what_was_cut_or_is_no_picture_is_none() {
        let picture = picture(16, 16);
        let mut out = Vec::new();
        for end in 0..picture.len() {
            assert_eq!(whole(&picture[..end], &mut out), None, "cut at {end}");
        }
        for at in 0..picture.len() {
            let mut changed = picture.clone();
            changed[at] ^= 0xFF;
            let _ = whole(&changed, &mut out);
        }
        assert_eq!(whole(&[0; 500], &mut out), None);
        assert_eq!(whole(&[0xFF; 500], &mut out), None);
    }
}
