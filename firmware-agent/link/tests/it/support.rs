//! Messages, a real Mosquitto on a free loopback port, a proxy that cuts, and a broker that misbehaves by script.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use agent_link::{Broker, Link, LinkConfig, Store};
use agent_wire::{
    Alert, EventId, EventKind, EventTime, Flags, Hash8, Health, Losses, Message, Report, Sensors, Severity, Storage,
    StudentOutcome, StudentRefusal, UnitId, WallQuality,
};

/// How long a test waits for what must happen: far above what it takes, so that a loaded machine passes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(40);

pub(crate) fn unit() -> UnitId {
    UnitId::new("unit-7").unwrap()
}

fn time() -> EventTime {
    EventTime { mono_ns: 5, unix_ms: 0, quality: WallQuality::None }
}

pub(crate) fn event(seq: u32) -> EventId {
    EventId { unit: unit(), boot: 1, seq }
}

pub(crate) fn alert(seq: u32, severity: Severity) -> Message {
    Message::Alert(Alert {
        event: event(seq),
        revision: 0,
        kind: EventKind::Collision,
        severity,
        time: time(),
        position: None,
        peak: None,
        delta_v: None,
        speed_dkmh: None,
        evidence: heapless::Vec::new(),
        alignment_pct: 0,
        flags: Flags::default(),
        losses: Losses::default(),
        config: Hash8::default(),
        trigger_model: None,
    })
}

pub(crate) fn report(seq: u32) -> Message {
    Message::Report(Report {
        event: event(seq),
        kind: EventKind::Collision,
        severity: Severity::Severe,
        time: time(),
        student: StudentOutcome::Refused(StudentRefusal::NotInstalled),
        student_falls: heapless::Vec::new(),
        edr: None,
        grounding: heapless::Vec::new(),
        evidence_file: None,
        flags: Flags::default(),
        losses: Losses::default(),
        config: Hash8::default(),
        trigger_model: None,
    })
}

pub(crate) fn health() -> Message {
    Message::Health(Health {
        unit: unit(),
        boot: 1,
        uptime_s: 1,
        clock: WallQuality::None,
        alignment_pct: 0,
        ring_video_ms: 0,
        outbox_waiting: 0,
        outbox_expired: 0,
        events: 0,
        disturbances: 0,
        losses: Losses::default(),
        flags: Flags::default(),
        broker: 0,
        storage: Storage::default(),
        sensors: Sensors::default(),
    })
}

pub(crate) fn broker(port: u16) -> Broker {
    Broker::parse(&format!("mqtt://127.0.0.1:{port}")).unwrap()
}

pub(crate) fn config(port: u16) -> LinkConfig {
    LinkConfig::new(broker(port), UnitId::new("f").unwrap(), unit(), 1)
}

pub(crate) fn start(config: LinkConfig, folder: &Path) -> Link {
    let (store, opened) = Store::open(&folder.join("outbox.redb")).unwrap();
    assert_eq!(opened.set_aside, None);
    Link::start(config, store, opened).unwrap()
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits for `done`, at most the deadline.
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !done() {
        assert!(Instant::now() < end, "did not happen: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A Mosquitto of our own.
pub(crate) struct Mosquitto {
    pub(crate) port: u16,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Mosquitto {
    /// `None`, said in one line, when the machine has no Mosquitto.
    pub(crate) fn start(port: u16) -> Option<Self> {
        Self::start_with(port, "127.0.0.1", &[], "")
    }

    /// With these lines in its configuration besides, in which `FOLDER` stands for the folder of these files.
    pub(crate) fn start_with(port: u16, address: &str, files: &[(&str, String)], lines: &str) -> Option<Self> {
        let Some(binary) = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto", "/usr/local/sbin/mosquitto"]
            .into_iter()
            .find(|p| Path::new(p).exists())
        else {
            println!("SKIPPED: no mosquitto on this machine");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mosquitto.conf");
        let lines = lines.replace("FOLDER", folder.path().to_str().unwrap());
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let text =
            format!("listener {port} {address}\nallow_anonymous true\npersistence false\nlog_dest none\n{lines}\n");
        std::fs::write(&file, text).unwrap();
        let child = Command::new(binary).arg("-c").arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let this = Self { port, child: child.unwrap(), _folder: folder };
        eventually("mosquitto listens", || TcpStream::connect((address, port)).is_ok());
        Some(this)
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // SIGKILL: a broker that crashes, not one that says goodbye.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Passes bytes between the link and a broker; can be closed, and cuts the connection every so many bytes.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    pub(crate) open: Arc<AtomicBool>,
    pub(crate) cuts: Arc<AtomicUsize>,
}

impl Proxy {
    /// `budgets`: bytes from the link that each connection in turn passes before it is cut; then no more cuts.
    pub(crate) fn start(target: u16, open: bool, budgets: Vec<usize>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let open = Arc::new(AtomicBool::new(open));
        let cuts = Arc::new(AtomicUsize::new(0));
        let (is_open, count) = (Arc::clone(&open), Arc::clone(&cuts));
        thread::spawn(move || {
            let mut budgets = VecDeque::from(budgets);
            for from in listener.incoming().flatten() {
                if !is_open.load(Ordering::SeqCst) {
                    continue; // dropped at once
                }
                let Ok(to) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                let budget = budgets.pop_front();
                let (count, back) = (Arc::clone(&count), (to.try_clone().unwrap(), from.try_clone().unwrap()));
                thread::spawn(move || pass(back.0, back.1, None));
                thread::spawn(move || {
                    if pass(from, to, budget) {
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        Self { port, open, cuts }
    }
}

/// Copies until the end or until `budget` bytes are through; true when it was cut.
fn pass(mut from: TcpStream, mut to: TcpStream, budget: Option<usize>) -> bool {
    let mut left = budget.unwrap_or(usize::MAX);
    let mut buffer = [0u8; 4096];
    let mut cut = false;
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        let n = n.min(left);
        left -= n;
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
        if left == 0 {
            cut = true;
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
    cut
}

/// What a scripted broker does on one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    /// Closes before the CONNACK.
    CloseAtOnce,
    /// Refuses with this code.
    Refuse(u8),
    /// Everything as it should be.
    Serve,
    /// Takes everything, acknowledges nothing.
    NeverAck,
    /// Each acknowledgement twice.
    AckTwice,
    /// Waits before each acknowledgement.
    Slow(Duration),
    /// Acknowledges the second of the first publishes alone and cuts after this many.
    OutOfOrderThenCut(usize),
    /// Acknowledges the second of the first three publishes alone and holds until [`Scripted::cut`] is set.
    OutOfOrderThenHold,
    /// Sends bytes that are no MQTT packet after the first publish.
    Garbage,
    /// Says in the CONNACK that it still has a session, though none was asked for.
    OldSession,
    /// Takes the connection and never sends a CONNACK.
    NoConnack,
    /// A second CONNACK after the first publish.
    ConnackAgain,
    /// Acknowledges an id that is never used besides each that is.
    AckUnknown,
    /// Acknowledges the next id, which has not been sent yet, in place of each that has.
    AckAhead,
    /// Acknowledges the first ids as soon as the session stands, as if they were left over from the session before.
    AckOfBefore,
    /// Answers a publish of QoS 1 as if it were of QoS 2.
    Pubrec,
    /// Acknowledges every publish but the first of the session.
    AckAllButFirst,
    /// Refuses the subscription to commands.
    NoSubscription,
    /// Acknowledges a subscription that nobody made, with every publish.
    StraySuback,
}

/// One publish that a scripted broker took.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) connection: usize,
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
}

/// A broker that does by connection what its script says; the last act repeats.
pub(crate) struct Scripted {
    pub(crate) port: u16,
    pub(crate) taken: Arc<Mutex<Vec<Taken>>>,
    /// Ends the connections that are held.
    pub(crate) cut: Arc<AtomicBool>,
}

impl Scripted {
    pub(crate) fn start(script: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let cut = Arc::new(AtomicBool::new(false));
        let (log, cut_now) = (Arc::clone(&taken), Arc::clone(&cut));
        thread::spawn(move || {
            for (n, stream) in listener.incoming().flatten().enumerate() {
                let act = *script.get(n).or(script.last()).unwrap();
                let (log, cut) = (Arc::clone(&log), Arc::clone(&cut_now));
                if matches!(act, Act::OutOfOrderThenHold) {
                    let held = stream.try_clone().unwrap();
                    thread::spawn(move || {
                        eventually("the held connection is cut", || cut.load(Ordering::SeqCst));
                        let _ = held.shutdown(Shutdown::Both);
                    });
                }
                thread::spawn(move || serve(stream, act, n, &log));
            }
        });
        Self { port, taken, cut }
    }

    /// Topic levels of the publishes that one connection brought, status left out.
    pub(crate) fn kinds(&self, connection: usize) -> Vec<String> {
        let taken = self.taken.lock().unwrap();
        let of = taken.iter().filter(|t| t.connection == connection && !t.topic.ends_with("/status"));
        of.map(|t| t.topic.rsplit('/').next().unwrap().to_owned()).collect()
    }

    /// Sequence numbers of the events whose alert came, over all connections, sorted, once each.
    pub(crate) fn alerts(&self) -> Vec<u32> {
        let taken = self.taken.lock().unwrap();
        let messages = taken.iter().filter_map(|t| agent_wire::decode(&t.payload).ok());
        let mut out: Vec<u32> = messages
            .filter_map(|m| match m {
                Message::Alert(a) => Some(a.event.seq),
                _ => None,
            })
            .collect();
        out.sort_unstable();
        out.dedup();
        out
    }
}

fn serve(mut stream: TcpStream, act: Act, connection: usize, log: &Mutex<Vec<Taken>>) -> Option<()> {
    if matches!(act, Act::CloseAtOnce) {
        return None;
    }
    let mut publishes = 0;
    loop {
        let (head, body) = packet(&mut stream).ok()?;
        match head >> 4 {
            1 => {
                let code = if let Act::Refuse(code) = act { code } else { 0 };
                if !matches!(act, Act::NoConnack) {
                    stream.write_all(&[0x20, 2, u8::from(matches!(act, Act::OldSession)), code]).ok()?;
                }
                if matches!(act, Act::AckOfBefore) {
                    let acks: Vec<u8> = (1..=5).flat_map(|id| [0x40, 2, 0, id]).collect();
                    stream.write_all(&acks).ok()?;
                }
            }
            3 => {
                let topic_end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                let topic = String::from_utf8(body[2..topic_end].to_vec()).ok()?;
                let id = [body[topic_end], body[topic_end + 1]];
                log.lock().unwrap().push(Taken { connection, topic, payload: body[topic_end + 2..].to_vec() });
                publishes += 1;
                let ack = [0x40, 2, id[0], id[1]];
                match act {
                    Act::NeverAck => {}
                    Act::OutOfOrderThenCut(n) => {
                        if publishes == 2 {
                            stream.write_all(&ack).ok()?;
                        }
                        if publishes >= n {
                            return None;
                        }
                    }
                    Act::OutOfOrderThenHold if publishes == 3 => {
                        let second = u16::from_be_bytes(id) - 1;
                        stream.write_all(&[[0x40, 2].as_slice(), &second.to_be_bytes()].concat()).ok()?;
                    }
                    Act::OutOfOrderThenHold => {}
                    Act::AckTwice => stream.write_all(&[ack, ack].concat()).ok()?,
                    Act::Garbage => stream.write_all(&[0xF5; 64]).ok()?,
                    Act::ConnackAgain => stream.write_all(&[[0x20, 2, 0, 0], ack].concat()).ok()?,
                    Act::AckUnknown => stream.write_all(&[[0x40, 2, 3, 0x84], ack].concat()).ok()?,
                    Act::AckAhead => stream.write_all(&[0x40, 2, id[0], id[1].wrapping_add(40)]).ok()?,
                    Act::Pubrec => stream.write_all(&[0x50, 2, id[0], id[1]]).ok()?,
                    Act::AckAllButFirst if publishes == 1 => {}
                    Act::StraySuback => stream.write_all(&[&[0x90, 3, 9, 9, 1][..], &ack[..]].concat()).ok()?,
                    Act::Slow(wait) => {
                        thread::sleep(wait);
                        stream.write_all(&ack).ok()?;
                    }
                    _ => stream.write_all(&ack).ok()?,
                }
            }
            8 => {
                let granted = if matches!(act, Act::NoSubscription) { 0x80 } else { 1 };
                stream.write_all(&[0x90, 3, body[0], body[1], granted]).ok()?;
            }
            // A release of a QoS 2 publish: answered, or such a session would end over that.
            6 => stream.write_all(&[0x70, 2, body[0], body[1]]).ok()?,
            12 => stream.write_all(&[0xD0, 0]).ok()?,
            _ => return None,
        }
    }
}

/// Reads one MQTT packet: first byte and body.
fn packet(stream: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let mut byte = [0u8];
    stream.read_exact(&mut byte)?;
    let head = byte[0];
    let (mut length, mut shift) = (0usize, 0);
    loop {
        stream.read_exact(&mut byte)?;
        length |= usize::from(byte[0] & 0x7F) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 || shift > 21 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((head, body))
}

/// An address on which nothing listens.
pub(crate) fn nobody() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}
