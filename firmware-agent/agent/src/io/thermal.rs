//! Thermal zones by their type.
//!
//! The kernel numbers zones as drivers come up, so that a number says nothing on the next board or kernel; a zone's type is its name in
//! the device tree (`tj-thermal` of the Orins in mainline and JetPack 6: the hottest of all). Documentation/driver-api/thermal/sysfs-api.rst.

use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Before a type in place of a path.
const BY_TYPE: &str = "type:";
/// Where the kernel lists its zones.
const ROOT: &str = "/sys/class/thermal";
/// An Orin has ten.
const MAX_ZONES: usize = 64;
/// The kernel's names are shorter (THERMAL_NAME_LENGTH).
const MAX_TYPE: u64 = 64;

/// The file with a zone's temperature: of the type that `configured` asks for (`type:NAME`), or the path that it is.
///
/// # Errors
/// No zone is of that type; says which types there are.
pub(crate) fn file(configured: &Path, resolve: impl Fn(&Path) -> PathBuf) -> Result<PathBuf, String> {
    match configured.to_str().and_then(|text| text.strip_prefix(BY_TYPE)) {
        Some(wanted) => by_type(wanted, Path::new(ROOT)),
        None => Ok(resolve(configured)),
    }
}

/// The zone with the lowest number of those of the type.
fn by_type(wanted: &str, root: &Path) -> Result<PathBuf, String> {
    let mut found = Vec::new();
    for number in 0..MAX_ZONES {
        let zone = root.join(format!("thermal_zone{number}"));
        let Some(kind) = kind(&zone) else { continue };
        if kind == wanted {
            return Ok(zone.join("temp"));
        }
        found.push(kind);
    }
    let there = if found.is_empty() { "none at all".to_owned() } else { found.join(", ") };
    Err(format!("no thermal zone is of type {wanted}; in {} there are {there}", root.display()))
}

fn kind(zone: &Path) -> Option<String> {
    let mut text = String::new();
    std::fs::File::open(zone.join("type")).ok()?.take(MAX_TYPE).read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_found_by_its_type_whatever_its_number() {
        let root = tempfile::tempdir().unwrap();
        for (number, kind) in [(0, "cpu-thermal"), (3, "gpu-thermal"), (8, "tj-thermal"), (9, "tj-thermal")] {
            let zone = root.path().join(format!("thermal_zone{number}"));
            std::fs::create_dir(&zone).unwrap();
            std::fs::write(zone.join("type"), format!("{kind}\n")).unwrap();
        }
        assert_eq!(by_type("tj-thermal", root.path()), Ok(root.path().join("thermal_zone8/temp")));
        let why = by_type("tj", root.path()).unwrap_err();
        assert!(why.ends_with("there are cpu-thermal, gpu-thermal, tj-thermal, tj-thermal"), "{why}");
        let why = by_type("tj", &root.path().join("nowhere")).unwrap_err();
        assert!(why.ends_with("none at all"), "{why}");
        std::fs::write(root.path().join("thermal_zone0/type"), [0xff, 0xfe]).unwrap();
        assert!(by_type("cpu-thermal", root.path()).is_err());
    }

    #[test]
    fn a_path_stays_one() {
        let resolve = |path: &Path| Path::new("/etc/unit").join(path);
        assert_eq!(file(Path::new("zone"), resolve), Ok(PathBuf::from("/etc/unit/zone")));
        assert_eq!(file(Path::new("/sys/t"), resolve), Ok(PathBuf::from("/sys/t")));
        assert!(file(Path::new("type:no such type"), resolve).is_err());
    }
}
