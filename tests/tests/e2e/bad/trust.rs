//! Keys, commands, evidence and updates that are not what they should be. What is done to real evidence is in `e2e::trust`.

use super::{Case, case};

const TRUST: &str = "Keys, commands, evidence, updates";
/// RFC 8032's second test key, as a file that everybody has.
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIEzNCJso/5banbbDRuwRTg9bijGfNaumJNqM9u1PuKb7\n-----END PRIVATE KEY-----\n";
/// A unit with a name.
const UNIT: &str = "[unit]\nname = \"u\"\n";

pub(super) fn cases() -> Vec<Case> {
    let command = |what, more: &str, code, says: &[&'static str]| {
        case(TRUST, what, &format!("command --key k.pem --fleet f {more}"), code, says).file("k.pem", KEY)
    };
    let update = |what, more: &str, code, says: &[&'static str]| {
        let number = if more.contains("--sequence") { "" } else { "--sequence 1 " };
        let args = format!("update make --key k.pem --fleet f --out u {number}{more}");
        case(TRUST, what, args.trim(), code, says).file("k.pem", KEY)
    };
    vec![
        case(TRUST, "text for a key", "keys show k.pem", 4, &["k.pem: not a public key"]).file("k.pem", "secret"),
        case(TRUST, "a key that is not there", "keys show k.pem", 4, &["k.pem: No such file"]),
        case(TRUST, "a key that is there already", "keys make k.pem", 4, &["k.pem: is there already"])
            .file("k.pem", KEY),
        command("a command that asks for nothing", "--unit u --out c", 2, &["--send-health", "--keep-evidence"]),
        command("a command to nowhere", "--unit u --send-health", 2, &["--broker", "--out"]),
        command("a unit that has no such name", "--unit a/b --send-health --out c", 2, &["--unit a/b: character '/'"]),
        command(
            "an event of another unit",
            "--unit u --keep-evidence v_1_2 --out c",
            2,
            &["--keep-evidence v_1_2: an event of another unit than u"],
        ),
        command("an event that is none", "--unit u --keep-evidence 7 --out c", 2, &["not of the form UNIT_BOOT_SEQ"]),
        case(
            TRUST,
            "a command by a public key",
            "command --key k.pub --fleet f --unit u --send-health --out c",
            4,
            &["k.pub: not a secret key"],
        )
        .file("k.pub", "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"),
        super::drives::with_drive(case(
            TRUST,
            "a drive that nobody vouches for",
            "inspect --verify d.mcap",
            7,
            &["no chain: nobody vouches for anything in this file"],
        )),
        super::drives::with_drive(case(
            TRUST,
            "text for the unit's key",
            "inspect --verify --key me d.mcap",
            4,
            &["--key me: No such file"],
        )),
        case(TRUST, "text for evidence", "inspect --verify a.toml", 4, &["a.toml: not an evidence file"])
            .file("a.toml", "x"),
        case(TRUST, "text for an update", "update show a.update", 4, &["a.update: not an update"])
            .file("a.update", "x".repeat(200)),
        case(TRUST, "an update cut in its head", "update show a.update", 4, &["a.update: cut: it ends in its head"])
            .file("a.update", "FAUP"),
        update("an update without content", "", 2, &["--config"]),
        update("an update of number 0", "--sequence 0 --file k.pem", 2, &["0 is not in 1.."]),
        update(
            "an update for a unit that has no such name",
            "--unit a/b --file k.pem",
            2,
            &["--unit a/b: character '/'"],
        ),
        update(
            "an update for an agent of no version",
            "--min-agent 1 --file k.pem",
            2,
            &["--min-agent 1: not MAJOR.MINOR.PATCH"],
        ),
        update("an update of a file that is not there", "--dbc a.dbc", 4, &["a.dbc: No such file"]),
        update("an update that has a file twice", "--dbc k.pem --file k.pem", 4, &["file \"k.pem\": named twice"]),
        update(
            "an update that renames a unit",
            "--config l.toml",
            4,
            &["l.toml:2:8: unit.name is \"other\", but an update"],
        )
        .file("l.toml", "[unit]\nname = \"other\"\n"),
        case(TRUST, "an update where there is none", "update install u --config unit.toml", 4, &["u: No such file"])
            .file("unit.toml", UNIT),
        case(
            TRUST,
            "nothing to go back to",
            "update rollback --config unit.toml",
            4,
            &["there is nothing to go back to"],
        )
        .file("unit.toml", UNIT),
        case(
            TRUST,
            "a damaged record of updates",
            "update status --config unit.toml",
            1,
            &["updates/record is damaged"],
        )
        .file("unit.toml", UNIT)
        .with(|folder| std::fs::create_dir(folder.join("updates")).unwrap())
        .file("updates/record", "x"),
    ]
}
