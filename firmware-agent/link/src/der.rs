//! As much of DER as certificates are read with here: a value after the other. Nothing is allocated, and nothing panics.

/// Tag of a sequence.
pub(crate) const SEQUENCE: u8 = 0x30;

/// Tag, contents and rest of the first value.
pub(crate) fn next(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (len, rest) = if *first < 0x80 {
        (usize::from(*first), rest)
    } else {
        let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7F)).filter(|(b, _)| b.len() <= 4)?;
        (bytes.iter().fold(0, |len, b| len << 8 | usize::from(*b)), rest)
    };
    let (contents, rest) = rest.split_at_checked(len)?;
    Some((*tag, contents, rest))
}

/// Contents and rest of the first value, if it has that tag.
pub(crate) fn inside(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    next(der).filter(|(t, ..)| *t == tag).map(|(_, contents, rest)| (contents, rest))
}
