//! Which cameras the system has, from the names that it gives them. Opens no device.

use std::fs;
use std::path::{Path, PathBuf};

/// Most devices that are listed.
const MOST: usize = 64;

/// One camera, or one of its streams.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Found {
    /// Name that stays the same when it is plugged in again, if the system made one; else the device file.
    pub(crate) path: PathBuf,
    /// Device file.
    pub(crate) device: PathBuf,
    /// What its driver calls it.
    pub(crate) card: String,
}

/// The video devices below `dev` (`/dev`), with their names from `class` (`/sys/class/video4linux`).
pub(crate) fn cameras(dev: &Path, class: &Path) -> Vec<Found> {
    let mut stable: Vec<(PathBuf, PathBuf)> = Vec::new();
    // By port comes after by name: it is stable too, but another camera may sit there.
    for folder in ["v4l/by-id", "v4l/by-path"] {
        let Ok(entries) = fs::read_dir(dev.join(folder)) else { continue };
        let links = entries.flatten().take(MOST).map(|e| e.path());
        let mut links: Vec<_> = links.filter_map(|l| Some((fs::canonicalize(&l).ok()?, l))).collect();
        links.sort();
        stable.extend(links);
    }
    let Ok(entries) = fs::read_dir(dev) else { return Vec::new() };
    let mut found: Vec<Found> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let number =
                name.strip_prefix("video").filter(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))?;
            let device = dev.join(&name);
            let real = fs::canonicalize(&device).ok()?;
            let path = stable.iter().find(|(to, _)| *to == real).map_or(device.clone(), |(_, link)| link.clone());
            let card = fs::read_to_string(class.join(format!("video{number}/name"))).unwrap_or_default();
            let card = card.trim().chars().filter(|c| !c.is_control()).take(64).collect();
            Some(Found { path, device, card })
        })
        .take(MOST)
        .collect();
    found.sort();
    found
}

/// Whether a name stays with the camera when it is plugged in again.
pub(crate) fn is_stable(path: &Path) -> bool {
    path.components().any(|c| c.as_os_str() == "by-id" || c.as_os_str() == "by-path")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cameras_are_listed_by_their_stable_names() {
        let root = tempfile::tempdir().unwrap();
        let (dev, class) = (root.path().join("dev"), root.path().join("class"));
        fs::create_dir_all(dev.join("v4l/by-id")).unwrap();
        for n in [0, 1] {
            fs::write(dev.join(format!("video{n}")), "").unwrap();
            fs::create_dir_all(class.join(format!("video{n}"))).unwrap();
            fs::write(class.join(format!("video{n}/name")), format!("Camera {n}\n")).unwrap();
        }
        fs::write(dev.join("video-odd"), "").unwrap();
        fs::write(dev.join("null"), "").unwrap();
        let link = dev.join("v4l/by-id/usb-Maker_Camera-video-index0");
        std::os::unix::fs::symlink("../../video1", &link).unwrap();
        let found = cameras(&dev, &class);
        let zero = Found { path: dev.join("video0"), device: dev.join("video0"), card: "Camera 0".to_owned() };
        let one = Found { path: link.clone(), device: dev.join("video1"), card: "Camera 1".to_owned() };
        assert_eq!(found.len(), 2);
        assert!(found.contains(&zero) && found.contains(&one), "{found:?}");
        assert!(is_stable(&link) && !is_stable(Path::new("/dev/video0")));
        assert_eq!(cameras(&root.path().join("nothing"), &class), []);
    }
}
