//! Broken configurations, each with the exact text that its user reads: part of the product, and changed like it.

use std::fs;

use super::super::limits::{MAX_FILE_BYTES, MAX_PROBLEMS};
use super::super::{Purpose, load, load_str};
use super::broken_token::TOKENS;

/// What is broken, the file, and every line of the error without the `unit.toml:` before it.
pub(super) type Case = (&'static str, &'static str, &'static [&'static str]);

const SYNTAX: &[Case] = &[
    (
        "a key without a value",
        "[unit]\nname =\n",
        &["2:7: is not TOML: a value is wanted here; text stands in double quotes"],
    ),
    (
        "a string that does not end",
        "[unit]\nname = \"a\nfleet = \"b\"\n",
        &["2:10: is not TOML: invalid basic string, expected `\"`"],
    ),
    ("a key twice", "[unit]\nname = \"a\"\nname = \"b\"\n", &["3:1: is not TOML: duplicate key name"]),
    ("a table twice", "[unit]\nname = \"a\"\n[unit]\nfleet = \"b\"\n", &["3:2: is not TOML: duplicate key unit"]),
    (
        "a unit after the number",
        "[rings]\npost_roll_s = 5s\n",
        &["2:15: is not TOML: a value is wanted here; text stands in double quotes"],
    ),
    (
        "YAML",
        "unit:\n  name: a\n",
        &[
            "1:5: is not TOML: invalid unquoted key, expected letters, numbers, `-`, `_`",
            "1:6: is not TOML: key with no value, expected `=`",
            "2:9: is not TOML: key with no value, expected `=`",
        ],
    ),
];

const KEYS: &[Case] = &[
    (
        "a chip without its device",
        "[sources.imu]\nkind = \"bmi160\"\n",
        &["2:8: sources.imu.kind is \"bmi160\", but sources.imu.device is none"],
    ),
    (
        "a range that no chip has",
        "[trigger.telemetry]\naccel_range_g = 12.0\n[sources.imu]\nkind = \"lsm6dso\"\ndevice = \"/dev/i2c-1\"\n",
        &[
            "4:8: sources.imu.kind is \"lsm6dso\", but trigger.telemetry.accel_range_g is 12: the chip has 2, 4, 8 and 16",
        ],
    ),
    (
        "more samples than the ring is sized for",
        "[rings]\nimu_max_hz = 200\n[sources.imu]\nkind = \"bmi160\"\ndevice = \"/dev/i2c-1\"\nrate_hz = 400\n",
        &["6:11: sources.imu.rate_hz is 400, above rings.imu_max_hz, which is 200"],
    ),
    (
        "a line that is none",
        "[sources.gpio]\nchip = \"/dev/gpiochip0\"\nignition = \"GPIO17\"\n",
        &[
            "3:12: sources.gpio.ignition is \"GPIO17\", not \"none\" or a line from 0 to 1023, with a \"!\" before it where low means active",
        ],
    ),
    (
        "a line without a chip, and one line twice",
        "[sources.gpio]\nignition = \"3\"\npanic = \"!3\"\n",
        &[
            "2:12: sources.gpio.ignition is \"3\", but sources.gpio.chip is none",
            "3:9: sources.gpio.panic is \"!3\", but sources.gpio.chip is none",
            "3:9: sources.gpio.panic is \"!3\", the line of sources.gpio.ignition",
        ],
    ),
    (
        "a preset beside a DBC",
        "[can]\ndbc = \"car.dbc\"\npreset = \"j1939\"\n",
        &["3:10: can.preset is \"j1939\", beside can.dbc: a preset brings its own"],
    ),
    (
        "OBD-II on an interface that is not heard",
        "[sources.can]\ninterfaces = [\"can0\"]\nobd_interface = \"can1\"\n",
        &["3:17: sources.can.obd_interface is \"can1\", not one of sources.can.interfaces"],
    ),
    (
        "a slip of the pen",
        "[trigger.vision]\nrisk_onn = 0.7\n",
        &["2:1: trigger.vision.risk_onn is not a known key; did you mean risk_on?"],
    ),
    (
        "a key of another section",
        "[fusion]\nmodel = \"x\"\n",
        &["2:1: fusion.model is not a known key; known here: cool_down_s, join_window_s, harsh_events"],
    ),
    (
        "an unknown section",
        "[camera]\nfps = 30\n",
        &[
            "1:2: camera is not a known key; known here: inherits, unit, classes, rings, can, trigger, fusion, student, link, commands, updates, evidence, sources",
        ],
    ),
    (
        "an unknown vehicle class",
        "[classes.tram]\nharsh_braking_mps2 = 2\n",
        &["1:10: classes.tram is not a known key; known here: car, van, truck, bus"],
    ),
    (
        "an unknown vehicle signal",
        "[can]\ndbc = \"a.dbc\"\n[can.signals]\nsteering = \"A.B\"\n",
        &[
            "4:1: can.signals.steering is not a known key; known here: speed, brake, accelerator, steering_angle, engine_speed, yaw_rate, airbag_deployed, abs_active, esc_active",
        ],
    ),
];

const ODD_KEYS: &[Case] = &[
    (
        "a short key that is near to nothing",
        "[can]\ndir = \"a\"\n",
        &["2:1: can.dir is not a known key; known here: dbc, preset, buses, signals"],
    ),
    (
        "an escape sequence for the terminal as a key",
        "[can]\n\"\\u001b[2J\" = 1\n",
        &["2:1: can.\"\\u001b[2J\" is not a known key; known here: dbc, preset, buses, signals"],
    ),
    (
        "a key without end",
        "[can]\nabcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghij = 1\n",
        &[
            "2:1: can.abcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghij... is not a known key; known here: dbc, preset, buses, signals",
        ],
    ),
];

const TYPES: &[Case] = &[
    (
        "a number in quotes",
        "[rings]\npost_roll_s = \"5\"\n",
        &["2:15: rings.post_roll_s is \"5\"; a whole number from 1 to 60 is wanted"],
    ),
    (
        "a fraction where a whole number is wanted",
        "[rings]\npost_roll_s = 5.5\n",
        &["2:15: rings.post_roll_s is 5.5; a whole number from 1 to 60 is wanted"],
    ),
    ("a section as a value", "rings = 5\n", &["1:9: rings is 5; a table is wanted"]),
    (
        "a table as a value",
        "[link.broker]\nhost = \"a\"\n",
        &["1:1: link.broker is a table; a URL such as \"mqtt://host:1883\" is wanted"],
    ),
    (
        "a word that is none of them",
        "[unit]\nvehicle_class = \"lorry\"\npower_mode = \"15 W\"\n",
        &[
            "2:17: unit.vehicle_class is \"lorry\"; one of car, van, truck, bus is wanted",
            "3:14: unit.power_mode is \"15 W\", character ' ' is not a letter, digit, '.', '-' or '_'",
        ],
    ),
    ("a number as a flag", "[sources]\nloop = 1\n", &["2:8: sources.loop is 1; true or false is wanted"]),
    (
        "a word as a flag",
        "[student]\ntelemetry = \"none\"\n",
        &["2:13: student.telemetry is \"none\"; true or false is wanted"],
    ),
    (
        "a kind of camera that there is not",
        "[sources.camera]\nkind = \"webcam\"\n",
        &["2:8: sources.camera.kind is \"webcam\"; one of none, v4l2, csi, usb, rtsp, file, test, pipeline is wanted"],
    ),
    (
        "a bus that is no interface",
        "[sources.can]\ninterfaces = [\"can0\", \"can/1\", \"can0\", 2]\n",
        &[
            "2:23: sources.can.interfaces[1] is \"can/1\", not the name of an interface, 1 to 15 characters",
            "2:32: sources.can.interfaces[2] is \"can0\", named twice",
            "2:40: sources.can.interfaces[3] is 2; a name such as \"can0\" is wanted",
        ],
    ),
    (
        "more interfaces than are heard",
        "[sources.can]\ninterfaces = [\"a\", \"b\", \"c\", \"d\", \"e\"]\n",
        &["2:14: sources.can.interfaces is a list of 5, more than 4"],
    ),
    (
        "filters of no known form",
        "[sources.can]\nrecord_all = false\nfilters = [\"123\", \"0x123\", \"123:1FFFFFFF\", \"F00\"]\n",
        &[
            "3:19: sources.can.filters[1] is \"0x123\", not ID or ID:MASK in hexadecimal, each of three digits (11 bits) or \
             eight (29 bits)",
            "3:28: sources.can.filters[2] is \"123:1FFFFFFF\", not ID or ID:MASK in hexadecimal, each of three digits (11 \
             bits) or eight (29 bits)",
            "3:44: sources.can.filters[3] is \"F00\", more than 11 or 29 bits hold",
        ],
    ),
    (
        "a filter where everything is taken",
        "[sources.can]\nfilters = [\"123\"]\n",
        &["2:11: sources.can.filters is [\"123\"], but sources.can.record_all is true, which takes every frame"],
    ),
    (
        "a bus of which nothing is heard",
        "[sources.can]\nrecord_all = false\n",
        &[
            "2:14: sources.can.record_all is false, but can.dbc is none and sources.can.filters is empty: nothing would \
             be heard",
        ],
    ),
    (
        "a receiver without its device",
        "[sources.gnss]\nkind = \"serial\"\n",
        &["2:8: sources.gnss.kind is \"serial\", but sources.gnss.device is none"],
    ),
    (
        "a rate that no receiver has",
        "[sources.gnss]\nbaud = 10000\n",
        &["2:8: sources.gnss.baud is 10000, none of 4800, 9600, 19200, 38400, 57600, 115200, 230400, 460800"],
    ),
    (
        "a gpsd without a port",
        "[sources.gnss]\naddress = \"localhost\"\n",
        &["2:11: sources.gnss.address is \"localhost\", not of the form HOST:PORT"],
    ),
    (
        "a camera without its device",
        "[sources.camera]\nkind = \"v4l2\"\n",
        &["2:8: sources.camera.kind is \"v4l2\", but sources.camera.device is none"],
    ),
    (
        "an odd picture",
        "[sources.camera]\nwidth = 641\n",
        &["2:9: sources.camera.width is 641, odd; encoders want even sides"],
    ),
    (
        "a password in a camera's address",
        "[sources.camera]\nurl = \"rtsp://viewer:secret@cam/1\"\n",
        &[
            "2:7: sources.camera.url is \"rtsp://...@cam/1\", with a user: that belongs in the file that credentials names, \
             which is not printed",
        ],
    ),
    (
        "a pipeline without its sink",
        "[sources.camera]\npipeline = \"videotestsrc ! fakesink\"\n",
        &[
            "2:12: sources.camera.pipeline is \"videotestsrc ! fakesink\", without \"appsink name=kept\", which takes the \
             encoded frames",
        ],
    ),
    (
        "a camera that gives more than the ring takes",
        "[sources.camera]\nkind = \"csi\"\nbitrate_mbit_s = 9\n",
        &[
            "3:18: sources.camera.bitrate_mbit_s is 9, above rings.video_max_mbit_s (8): the pre-roll would not fit the \
             ring",
        ],
    ),
    ("text as a list", "[sources]\ndrives = \"a.mcap\"\n", &["2:10: sources.drives is \"a.mcap\"; a list is wanted"]),
    ("a date as a path", "[evidence]\ndir = 2024-05-01\n", &["2:7: evidence.dir is 2024-05-01; a path is wanted"]),
];

const RANGES: &[Case] = &[
    ("a risk above 1", "[trigger.vision]\nrisk_on = 1.5\n", &["2:11: trigger.vision.risk_on is 1.5, above 1"]),
    ("a risk below 0", "[trigger.vision]\nrisk_off = -0.1\n", &["2:12: trigger.vision.risk_off is -0.1, below 0"]),
    ("not a number", "[fusion]\ncool_down_s = nan\n", &["2:15: fusion.cool_down_s is nan, not a number"]),
    ("infinity", "[fusion]\ncool_down_s = inf\n", &["2:15: fusion.cool_down_s is inf, above 3600"]),
    (
        "more than the core holds",
        "[rings]\nsample_pre_roll_s = 121\n",
        &["2:21: rings.sample_pre_roll_s is 121, above 120"],
    ),
    (
        "a number of more than 64 bits",
        "[link]\nin_flight = 99999999999999999999\n",
        &["2:13: link.in_flight is 99999999999999999999, more than 64 bits hold"],
    ),
    (
        "lines that end as on Windows",
        "[unit]\r\n[rings]\r\npost_roll_s = 61\r\n",
        &["3:15: rings.post_roll_s is 61, above 60"],
    ),
    (
        "after letters that take two bytes",
        "# h\u{f6}he\n[fusion] # \u{e9}\u{e9}\njoin_window_s = 1_000\n",
        &["3:17: fusion.join_window_s is 1_000, above 60"],
    ),
];

const RULES: &[Case] = &[
    (
        "warm from a higher temperature on than hot",
        "[student]\nwarm_c = 96\n",
        &["2:10: student.warm_c is 96, above student.hot_c, which is 95.0 (base.toml:_)"],
    ),
    (
        "well for longer than a trial",
        "[updates]\ntrial_s = 10\nwell_s = 20\n",
        &["3:10: updates.well_s is 20, above updates.trial_s, which is 10"],
    ),
    (
        "text for a key of updates",
        "[updates]\nkeys = [\"maker\"]\n",
        &[
            "2:9: updates.keys[0] is \"maker\", not a public key of 64 hexadecimal digits (`firmware-agent keys show FILE` prints it)",
        ],
    ),
    (
        "hysteresis upside down",
        "[trigger.vision]\nrisk_on = 0.5\nrisk_off = 0.6\n",
        &["3:12: trigger.vision.risk_off is 0.6, above trigger.vision.risk_on, which is 0.5 (unit.toml:2:11)"],
    ),
    (
        "hysteresis against a default",
        "[trigger.vision]\nrisk_on = 0.25\n",
        &["2:11: trigger.vision.risk_on is 0.25, below trigger.vision.risk_off, which is 0.3 (base.toml:_)"],
    ),
    (
        "critical below impact",
        "[classes.car]\nimpact_delta_v_kmh = 30\n",
        &[
            "2:22: classes.car.impact_delta_v_kmh is 30, above classes.car.critical_delta_v_kmh, which is 25.0 (base.toml:_)",
        ],
    ),
    (
        "an override that is critical below the class's impact",
        "[trigger.telemetry]\ncritical_delta_v_kmh = 5\n",
        &[
            "2:24: trigger.telemetry.critical_delta_v_kmh is 5, below the impact_delta_v_kmh of 8 that applies (vehicle_class is \"car\")",
        ],
    ),
    (
        "joining for longer than cooling down",
        "[fusion]\ncool_down_s = 2\n",
        &["2:15: fusion.cool_down_s is 2, below fusion.join_window_s, which is 5.0 (base.toml:_)"],
    ),
    (
        "rings larger than the cap",
        "[rings]\nmemory_cap_mb = 40\n",
        &[
            "2:17: rings.memory_cap_mb is 40, below what [rings] needs: 45.3 MB (video 17.0, CAN 21.7, IMU 1.2, GNSS 0.1, small frames 5.6)",
        ],
    ),
    (
        "no room for one event",
        "[evidence]\nquota_mb = 10\n",
        &["2:12: evidence.quota_mb is 10, below the 39.8 MB that one event may take"],
    ),
    (
        "a name that is unsafe in a topic",
        "[unit]\nname = \"north/7\"\n",
        &["2:8: unit.name is \"north/7\", character '/' is not a letter, digit, '.', '-' or '_'"],
    ),
    ("an empty fleet", "[unit]\nfleet = \"\"\n", &["2:9: unit.fleet is \"\", the name is empty"]),
    (
        "another protocol",
        "[link]\nbroker = \"http://a:80\"\n",
        &["2:10: link.broker is \"http://a:80\", not of the form mqtt://host:port or mqtts://host:port"],
    ),
    (
        "a password",
        "[link]\nbroker = \"mqtt://me:secret@a:1883\"\n",
        &[
            "2:10: link.broker is \"mqtt://...@a:1883\", with a user: credentials have no place in a configuration that is printed",
        ],
    ),
    (
        "no such port",
        "[link]\nbroker = \"mqtt://a:70000\"\n",
        &["2:10: link.broker is \"mqtt://a:70000\", with \"70000\" for a port, which is a number from 1 to 65535"],
    ),
    (
        "brokers that are none, or there twice",
        "[link]\nbrokers = [\"mqtts://a\", 7, \"ws://b\", \"mqtts://a:8883\"]\nfall_over_s = 1\n",
        &[
            "2:25: link.brokers[1] is 7; a URL such as \"mqtt://host:1883\" is wanted",
            "2:28: link.brokers[2] is \"ws://b\", not of the form mqtt://host:port or mqtts://host:port",
            "2:38: link.brokers[3] is \"mqtts://a:8883\", there already",
            "3:15: link.fall_over_s is 1, below 5",
        ],
    ),
    ("no host", "[link]\nbroker = \"mqtt://:1883\"\n", &["2:10: link.broker is \"mqtt://:1883\", without a host"]),
    ("an empty path", "[evidence]\ndir = \"\"\n", &["2:7: evidence.dir is \"\", empty"]),
    (
        "an invisible character in a path",
        "[student]\nmodel = \"a\\u0000b\"\n",
        &["2:9: student.model is \"a\\u0000b\", with a control character"],
    ),
    (
        "CUDA in a program that has none",
        "[student]\ndevice = \"cuda\"\n",
        &[
            "2:10: student.device is \"cuda\", but student.worker is none: this program has no CUDA, its worker program has",
        ],
    ),
    (
        "two ways to one worker",
        "[student]\nworker = \"w\"\nconnect = \"s\"\n",
        &["3:11: student.connect is \"s\", beside student.worker; one worker, one way to it"],
    ),
    (
        "a secret key's file, and one key twice, where public keys are wanted",
        "[commands]\nkeys = [\"fleet.pem\", \"3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c\", \"3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c\"]\n",
        &[
            "2:9: commands.keys[0] is \"fleet.pem\", not a public key of 64 hexadecimal digits (`firmware-agent keys show FILE` prints it)",
            "2:90: commands.keys[2] is \"3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af..., named twice",
        ],
    ),
    (
        "more commands than there can be",
        "[commands]\nmax_per_minute = 0\n[evidence]\nkey = \"\"\n",
        &["2:18: commands.max_per_minute is 0, below 1", "4:7: evidence.key is \"\", empty"],
    ),
    ("a bus twice", "[can]\nbuses = [0, 1, 0]\n", &["2:16: can.buses[2] is 0, named twice"]),
    (
        "more buses than there are",
        "[can]\nbuses = [0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]\n",
        &["2:9: can.buses is a list of 17, more than 16"],
    ),
];

const SIGNALS: &[Case] = &[
    (
        "a signal without a message",
        "[can]\ndbc = \"a.dbc\"\n[can.signals]\nspeed = \"SPEED\"\n",
        &["4:9: can.signals.speed is \"SPEED\", not of the form MESSAGE.SIGNAL"],
    ),
    (
        "a signal without a DBC",
        "[can.signals]\nspeed = \"SPEED.SPEED\"\n",
        &["2:9: can.signals.speed is \"SPEED.SPEED\", but can.dbc is none: there is no DBC to find it in"],
    ),
    (
        "a signal by both of its names",
        "[can]\ndbc = \"a.dbc\"\n[can.signals]\nspeed = \"A.B\"\n\"Vehicle.Speed\" = \"A.C\"\n",
        &["5:19: can.signals.\"Vehicle.Speed\" is \"A.C\", beside can.signals.speed, which is the same signal"],
    ),
    (
        "a scale of zero",
        "[can]\ndbc = \"a.dbc\"\n[can.signals]\nspeed = { signal = \"A.B\", scale = 0 }\n",
        &["4:35: can.signals.speed.scale is 0, which would make every value the same"],
    ),
    (
        "a slip in a conversion",
        "[can]\ndbc = \"a.dbc\"\n[can.signals]\nspeed = { signal = \"A.B\", factor = 2 }\n",
        &["4:27: can.signals.speed.factor is not a known key; known here: signal, scale, offset"],
    ),
    (
        "a trigger that never fires",
        "[can]\ndbc = \"a.dbc\"\n[[trigger.signals]]\nname = \"x\"\nsignal = \"A.B\"\nseverity = \"minor\"\n",
        &["3:1: trigger.signals[0].above is missing; above or below is wanted"],
    ),
    (
        "a trigger on both sides",
        "[can]\ndbc = \"a.dbc\"\n[[trigger.signals]]\nname = \"x\"\nsignal = \"A.B\"\nabove = 1\nbelow = 0\nseverity = \"minor\"\n",
        &["7:9: trigger.signals[0].below is 0, beside above; a signal fires on one side"],
    ),
    (
        "a trigger that lacks all",
        "[[trigger.signals]]\n",
        &[
            "1:1: trigger.signals[0].name is missing; a name is wanted",
            "1:1: trigger.signals[0].signal is missing; \"MESSAGE.SIGNAL\" is wanted",
            "1:1: trigger.signals[0].severity is missing; one of minor, moderate, severe, critical is wanted",
            "1:1: trigger.signals[0].above is missing; above or below is wanted",
        ],
    ),
    (
        "two triggers of one name",
        "[can]\ndbc = \"a.dbc\"\n[trigger]\nsignals = [\n{ name = \"x\", signal = \"A.B\", above = 1, severity = \"minor\" },\n{ name = \"x\", signal = \"A.C\", above = 1, severity = \"minor\" },\n]\n",
        &["6:10: trigger.signals[1].name is \"x\", the name of an earlier signal too"],
    ),
    (
        "a trigger without a DBC",
        "[[trigger.signals]]\nname = \"x\"\nsignal = \"A.B\"\nabove = 1\nseverity = \"minor\"\n",
        &["3:10: trigger.signals[0].signal is \"A.B\", but can.dbc is none: there is no DBC to find it in"],
    ),
];

const CHAINS: &[Case] = &[
    (
        "an impact override above the class's critical",
        "[unit]\nvehicle_class = \"bus\"\n[trigger.telemetry]\nimpact_delta_v_kmh = 20\n",
        &[
            "4:22: trigger.telemetry.impact_delta_v_kmh is 20, above the critical_delta_v_kmh of 18 that applies (vehicle_class is \"bus\")",
        ],
    ),
    (
        "an unknown parent",
        "inherits = \"orin\"\n",
        &[
            "1:12: inherits = \"orin\" names neither a file beside this one nor a shipped board (base, agx-orin-devkit, bench-x86_64, generic-aarch64, orin-nano-devkit, orin-nx)",
        ],
    ),
    (
        "a parent elsewhere",
        "inherits = \"../base\"\n",
        &["1:12: inherits is \"../base\"; a name without folder or suffix, such as \"bench-x86_64\", is wanted"],
    ),
    (
        "all problems in one go",
        "[unit]\nnam = \"a\"\n[rings]\npost_roll_s = 0\n[student]\nask = \"never\"\n[link]\nin_flight = 0.5\n",
        &[
            "2:1: unit.nam is not a known key; did you mean name?",
            "4:15: rings.post_roll_s is 0, below 1",
            "6:7: student.ask is \"never\"; one of crash, near, all is wanted",
            "8:13: link.in_flight is 0.5; a whole number from 1 to 64 is wanted",
        ],
    ),
    ("nesting without end", "a = [[[[[[[[[[1]]]]]]]]]]\n", &["1:13: nests deeper than 8 levels"]),
];

/// Replaces a place in `base.toml` by `_`, so that a comment added there changes no case; first holds it against the
/// file: the value that the error quotes must stand at that place.
fn without_base_places(text: &str) -> String {
    let base: Vec<&str> = include_str!("../../../../../board-configs/base.toml").lines().collect();
    let mark = "(base.toml:";
    let Some(start) = text.find(mark) else { return text.to_owned() };
    let (before, after) = text.split_at(start + mark.len());
    let (place, rest) = after.split_once(')').expect("a closing bracket");
    let (line, column) = place.split_once(':').expect("line and column");
    let (line, column): (usize, usize) = (line.parse().expect("a line"), column.parse().expect("a column"));
    let value = before.rsplit_once("which is ").and_then(|(_, v)| v.split(' ').next()).expect("a value");
    assert!(base[line - 1][column - 1..].starts_with(value), "{text}: not at that place");
    format!("{before}_){rest}")
}

#[test]
fn each_broken_configuration_says_exactly_what_and_where() {
    let mut wrong = String::new();
    let mut count = 0;
    for (what, text, lines) in [SYNTAX, KEYS, ODD_KEYS, TYPES, RANGES, RULES, SIGNALS, TOKENS, CHAINS].concat() {
        count += 1;
        let expected = lines.iter().map(|line| format!("unit.toml:{line}")).collect::<Vec<_>>().join("\n");
        let found = match load_str("unit.toml", text) {
            Ok(_) => "no problem".to_owned(),
            Err(errors) => without_base_places(&errors.to_string()),
        };
        if found != expected {
            wrong.push_str(&format!("\n--- {what}\nexpected:\n{expected}\nfound:\n{found}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert_eq!(count, 97, "a case was added or lost");
}

#[test]
fn files_that_are_no_configuration() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("unit.toml");
    let says = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("written");
        let text = load(&path, Purpose::Desk).expect_err("refused").to_string();
        text.replace(&path.display().to_string(), "unit.toml")
    };
    assert_eq!(says(b"[unit]\nname = \"\xff\"\n"), "unit.toml: is not UTF-8 text from byte 15 on");
    let large = vec![b'#'; MAX_FILE_BYTES + 1];
    assert_eq!(says(&large), "unit.toml: is larger than 262144 bytes, the limit of a configuration");
    let large = String::from_utf8(large).expect("text");
    let said = load_str("x", &large).expect_err("refused").to_string();
    assert_eq!(said, "x: is larger than 262144 bytes, the limit of a configuration");
    fs::remove_file(&path).expect("removed");
    let said = load(&path, Purpose::Desk).expect_err("refused").to_string();
    assert_eq!(said, format!("{}: cannot be read: No such file or directory (os error 2)", path.display()));
}

#[test]
fn a_problem_in_a_parent_names_the_parent() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
    let says = || {
        let text = load(&folder.path().join("unit.toml"), Purpose::Desk).expect_err("refused").to_string();
        text.replace(&format!("{}/", folder.path().display()), "")
    };
    write("unit.toml", "inherits = \"fleet\"\n[fusion]\ncool_down_s = 20\n");
    write("fleet.toml", "[fusion]\ncool_down_s = 7\njoin_window_s = 25\n");
    assert_eq!(
        says(),
        "unit.toml:3:15: fusion.cool_down_s is 20, below fusion.join_window_s, which is 25 (fleet.toml:3:17)"
    );
    write("fleet.toml", "[fusion]\ncool_down = 7\n");
    assert_eq!(says(), "fleet.toml:2:1: fusion.cool_down is not a known key; did you mean cool_down_s?");
    write("fleet.toml", "inherits = \"unit\"\n");
    assert_eq!(says(), "fleet.toml:1:12: inherits = \"unit\" leads back to itself");
    write("unit.toml", "inherits = \"unit\"\n");
    assert_eq!(says(), "unit.toml:1:12: inherits = \"unit\" leads back to itself");
    for i in 0..10 {
        write(&format!("f{i}.toml"), &format!("inherits = \"f{}\"\n", i + 1));
    }
    write("unit.toml", "inherits = \"f0\"\n");
    assert_eq!(says(), "f6.toml:1:12: inherits = \"f7\" makes a chain of more than 8 files");
}

#[test]
fn the_list_of_problems_is_bounded_and_the_rest_counted() {
    let text: String = (0..MAX_PROBLEMS + 5).map(|i| format!("zz{i} = 1\n")).collect();
    let errors = load_str("unit.toml", &text).expect_err("refused");
    assert_eq!((errors.list.len(), errors.omitted), (MAX_PROBLEMS, 5));
    assert!(errors.to_string().ends_with("\n... and 5 more (the first 64 are listed)"));
}
