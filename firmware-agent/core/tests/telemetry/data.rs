//! Reads the recorded data that lies beside the project, if it does: numpy arrays and CSV columns.

use std::path::PathBuf;

/// The folder of recorded data, or `None` (with one printed line) when it is absent.
pub(super) fn folder(test: &str) -> Option<PathBuf> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    if dir.is_dir() {
        return Some(dir);
    }
    println!("{test}: recorded data absent, nothing checked");
    None
}

/// A numpy array of little-endian f64 in either order, as rows.
pub(super) fn npy(path: PathBuf) -> Vec<Vec<f64>> {
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(&bytes[..6], b"\x93NUMPY", "{}", path.display());
    let header_len = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = String::from_utf8_lossy(&bytes[10..10 + header_len]).into_owned();
    assert!(header.contains("'<f8'"), "{header}");
    let by_columns = header.contains("'fortran_order': True");
    let shape = header.split("'shape': (").nth(1).and_then(|s| s.split(')').next()).unwrap();
    let dims: Vec<usize> = shape.split(',').filter_map(|s| s.trim().parse().ok()).collect();
    let width = dims.get(1).copied().unwrap_or(1);
    let values: Vec<f64> =
        bytes[10 + header_len..].chunks_exact(8).map(|c| f64::from_le_bytes(c.try_into().unwrap())).collect();
    assert_eq!(values.len(), dims[0] * width);
    let at = |r: usize, c: usize| values[if by_columns { c * dims[0] + r } else { r * width + c }];
    (0..dims[0]).map(|r| (0..width).map(|c| at(r, c)).collect()).collect()
}

/// The lines of a CSV file after its header, split.
pub(super) fn csv(path: PathBuf) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().skip(1).map(|l| l.split(',').map(|s| s.trim().to_owned()).collect()).collect()
}
