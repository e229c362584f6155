//! Broken configurations and command lines.

use super::{Case, case};

const CONFIG: &str = "Configurations";
/// A unit with a name, which `run` wants before anything else.
const NAMED: &str = "[unit]\nname = \"a\"\n";
const LINE: &str = "Command lines and places for results";

/// `check-config` on a file of that text.
fn check(what: &'static str, text: &str, says: &[&'static str]) -> Case {
    case(CONFIG, what, "check-config unit.toml", 3, says).file("unit.toml", text)
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = vec![
        check("a slip of the pen", "[trigger.vision]\nrisk_onn = 0.7\n", &["unit.toml:2:1: ", "did you mean risk_on?"]),
        check("a section that does not exist", "[camera]\nfps = 30\n", &["unit.toml:1:2: camera is not a known key"]),
        check(
            "a threshold above its range",
            "[trigger.vision]\nrisk_on = 1.5\n",
            &["unit.toml:2:11: ", "is 1.5, above 1"],
        ),
        check(
            "a number in quotes",
            "[rings]\npost_roll_s = \"5\"\n",
            &["unit.toml:2:15: ", "a whole number from 1 to 60"],
        ),
        check(
            "two problems",
            "[unit]\nnam = \"a\"\n[rings]\npost_roll_s = 0\n",
            &["unit.toml:2:1: ", "unit.toml:4:15: ", "2 problems"],
        ),
        check("YAML", "unit:\n  name: a\n", &["unit.toml:1:5: is not TOML"]),
        check("a string that does not end", "[unit]\nname = \"a\n", &["unit.toml:2:10: is not TOML"]),
        check(
            "hysteresis upside down",
            "[trigger.vision]\nrisk_on = 0.5\nrisk_off = 0.6\n",
            &["unit.toml:3:12: ", ":2:11"],
        ),
        check("rings larger than their cap", "[rings]\nmemory_cap_mb = 40\n", &["unit.toml:2:17: ", "45.3 MB"]),
        check("a signal without a DBC", "[can.signals]\nspeed = \"A.B\"\n", &["unit.toml:2:9: ", "can.dbc is none"]),
        check(
            "a broker of another protocol",
            "[link]\nbroker = \"http://a:80\"\n",
            &["unit.toml:2:10: ", "mqtt://host:port"],
        ),
        check("a password", "[link]\nbroker = \"mqtt://me:secret@a\"\n", &["unit.toml:2:10: ", "credentials"]),
        check(
            "a token's PIN",
            "[link.tls]\ncertificate = \"a\"\nkey = \"pkcs11:object=k?module-path=/m&pin-value=12\"\n",
            &["unit.toml:3:7: ", "pin-value=...\", with pin-value: a secret has no place"],
        ),
        check("an unknown parent", "inherits = \"orin9\"\n", &["unit.toml:1:12: ", "names neither a file"]),
        check("itself as its parent", "inherits = \"unit\"\n", &["unit.toml:1:12: ", "leads back to itself"]),
        check("a unit without a name", "[unit]\nname = \"\"\n", &["unit.toml:2:8: ", "the name is empty"]),
        check("nesting without end", "a = [[[[[[[[[[1]]]]]]]]]]\n", &["unit.toml:1:13: nests deeper than 8 levels"]),
        case(
            CONFIG,
            "bytes that are no text",
            "check-config unit.toml",
            3,
            &["unit.toml: is not UTF-8 text from byte 2 on"],
        )
        .file("unit.toml", b"# \xff\xfe\x00".to_vec()),
        case(CONFIG, "a file of a megabyte", "check-config unit.toml", 3, &["unit.toml: is larger than 262144 bytes"])
            .file("unit.toml", vec![b'#'; 1 << 20]),
        case(CONFIG, "no such file", "check-config unit.toml", 3, &["unit.toml: cannot be read: No such file"]),
        case(CONFIG, "a folder", "check-config .", 3, &[".: cannot be read: Is a directory"]),
        case(CONFIG, "a broken configuration for run", "run --config unit.toml", 3, &["unit.toml:2:1: "])
            .file("unit.toml", "[unit]\nnam = \"a\"\n"),
        case(
            CONFIG,
            "a broken configuration for replay",
            "replay d.mcap --out o --config unit.toml",
            3,
            &["unit.toml:1:1: "],
        )
        .file("unit.toml", "x = 1\n"),
        case(CONFIG, "no drive for run", "run --config unit.toml", 3, &["sources.drives names no drive"])
            .file("unit.toml", NAMED),
        case(CONFIG, "a unit that nobody named", "run --config unit.toml", 3, &["base.toml:8:8: ", "placeholder"])
            .file("unit.toml", "[sources]\ndrives = [\"d.mcap\"]\n"),
        case(CONFIG, "a unit named as in the defaults", "run --config unit.toml", 3, &["unit.toml:2:8: ", "placeholder"])
            .file("unit.toml", "[unit]\nname = \"unit\"\n"),
        case(CONFIG, "a drive that is not there", "run --config unit.toml", 4, &["gone.mcap: No such file"])
            .file("unit.toml", format!("{NAMED}[sources]\ndrives = [\"gone.mcap\"]\n")),
        case(CONFIG, "a model that is not there", "run --config unit.toml", 4, &["gone.toml: No such file"])
            .file("unit.toml", format!("{NAMED}[trigger.vision]\nmodel = \"gone.toml\"\n")),
        super::drives::with_drive(case(
            CONFIG,
            "a DBC that is not there",
            "run --config unit.toml",
            4,
            &["gone.dbc: No such"],
        ))
        .file(
            "unit.toml",
            format!(
                "{NAMED}[can]\ndbc = \"gone.dbc\"\n[sources]\ndrives = [\"d.mcap\"]\n[link]\nbroker = \"mqtt://127.0.0.1:1\"\n"
            ),
        ),
    ];
    all.extend(lines());
    all
}

fn lines() -> Vec<Case> {
    let log = "(1.0) can0 123#00\n";
    vec![
        case(LINE, "no command", "", 2, &["Usage: firmware-agent <COMMAND>"]),
        case(
            LINE,
            "a command that does not exist",
            "reply d.mcap",
            2,
            &["unrecognized subcommand 'reply'", "'replay'"],
        ),
        case(
            LINE,
            "a flag that does not exist",
            "replay d.mcap --outt o",
            2,
            &["unexpected argument '--outt'", "'--out'"],
        ),
        case(LINE, "no place for the results", "replay d.mcap", 2, &["--out <OUT>"]),
        case(LINE, "no drive", "replay --out o", 2, &["<DRIVES>..."]),
        case(LINE, "text for a number", "demo --seed one", 2, &["invalid value 'one' for '--seed <SEED>'"]),
        case(LINE, "nothing to import", "import --out d.mcap", 2, &["nothing to import: give --video"]),
        case(LINE, "a signal without a DBC", "replay d.mcap --out o --signal speed=A.B", 2, &["--dbc <DBC>"]),
        super::drives::with_drive(case(
            LINE,
            "a file where a folder is wanted",
            "replay d.mcap --out o",
            1,
            &["making o: File exists"],
        ))
        .file("o", "x"),
        super::drives::with_drive(case(
            LINE,
            "a place below a file",
            "replay d.mcap --out o/p",
            1,
            &["making o/p: Not a directory"],
        ))
        .file("o", "x"),
        case(LINE, "a file where the demo wants a folder", "demo --out o", 1, &["making o: File exists"])
            .file("o", "x"),
        case(LINE, "a folder where a drive is wanted", "import --out . --candump a.log", 4, &[".: Is a directory"])
            .file("a.log", log),
        case(LINE, "a place in no folder", "import --out x/d.mcap --candump a.log", 4, &["x/d.mcap: No such file"])
            .file("a.log", log),
        case(LINE, "the input as the place for the drive", "import --out a.log --candump a.log", 2, &["a.log"])
            .file("a.log", log),
    ]
}
