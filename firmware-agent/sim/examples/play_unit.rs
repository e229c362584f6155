//! Plays a simulated drive into the interfaces of a unit, for the bench machine:
//!
//!   play_unit SCENARIO SEED [--vcan vcan0] [--i2c 9] [--gpsd 2947] [--lead-s 5]
//!
//! - CAN frames go onto a virtual bus, at their times;
//! - a simulated BMI160 stands at address 0x68 of a simulated I2C bus, /dev/i2c-N, by the kernel's CUSE (character devices in
//!   user space): what it measures is the drive's motion, before the start its first second again and again, after the end
//!   its last half second;
//! - fixes go out as gpsd writes them, to whoever connects.
//!
//! Needs the modules vcan and cuse, and root. Says on standard output, a JSON object a line, when the drive began and when its
//! contact is, on CLOCK_MONOTONIC. Ends two minutes after the end of the drive.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agent_core::samples::{CanFrame, GnssFix, ImuSample};
use agent_sim::SimRecord;
use agent_sim::chip::{SimBmi160, SimChip as _};
use agent_sim::world::{DriveOptions, Next, WorldDrive, built_in};
use socketcan::{CanSocket, EmbeddedFrame as _, ExtendedId, Id, Socket as _, StandardId};

const AFTER: Duration = Duration::from_secs(120);
const ADDRESS: u16 = 0x68;
/// Samples a second that the chip measures from.
const IMU_HZ: usize = 1000;

type Failure = Box<dyn std::error::Error>;

struct Played {
    imu: Vec<ImuSample>,
    can: Vec<CanFrame>,
    gnss: Vec<GnssFix>,
    contact_s: Option<f64>,
}

fn played(name: &str, seed: u64) -> Result<Played, Failure> {
    let scenario = built_in(name).ok_or_else(|| format!("no scenario {name}"))??;
    let options = DriveOptions { size: [64, 64], fps: 0.0, imu_hz: IMU_HZ, gnss_hz: 5 };
    let mut drive = WorldDrive::new(&scenario, seed, options)?;
    let mut played = Played { imu: Vec::new(), can: Vec::new(), gnss: Vec::new(), contact_s: None };
    while let Some(next) = drive.next_due() {
        match next {
            Next::Record(SimRecord::Imu(s)) => played.imu.push(s),
            Next::Record(SimRecord::Can(f)) => played.can.push(f),
            Next::Record(SimRecord::Gnss(f)) => played.gnss.push(f),
            Next::Record(SimRecord::Frame { .. }) | Next::Picture { .. } => {}
        }
    }
    played.contact_s = drive.truth().event.as_ref().map(|e| e.contact_s);
    Ok(played)
}

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str, other: &str| {
        let at = args.iter().position(|a| a == name).and_then(|i| args.get(i + 1));
        at.cloned().unwrap_or_else(|| other.to_owned())
    };
    let (Some(name), Some(seed)) = (args.first(), args.get(1)) else {
        return Err("play_unit SCENARIO SEED [--vcan vcan0] [--i2c 9] [--gpsd 2947] [--lead-s 5]".into());
    };
    let drive = Arc::new(played(name, seed.parse()?)?);
    let lead: f64 = value("--lead-s", "5").parse()?;
    let begins = Instant::now() + Duration::from_secs_f64(lead);
    let boot_s: f64 = std::fs::read_to_string("/proc/uptime")?.split(' ').next().unwrap_or("0").parse()?;
    let mut out = std::io::stdout();
    let contact = drive.contact_s.map_or(f64::NAN, |c| boot_s + lead + c);
    writeln!(
        out,
        "{{\"begins_s\": {:.2}, \"contact_s\": {contact:.2}, \"can_frames\": {}}}",
        boot_s + lead,
        drive.can.len()
    )?;
    out.flush()?;

    let (i2c, gpsd) = (value("--i2c", "9"), value("--gpsd", "2947").parse()?);
    let chip = Bus { chip: SimBmi160::new(0.01), drive: Arc::clone(&drive), begins, register: 0 };
    std::thread::spawn(move || serve_i2c(&format!("i2c-{i2c}"), chip).map_err(|e| say(&format!("I2C: {e}"))));
    let fixes = Arc::clone(&drive);
    std::thread::spawn(move || serve_fixes(gpsd, &fixes, begins).map_err(|e| say(&format!("gpsd: {e}"))));

    let interface = value("--vcan", "vcan0");
    let (mut socket, mut sent, mut refused) = (None, 0_u64, 0_u64);
    for frame in &drive.can {
        let at = begins + Duration::from_nanos(frame.t.0);
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        if socket.is_none() {
            socket = CanSocket::open(&interface).ok();
        }
        let id = if frame.extended {
            ExtendedId::new(frame.id).map(Id::from)
        } else {
            StandardId::new(frame.id as u16).map(Id::from)
        };
        let made = id.and_then(|id| socketcan::CanFrame::new(id, frame.payload()));
        match (made, &socket) {
            (Some(made), Some(open)) if open.write_frame(&made).is_ok() => sent += 1,
            _ => {
                // The interface is down: frames of that time are nobody's.
                refused += 1;
                socket = None;
            }
        }
    }
    writeln!(out, "{{\"can_sent\": {sent}, \"can_refused\": {refused}}}")?;
    out.flush()?;
    std::thread::sleep(AFTER);
    Ok(())
}

fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "play_unit: {what}");
}

/// A bus with one chip on it.
struct Bus {
    chip: SimBmi160,
    drive: Arc<Played>,
    begins: Instant,
    register: u8,
}

impl Bus {
    /// Lets the chip measure until now.
    fn advance(&mut self) {
        // Seconds of the drive; the lead-in is at most an hour, so that the chip's time is never below zero.
        const SHIFT: f64 = 3600.0;
        let now = Instant::now();
        let t = match now.checked_duration_since(self.begins) {
            Some(since) => since.as_secs_f64(),
            None => -(self.begins - now).as_secs_f64(),
        };
        let imu = &self.drive.imu;
        self.chip.advance(SHIFT + t, &mut |at| {
            let ms = ((at - SHIFT) * 1000.0).floor() as i64;
            let n = imu.len() as i64;
            let i = if ms < 0 {
                ms.rem_euclid(1000)
            } else if ms < n {
                ms
            } else {
                n - 500 + (ms - n) % 500
            };
            imu.get(i.max(0) as usize).map_or(([0.0; 3], [0.0; 3]), |s| (s.accel_mps2, s.gyro_rps))
        });
    }

    fn write(&mut self, bytes: &[u8]) {
        self.advance();
        let Some((register, values)) = bytes.split_first() else { return };
        self.register = *register;
        for value in values {
            self.chip.write(self.register, *value);
            self.register = self.register.wrapping_add(1);
        }
    }

    fn read(&mut self, into: &mut [u8]) {
        self.advance();
        self.chip.read(self.register, into);
    }
}

/// Operations of fuse_kernel.h that a character device meets.
mod op {
    pub(super) const OPEN: u32 = 14;
    pub(super) const RELEASE: u32 = 18;
    pub(super) const FLUSH: u32 = 25;
    pub(super) const INTERRUPT: u32 = 36;
    pub(super) const IOCTL: u32 = 39;
    pub(super) const CUSE_INIT: u32 = 4096;
}

const ENXIO: i32 = 6;
const EINVAL: i32 = 22;
const ENOTTY: i32 = 25;
const ENOSYS: i32 = 38;

/// Numbers out of the kernel's bytes; zero beyond their end.
fn number<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut out = [0; 8];
    if let Some(part) = bytes.get(at..at + N) {
        out[..N].copy_from_slice(part);
    }
    u64::from_le_bytes(out)
}

/// Serves one bus as /dev/NAME, until the device is gone.
fn serve_i2c(name: &str, mut bus: Bus) -> std::io::Result<()> {
    let mut kernel = File::options().read(true).write(true).open("/dev/cuse")?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let n = kernel.read(&mut buffer)?;
        let request = buffer.get(..n).unwrap_or_default();
        let (opcode, unique) = (number::<4>(request, 4) as u32, number::<8>(request, 8));
        let body = request.get(40..).unwrap_or_default();
        let answer = match opcode {
            op::CUSE_INIT => {
                let mut out = Vec::with_capacity(128);
                // Version 7.31, ioctls whose memory we ask for, up to 128 KB at once.
                for n in [7_u32, 31, 0, 1, 128 << 10, 128 << 10, 0, 0] {
                    out.extend(n.to_le_bytes());
                }
                out.extend([0; 40]);
                out.extend(format!("DEVNAME={name}\0").bytes());
                Ok(out)
            }
            op::OPEN => Ok(vec![0; 16]),
            op::RELEASE | op::FLUSH => Ok(Vec::new()),
            op::INTERRUPT => continue,
            op::IOCTL => ioctl(&mut bus, body),
            _ => Err(ENOSYS),
        };
        let (error, data) = answer.map_or_else(|e| (-e, Vec::new()), |data| (0, data));
        let mut out = Vec::with_capacity(16 + data.len());
        out.extend(((16 + data.len()) as u32).to_le_bytes());
        out.extend(error.to_le_bytes());
        out.extend(unique.to_le_bytes());
        out.extend(data);
        // A request that was interrupted meanwhile wants no answer.
        let _ = kernel.write(&out);
    }
}

/// An answer: a result and what it brings.
fn done(result: i32, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + data.len());
    out.extend(result.to_le_bytes());
    out.extend([0; 12]);
    out.extend(data);
    out
}

/// Asks the kernel to come again with these pieces of the caller's memory.
fn again(from: &[(u64, u64)], to: &[(u64, u64)]) -> Vec<u8> {
    const RETRY: u32 = 1 << 2;
    let mut out = Vec::with_capacity(16 + 16 * (from.len() + to.len()));
    out.extend(0_u32.to_le_bytes());
    for n in [RETRY, from.len() as u32, to.len() as u32] {
        out.extend(n.to_le_bytes());
    }
    for (base, length) in from.iter().chain(to) {
        out.extend(base.to_le_bytes());
        out.extend(length.to_le_bytes());
    }
    out
}

/// What i2c-dev.h has: the functions of the adapter, and transfers of several messages. Layouts of 64 bits.
fn ioctl(bus: &mut Bus, body: &[u8]) -> Result<Vec<u8>, i32> {
    const SETTINGS: [u32; 6] = [0x0701, 0x0702, 0x0703, 0x0704, 0x0706, 0x0708];
    const FUNCTIONS: u32 = 0x0705;
    const TRANSFER: u32 = 0x0707;
    const READ: u64 = 1;
    const MESSAGE: usize = 16;
    let command = number::<4>(body, 12) as u32;
    let (argument, out_size) = (number::<8>(body, 16), number::<4>(body, 28) as usize);
    let given = body.get(32..).unwrap_or_default();
    match command {
        c if SETTINGS.contains(&c) => Ok(done(0, &[])),
        FUNCTIONS if out_size < 8 => Ok(again(&[], &[(argument, 8)])),
        // I2C messages, and the emulation of SMBus by them.
        FUNCTIONS => Ok(done(0, &0x0eff_0001_u64.to_le_bytes())),
        TRANSFER if given.len() < 16 => Ok(again(&[(argument, 16)], &[])),
        TRANSFER => {
            let (messages, count) = (number::<8>(given, 0), number::<4>(given, 8) as usize);
            if count > 42 {
                return Err(EINVAL);
            }
            let heads = MESSAGE * count;
            if given.len() < 16 + heads {
                return Ok(again(&[(argument, 16), (messages, heads as u64)], &[]));
            }
            let message = |i: usize| {
                let at = 16 + MESSAGE * i;
                let [address, flags, length] = [0, 2, 4].map(|o| number::<2>(given, at + o));
                (address as u16, flags & READ != 0, length, number::<8>(given, at + 8))
            };
            let (mut from, mut to) = (vec![(argument, 16), (messages, heads as u64)], Vec::new());
            let (mut in_bytes, mut out_bytes) = (0, 0);
            for (_, read, length, memory) in (0..count).map(message) {
                if read {
                    to.push((memory, length));
                    out_bytes += length as usize;
                } else {
                    from.push((memory, length));
                    in_bytes += length as usize;
                }
            }
            if given.len() < 16 + heads + in_bytes || out_size < out_bytes {
                return Ok(again(&from, &to));
            }
            let (mut written, mut out) = (16 + heads, Vec::with_capacity(out_bytes));
            for (address, read, length, _) in (0..count).map(message) {
                if address != ADDRESS {
                    return Err(ENXIO);
                }
                if read {
                    let begin = out.len();
                    out.resize(begin + length as usize, 0);
                    bus.read(out.get_mut(begin..).unwrap_or_default());
                } else {
                    bus.write(given.get(written..written + length as usize).unwrap_or_default());
                    written += length as usize;
                }
            }
            Ok(done(count as i32, &out))
        }
        _ => Err(ENOTTY),
    }
}

/// Fixes as gpsd writes them, to all who are connected.
fn serve_fixes(port: u16, drive: &Played, begins: Instant) -> std::io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    let clients: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
    let new = Arc::clone(&clients);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let mut client = client;
            let hello = "{\"class\":\"VERSION\",\"release\":\"simulated\",\"rev\":\"1\",\"proto_major\":3,\"proto_minor\":14}\n";
            if let (Ok(()), Ok(mut clients)) = (client.write_all(hello.as_bytes()), new.lock())
                && clients.len() < 8
            {
                clients.push(client);
            }
        }
    });
    for fix in &drive.gnss {
        let at = begins + Duration::from_nanos(fix.t.0);
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        let line = format!(
            "{{\"class\":\"TPV\",\"device\":\"simulated\",\"mode\":3,\"lat\":{},\"lon\":{},\"altMSL\":{},\"speed\":{},\"track\":{},\"eph\":{}}}\n",
            fix.lat_deg,
            fix.lon_deg,
            fix.alt_m,
            fix.speed_mps,
            fix.course_deg,
            fix.accuracy_m.unwrap_or(5.0)
        );
        if let Ok(mut clients) = clients.lock() {
            clients.retain_mut(|c| c.write_all(line.as_bytes()).is_ok());
        }
    }
    Ok(())
}
