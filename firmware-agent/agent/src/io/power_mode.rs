//! The power mode of a Jetson: how many cores run and how fast, so what the trigger and the student may cost.
//!
//! Read from what `nvpmodel` itself keeps, so that no program is run and no right is needed: `/var/lib/nvpmodel/status`
//! has the number of the mode in force (`pmode:0002`), and `/etc/nvpmodel.conf` gives the numbers their names
//! (`< POWER_MODEL ID=2 NAME=MAXN_SUPER >`). Numbers change between releases of JetPack, names do not.

use std::io::Read as _;
use std::path::Path;

const STATUS: &str = "/var/lib/nvpmodel/status";
const MODES: &str = "/etc/nvpmodel.conf";
/// NVIDIA's own have 10 to 30 KB.
const MAX_BYTES: u64 = 1 << 20;

/// The mode in force, and its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mode {
    pub(crate) name: String,
    pub(crate) number: u32,
    /// The number of the mode that was asked for, if this board has it.
    pub(crate) wanted: Option<u32>,
    /// All that the board has.
    pub(crate) there: Vec<String>,
}

/// The mode in force on this board, beside the one that is `wanted`.
///
/// # Errors
/// The file that is missing or says no mode.
pub(crate) fn mode(wanted: &str) -> Result<Mode, String> {
    mode_by(wanted, Path::new(STATUS), Path::new(MODES))
}

fn mode_by(wanted: &str, status: &Path, modes: &Path) -> Result<Mode, String> {
    let number = number(&read(status)?).ok_or_else(|| format!("{} says no mode", status.display()))?;
    let named = names(&read(modes)?);
    let name = named.iter().find(|(n, _)| *n == number).map(|(_, name)| name.clone());
    let name = name.ok_or_else(|| format!("{} has no mode {number}", modes.display()))?;
    let wanted = named.iter().find(|(_, name)| name == wanted).map(|(n, _)| *n);
    Ok(Mode { name, number, wanted, there: named.into_iter().map(|(_, name)| name).collect() })
}

/// What to say where another mode is in force than is wanted; nothing where it is that one.
pub(crate) fn remark(wanted: &str) -> Option<String> {
    match mode(wanted) {
        Ok(mode) if mode.name == wanted => None,
        Ok(mode) => Some(format!("the power mode is {}, and unit.power_mode {wanted}", mode.name)),
        Err(why) => Some(format!("the power mode is not known, and unit.power_mode {wanted}: {why}")),
    }
}

fn read(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes));
    file.map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn number(status: &str) -> Option<u32> {
    status.split_ascii_whitespace().find_map(|word| word.strip_prefix("pmode:")?.parse().ok())
}

fn names(modes: &str) -> Vec<(u32, String)> {
    let named = modes.lines().filter_map(|line| {
        let line = line.trim().strip_prefix('<')?.trim_start().strip_prefix("POWER_MODEL")?;
        let word = |key: &str| line.split_ascii_whitespace().find_map(|word| word.strip_prefix(key));
        Some((word("ID=")?.parse().ok()?, word("NAME=")?.trim_end_matches('>').to_owned()))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // In the layout of NVIDIA's file, with the names of an Orin Nano under JetPack 6.2.
    const ORIN_NANO: &str = "# nvpmodel\n< PARAM TYPE=FILE NAME=CPU_ONLINE >\nCORE_0 /sys/devices/system/cpu/cpu0/online\n\n\
        < POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=1 NAME=25W >\n\
        #< POWER_MODEL ID=7 NAME=GONE >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER>\n< PM_CONFIG DEFAULT=0 >\n";

    fn found(wanted: &str, status: &[u8], modes: &[u8]) -> Result<Mode, String> {
        let folder = tempfile::tempdir().unwrap();
        let (at, conf) = (folder.path().join("status"), folder.path().join("nvpmodel.conf"));
        std::fs::write(&at, status).unwrap();
        std::fs::write(&conf, modes).unwrap();
        mode_by(wanted, &at, &conf).map_err(|why| why.replace(&folder.path().display().to_string(), "DIR"))
    }

    #[test]
    fn the_mode_in_force_is_named_by_the_boards_own_list() {
        let there = ["15W", "25W", "MAXN_SUPER"].map(str::to_owned).to_vec();
        let mode =
            |name: &str, number, wanted| Ok(Mode { name: name.to_owned(), number, wanted, there: there.clone() });
        let of = |wanted: &str, status: &str| found(wanted, status.as_bytes(), ORIN_NANO.as_bytes());
        assert_eq!(of("15W", "pmode:0000\n"), mode("15W", 0, Some(0)));
        assert_eq!(of("15W", "pmode:0001 fmode:quiet\n"), mode("25W", 1, Some(0)));
        assert_eq!(of("25W", "pmode:0002"), mode("MAXN_SUPER", 2, Some(1)));
        assert_eq!(of("30W", "pmode:0001\n"), mode("25W", 1, None));
        assert_eq!(of("15W", "pmode:0007\n"), Err("DIR/nvpmodel.conf has no mode 7".to_owned()));
    }

    #[test]
    fn files_that_say_nothing_are_named() {
        let of = |status: &[u8], modes: &[u8]| found("15W", status, modes).unwrap_err();
        assert_eq!(of(b"", b""), "DIR/status says no mode");
        assert_eq!(of(b"pmode:-1", b""), "DIR/status says no mode");
        assert_eq!(of(b"pmode:0", b"< POWER_MODEL ID= NAME= >\n<\n< POWER_MODEL"), "DIR/nvpmodel.conf has no mode 0");
        assert_eq!(of(&[0xff; 40], ORIN_NANO.as_bytes()), "DIR/status says no mode");
        let why = mode_by("15W", Path::new("/nowhere/status"), Path::new("/nowhere/conf")).unwrap_err();
        assert!(why.starts_with("/nowhere/status: "), "{why}");
    }
}
