//! Keys, commands and evidence that are not what they should be. What is done to real evidence is in `e2e::trust`.

use super::{Case, case};

const TRUST: &str = "Keys, commands, evidence";
/// RFC 8032's second test key, as a file that everybody has.
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIEzNCJso/5banbbDRuwRTg9bijGfNaumJNqM9u1PuKb7\n-----END PRIVATE KEY-----\n";

pub(super) fn cases() -> Vec<Case> {
    let command = |what, more: &str, code, says: &[&'static str]| {
        case(TRUST, what, &format!("command --key k.pem --fleet f {more}"), code, says).file("k.pem", KEY)
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
    ]
}
