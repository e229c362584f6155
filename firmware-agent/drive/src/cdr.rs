//! The little of CDR (the encoding of ROS 2 messages) and protobuf that our schemas need.
//!
//! CDR here is XCDR1, little-endian: a four-byte header `00 01 00 00`, then fields aligned to their own size, counted
//! from behind the header. Readers check every length; nothing here panics on any bytes.

/// Writes one CDR message into a reused buffer.
pub(crate) struct CdrWriter<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> CdrWriter<'a> {
    /// Clears `out` and writes the header.
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        out.clear();
        out.extend_from_slice(&[0, 1, 0, 0]);
        Self { out }
    }

    fn align(&mut self, to: usize) {
        let used = self.out.len() - 4;
        let pad = (to - used % to) % to;
        self.out.resize(self.out.len() + pad, 0);
    }

    pub(crate) fn u8(&mut self, v: u8) {
        self.out.push(v);
    }

    pub(crate) fn bool(&mut self, v: bool) {
        self.u8(u8::from(v));
    }

    pub(crate) fn u32(&mut self, v: u32) {
        self.align(4);
        self.out.extend_from_slice(&v.to_le_bytes());
    }

    pub(crate) fn u16(&mut self, v: u16) {
        self.align(2);
        self.out.extend_from_slice(&v.to_le_bytes());
    }

    pub(crate) fn f64(&mut self, v: f64) {
        self.align(8);
        self.out.extend_from_slice(&v.to_le_bytes());
    }

    pub(crate) fn f64s(&mut self, vs: &[f64]) {
        vs.iter().for_each(|v| self.f64(*v));
    }

    pub(crate) fn bytes(&mut self, v: &[u8]) {
        self.out.extend_from_slice(v);
    }

    pub(crate) fn string(&mut self, v: &str) {
        self.u32(v.len() as u32 + 1);
        self.bytes(v.as_bytes());
        self.u8(0);
    }

    /// A `builtin_interfaces/Time` of nanoseconds; seconds saturate at the range of `int32`.
    pub(crate) fn time(&mut self, t_ns: u64) {
        self.u32((t_ns / 1_000_000_000).min(i32::MAX as u64) as u32);
        self.u32((t_ns % 1_000_000_000) as u32);
    }

    /// A `std_msgs/Header`.
    pub(crate) fn header(&mut self, t_ns: u64, frame_id: &str) {
        self.time(t_ns);
        self.string(frame_id);
    }
}

/// Reads one CDR message; `None` where it is too short or big-endian.
pub(crate) struct CdrReader<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> CdrReader<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Option<Self> {
        // Encapsulation 0x0001 is plain CDR, little-endian: what every ROS 2 recorder on our platforms writes.
        (message.get(..2)? == [0, 1]).then_some(())?;
        Some(Self { body: message.get(4..)?, at: 0 })
    }

    pub(crate) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(n)?;
        let part = self.body.get(self.at..end)?;
        self.at = end;
        Some(part)
    }

    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub(crate) fn bool(&mut self) -> Option<bool> {
        Some(self.u8()? != 0)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.align(4);
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.align(2);
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }

    pub(crate) fn f64(&mut self) -> Option<f64> {
        self.align(8);
        Some(f64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    pub(crate) fn f64s<const N: usize>(&mut self) -> Option<[f64; N]> {
        let mut out = [0.0; N];
        for v in &mut out {
            *v = self.f64()?;
        }
        Some(out)
    }

    pub(crate) fn string(&mut self) -> Option<&'a str> {
        let n = self.u32()? as usize;
        let bytes = self.take(n)?;
        std::str::from_utf8(bytes.strip_suffix(&[0]).unwrap_or(bytes)).ok()
    }

    /// A time in nanoseconds.
    pub(crate) fn time(&mut self) -> Option<u64> {
        let s = u64::from(self.u32()?);
        Some(s * 1_000_000_000 + u64::from(self.u32()?))
    }

    /// A header: its time and frame id.
    pub(crate) fn header(&mut self) -> Option<(u64, &'a str)> {
        Some((self.time()?, self.string()?))
    }
}

/// Appends a protobuf varint.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

/// Appends a protobuf varint field.
pub(crate) fn put_uint(out: &mut Vec<u8>, field: u32, v: u64) {
    put_varint(out, u64::from(field) << 3);
    put_varint(out, v);
}

/// Appends a protobuf length-delimited field.
pub(crate) fn put_bytes(out: &mut Vec<u8>, field: u32, v: &[u8]) {
    put_varint(out, u64::from(field) << 3 | 2);
    put_varint(out, v.len() as u64);
    out.extend_from_slice(v);
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut v = 0u64;
    for shift in (0..64).step_by(7) {
        let b = *bytes.get(*at)?;
        *at += 1;
        v |= u64::from(b & 0x7F) << shift;
        if b & 0x80 == 0 {
            return Some(v);
        }
    }
    None
}

/// One protobuf field as it lies in the message.
pub(crate) enum ProtoField {
    /// A length-delimited field and where its bytes are.
    Bytes(u32, std::ops::Range<usize>),
    /// Any other field, skipped.
    Other,
}

/// Reads the field at `at` and moves behind it; `None` at a malformed one.
pub(crate) fn next_field(bytes: &[u8], at: &mut usize) -> Option<ProtoField> {
    let key = varint(bytes, at)?;
    let number = u32::try_from(key >> 3).ok()?;
    let skip = match key & 7 {
        0 => {
            varint(bytes, at)?;
            return Some(ProtoField::Other);
        }
        1 => 8,
        5 => 4,
        2 => usize::try_from(varint(bytes, at)?).ok()?,
        _ => return None,
    };
    let end = at.checked_add(skip).filter(|e| *e <= bytes.len())?;
    let range = *at..end;
    *at = end;
    Some(if key & 7 == 2 { ProtoField::Bytes(number, range) } else { ProtoField::Other })
}
