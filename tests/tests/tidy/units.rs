//! The units that ship are confined as promised: systemd's own measure of their exposure, 2.0 of 10 at most.

use std::process::Command;

/// Exposure times ten.
const MOST: &str = "20";
/// The first release that measures files ("--offline").
const OFFLINE_SINCE: u32 = 250;

/// The installed release; none where there is no systemd-analyze.
fn release() -> Option<u32> {
    let output = Command::new("systemd-analyze").arg("--version").output().ok()?;
    number(&String::from_utf8_lossy(&output.stdout))
}

/// Of `systemd 252 (252.38-1~deb12u1)`.
fn number(version: &str) -> Option<u32> {
    let digits = version.strip_prefix("systemd ")?.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// Whether a unit's file is within the threshold, and what was said of it.
fn measure(unit: &std::path::Path, threshold: &str) -> (bool, String) {
    let threshold = format!("--threshold={threshold}");
    let arguments = ["security", "--no-pager", "--offline=true", &threshold];
    let output = Command::new("systemd-analyze").args(arguments).arg(unit).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn both_units_are_confined() {
    match release() {
        Some(release) if release >= OFFLINE_SINCE => {}
        found => {
            println!(
                "SKIPPED: the exposure of the units needs systemd-analyze {OFFLINE_SINCE} or later; here: {found:?}"
            );
            return;
        }
    }
    for name in ["firmware-agent.service", "firmware-agent-student.service"] {
        let unit = super::root().join("systemd").join(name);
        let (within, said) = measure(&unit, MOST);
        assert!(within && said.contains("Overall exposure level"), "{said}");
    }
    let folder = tempfile::tempdir().unwrap();
    let open = folder.path().join("open.service");
    std::fs::write(&open, "[Service]\nExecStart=/bin/true\n").unwrap();
    let (within, said) = measure(&open, MOST);
    assert!(!within, "a unit that is not confined at all is found: {said}");
}

#[test]
fn releases_are_read() {
    assert_eq!(number("systemd 252 (252.38-1~deb12u1)\n+PAM"), Some(252));
    assert_eq!(number("systemd 257~rc1"), Some(257));
    assert_eq!((number("systemd"), number("")), (None, None));
}
