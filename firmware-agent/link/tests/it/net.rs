//! A network that misbehaves as its seed says, between the link and a broker, and what it saw pass.
//!
//! Each connection has a *fate*: where in which direction it is cut, half closed, swallows everything from then on, or changes one
//! bit. Delays come on top. The same seed gives the same fates in the same order; which bytes meet them depends on timing.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// What happens to a connection, once so many bytes of one direction have passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Whole,
    /// Both directions end.
    Cut,
    /// This direction ends, the other goes on.
    HalfClose,
    /// This direction swallows what comes, and nobody is told.
    Hole,
    /// One bit of the next byte is another; then it goes on.
    Corrupt,
}

/// Which fates a network may draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// All but [`Fate::Corrupt`], which TCP's own check sum keeps away nearly always.
    Broken,
    /// [`Fate::Corrupt`] too, and often.
    Corrupting,
}

/// What passed, as the link meant it: taken down before the fate.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Kinds of the publishes of each connection, in order, by the last level of the topic; status left out.
    pub(crate) publishes: BTreeMap<usize, Vec<String>>,
    /// Most publishes of one connection that the broker had not acknowledged, status included.
    pub(crate) most_in_flight: usize,
    /// How often each fate struck.
    pub(crate) struck: BTreeMap<&'static str, u32>,
    open: BTreeMap<usize, usize>,
}

/// The network; it stands until the test ends.
pub(crate) struct Net {
    pub(crate) port: u16,
    pub(crate) seen: Arc<Mutex<Seen>>,
    up: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

struct Way {
    connection: usize,
    from_link: bool,
    fate: Fate,
    after: usize,
    bit: u8,
    delay_ms: u64,
    draw: Draw,
    seen: Arc<Mutex<Seen>>,
}

impl Net {
    /// A network to `target` that is down until it is told to be up.
    pub(crate) fn start(target: u16, seed: u64, kind: Kind) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let net = Self {
            port: listener.local_addr().unwrap().port(),
            seen: Arc::default(),
            up: Arc::default(),
            streams: Arc::default(),
        };
        let (up, seen, streams) = (Arc::clone(&net.up), Arc::clone(&net.seen), Arc::clone(&net.streams));
        thread::spawn(move || {
            let mut draw = Draw(seed);
            for (connection, near) in listener.incoming().flatten().enumerate() {
                if !up.load(Ordering::SeqCst) {
                    continue; // dropped at once
                }
                let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                let struck = fate(&mut draw, kind);
                let from_link = draw.below(2) == 0;
                // Near the beginning as often as far on: CONNECT has some 100 bytes, a publish 100 to 200.
                let far_on = [40, 200, 800, 3000][draw.below(4) as usize];
                let after = draw.below(far_on) as usize;
                let (bit, delay_ms) = (draw.below(8) as u8, [0, 0, 1, 5, 20][draw.below(5) as usize]);
                let way = |of_link: bool, draw: &mut Draw| Way {
                    connection,
                    from_link: of_link,
                    fate: if of_link == from_link { struck } else { Fate::Whole },
                    after,
                    bit,
                    delay_ms,
                    draw: Draw(draw.next()),
                    seen: Arc::clone(&seen),
                };
                let ways = [way(true, &mut draw), way(false, &mut draw)];
                streams.lock().unwrap().extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
                let (near_too, far_too) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                let [out, back] = ways;
                thread::spawn(move || out.pass(near, far));
                thread::spawn(move || back.pass(far_too, near_too));
            }
        });
        net
    }

    /// Down cuts what stands and refuses what comes; up lets it through.
    pub(crate) fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::SeqCst);
        if !up {
            for stream in self.streams.lock().unwrap().drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }

    /// What passed since this was last asked.
    pub(crate) fn take(&self) -> Seen {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

fn fate(draw: &mut Draw, kind: Kind) -> Fate {
    match (draw.below(8), kind) {
        (0..=2, Kind::Corrupting) => Fate::Corrupt,
        (0 | 3, _) => Fate::Cut,
        (1 | 4, _) => Fate::HalfClose,
        (2 | 5, _) => Fate::Hole,
        _ => Fate::Whole,
    }
}

impl Way {
    /// Passes bytes until an end or the fate.
    fn pass(mut self, mut from: TcpStream, mut to: TcpStream) {
        let (mut passed, mut hole, mut struck) = (0, false, self.fate == Fate::Whole);
        let (mut buffer, mut packets) = ([0u8; 1024], Packets::default());
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            let chunk = &mut buffer[..n];
            packets.add(chunk, |head, body| self.note(head, body));
            if self.delay_ms > 0 {
                thread::sleep(Duration::from_millis(self.draw.below(self.delay_ms + 1)));
            }
            let before = self.after.saturating_sub(passed).min(n);
            passed += n;
            let mut rest = chunk.len();
            if !struck && before < n {
                struck = true;
                *self.seen.lock().unwrap().struck.entry(name(self.fate)).or_default() += 1;
                match self.fate {
                    Fate::Corrupt => chunk[before] ^= 1 << self.bit,
                    _ => rest = before,
                }
                hole = self.fate == Fate::Hole;
                let sent = to.write_all(&chunk[..rest]);
                match self.fate {
                    Fate::Cut => break,
                    Fate::HalfClose => {
                        let _ = to.shutdown(Shutdown::Write);
                        // What else comes is not wanted; the other direction has a thread of its own.
                        while let Ok(1..) = from.read(&mut buffer) {}
                        break;
                    }
                    _ if sent.is_err() => break,
                    _ => continue,
                }
            }
            if !hole && to.write_all(&chunk[..rest]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    fn note(&self, head: u8, body: &[u8]) {
        let mut seen = self.seen.lock().unwrap();
        match (self.from_link, head >> 4) {
            (true, 3) if body.len() > 2 => {
                let end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                let topic = String::from_utf8_lossy(body.get(2..end).unwrap_or_default()).into_owned();
                let level = topic.rsplit('/').next().unwrap_or_default().to_owned();
                if level != "status" {
                    seen.publishes.entry(self.connection).or_default().push(level);
                }
                let open = seen.open.entry(self.connection).or_default();
                *open += 1;
                let open = *open;
                seen.most_in_flight = seen.most_in_flight.max(open);
            }
            (false, 4) => {
                let open = seen.open.entry(self.connection).or_default();
                *open = open.saturating_sub(1);
            }
            _ => {}
        }
    }
}

const fn name(fate: Fate) -> &'static str {
    match fate {
        Fate::Whole => "whole",
        Fate::Cut => "cut",
        Fate::HalfClose => "half closed",
        Fate::Hole => "swallowed",
        Fate::Corrupt => "corrupted",
    }
}

/// MQTT packets out of a stream of bytes; of TLS nothing comes out that means anything.
#[derive(Default)]
struct Packets(Vec<u8>);

impl Packets {
    fn add(&mut self, bytes: &[u8], mut each: impl FnMut(u8, &[u8])) {
        self.0.extend_from_slice(bytes);
        loop {
            let (mut length, mut at) = (0usize, 1);
            loop {
                let Some(byte) = self.0.get(at) else { return };
                length |= usize::from(byte & 0x7F) << (7 * (at - 1));
                at += 1;
                if byte & 0x80 == 0 || at > 4 {
                    break;
                }
            }
            if self.0.len() < at + length {
                return;
            }
            each(self.0[0], &self.0[at..at + length]);
            self.0.drain(..at + length);
        }
    }
}
