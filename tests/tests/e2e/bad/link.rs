//! Brokers that are not there or are something else.

use std::fs;
use std::path::Path;

use super::drives::{with_demo, with_drive};
use super::{Case, case};

const BROKERS: &str = "Brokers";
const OUTBOX: &str = "What stands in the outbox's place";

/// `listen` on that address.
fn listen(what: &'static str, url: &str, code: i32, says: &[&'static str]) -> Case {
    case(BROKERS, what, &format!("listen --broker {url} --count 1 --seconds 2"), code, says)
}

/// A unit on a good drive that knows no broker, with what stands at the place of its outbox.
fn outbox(what: &'static str, code: i32, says: &[&'static str], make: fn(&Path)) -> Case {
    let config = "[unit]\nname = \"a\"\n[sources]\ndrives = [\"d.mcap\"]\nrealtime = false\n\
                  [link]\nbroker = \"mqtt://127.0.0.1:1\"\n";
    with_drive(case(OUTBOX, what, "run --config unit.toml", code, says)).file("unit.toml", config).with(make)
}

pub(super) fn cases() -> Vec<Case> {
    vec![
        listen("another scheme", "http://127.0.0.1:1883", 2, &["\"http://127.0\" does not begin with mqtt://"]),
        listen("no scheme", "localhost", 2, &["\"localhost\" does not begin with mqtt://"]),
        listen("no host", "mqtt://", 2, &["names no host"]),
        listen("no such port", "mqtt://127.0.0.1:70000", 2, &["port \"70000\" is not a number from 1 to 65535"]),
        listen("a path", "mqtt://127.0.0.1/fleet", 2, &["\"/fleet\" follows the port"]),
        // Nothing listens on port 1 of any machine that tests run on.
        listen("nobody listens", "mqtt://127.0.0.1:1", 1, &["no session with the broker yet: ", "refused"]),
        with_drive(case(
            BROKERS,
            "another scheme for replay",
            "replay d.mcap --out o --broker tcp://a",
            2,
            &["does not begin with mqtt://"],
        )),
        with_demo(case(
            BROKERS,
            "nobody listens to a replay",
            "replay d.mcap --out o --no-evidence --broker mqtt://127.0.0.1:1",
            6,
            &["the broker did not acknowledge everything"],
        ))
        .patient(),
        outbox("text", 0, &["the outbox was unreadable and was set aside"], |folder| {
            fs::write(folder.join("outbox.redb"), "hello".repeat(2000)).unwrap();
        }),
        outbox("a folder", 1, &["outbox.redb", "directory"], |f| fs::create_dir(f.join("outbox.redb")).unwrap()),
        outbox("below a file", 1, &["making o/p for the outbox: "], |folder| {
            fs::write(folder.join("o"), "x").unwrap();
            let config = fs::read_to_string(folder.join("unit.toml")).unwrap();
            fs::write(folder.join("unit.toml"), config + "outbox.store = \"o/p/outbox.redb\"\n").unwrap();
        }),
    ]
}

/// The text of an unknown host is the system's, so it is held here and not in the table.
#[test]
fn an_unknown_host_is_named_as_such() {
    let host = listen("", "mqtt://no-such-host.invalid", 1, &["no session with the broker yet: ", "lookup"]);
    host.run().unwrap().unwrap();
}

/// What answers is a web server.
#[test]
fn a_broker_that_speaks_another_language_is_no_session() {
    use std::io::{Read as _, Write as _};
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut from in server.incoming().flatten() {
            let _ = from.read(&mut [0; 64]);
            let _ = from.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let case = listen("", &format!("mqtt://127.0.0.1:{port}"), 1, &["no session with the broker yet: "]);
    println!("{}", case.run().unwrap().unwrap());
}
