//! Numpy array files, as far as comma2k19 needs them: versions 1 and 2; `<f8`, `<i8`, `|u1`, `|S8`; one or two dimensions,
//! rows or columns first.

use std::path::Path;

use super::{ImportError, bad, io_error};
use crate::limits::MAX_ARRAY_BYTES;

/// An array of 8-byte (or 1-byte) elements.
pub(crate) struct Array {
    bytes: Vec<u8>,
    start: usize,
    kind: String,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    columns_first: bool,
}

impl Array {
    /// Reads the file and checks its element type and its number of columns.
    pub(crate) fn read(path: &Path, kinds: &[&str], columns: usize) -> Result<Self, ImportError> {
        let size = std::fs::metadata(path).map_err(io_error(path))?.len();
        if size > MAX_ARRAY_BYTES as u64 {
            return Err(bad(path, format!("{size} bytes, more than the limit of {MAX_ARRAY_BYTES}")));
        }
        let bytes = std::fs::read(path).map_err(io_error(path))?;
        let array = Self::parse(bytes).map_err(|reason| bad(path, format!("numpy array: {reason}")))?;
        if !kinds.contains(&array.kind.as_str()) {
            return Err(bad(path, format!("numpy array of {}, expected {}", array.kind, kinds.join(" or "))));
        }
        if array.columns != columns {
            return Err(bad(path, format!("numpy array of {} columns, expected {columns}", array.columns)));
        }
        Ok(array)
    }

    fn parse(bytes: Vec<u8>) -> Result<Self, String> {
        let head = bytes.get(..10).filter(|h| h.starts_with(b"\x93NUMPY")).ok_or("no numpy header")?;
        let (at, n) = match head[6] {
            1 => (10, usize::from(u16::from_le_bytes([head[8], head[9]]))),
            2 => {
                let long = bytes.get(8..12).and_then(|b| b.try_into().ok()).ok_or("cut in its header")?;
                (12, u32::from_le_bytes(long) as usize)
            }
            v => return Err(format!("version {v} is not known")),
        };
        let text = bytes.get(at..at + n).and_then(|b| std::str::from_utf8(b).ok()).ok_or("cut in its header")?;
        let value = |key: &str| text.split_once(key).map(|(_, rest)| rest.trim_start_matches([':', ' ']));
        let kind = value("'descr'").and_then(|v| v.split('\'').nth(1)).ok_or("its header has no descr")?.to_owned();
        let columns_first = value("'fortran_order'").is_some_and(|v| v.starts_with("True"));
        let shape = value("'shape'").and_then(|v| v.strip_prefix('(')).and_then(|v| v.split_once(')'));
        let shape = shape.ok_or("its header has no shape")?.0;
        let mut sides = shape.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::parse::<usize>);
        let mut side = |default| sides.next().unwrap_or(Ok(default)).map_err(|e| format!("its shape ({shape}): {e}"));
        let (rows, columns) = (side(1)?, side(1)?);
        if sides.next().is_some() {
            return Err(format!("its shape ({shape}) has more than two sides"));
        }
        let element = match kind.as_str() {
            "|u1" => 1,
            "<f8" | "<i8" | "|S8" => 8,
            // Refused by its kind, which says more than that the bytes do not fit.
            _ => 0,
        };
        let start = at + n;
        let want = rows.checked_mul(columns).and_then(|c| c.checked_mul(element)).ok_or("its shape is too large")?;
        let have = bytes.len() - start;
        if have < want {
            return Err(format!("cut: its shape ({shape}) needs {want} bytes, there are {have}"));
        }
        Ok(Self { bytes, start, kind, rows, columns, columns_first })
    }

    /// The eight bytes of an element; zeros outside the array.
    pub(crate) fn raw(&self, row: usize, column: usize) -> [u8; 8] {
        let index = if self.columns_first { column * self.rows + row } else { row * self.columns + column };
        let at = self.start + 8 * index;
        self.bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).unwrap_or([0; 8])
    }

    /// An element of a `<f8` array.
    pub(crate) fn f64(&self, row: usize, column: usize) -> f64 {
        f64::from_le_bytes(self.raw(row, column))
    }

    /// An element of a `<i8` or `|u1` array; -1 for an integer outside `i64`.
    pub(crate) fn int(&self, row: usize) -> i64 {
        if self.kind == "|u1" {
            return self.bytes.get(self.start + row).map_or(-1, |b| i64::from(*b));
        }
        i64::from_le_bytes(self.raw(row, 0))
    }
}
