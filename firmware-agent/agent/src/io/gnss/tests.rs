//! Sentences to fixes; a real pseudo-terminal and a real TCP server as receivers.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use agent_core::time::{MonoTime, WallQuality};

use super::{GnssConfig, GnssKind, Language as _, Meaning, News, gpsd, nmea, run};

const LIMIT: Duration = Duration::from_secs(20);

/// With its checksum: the exclusive or of all characters between.
fn sentence(body: &str) -> String {
    format!("${body}*{:02X}", body.bytes().fold(0, |a, b| a ^ b))
}

const RMC: &str = "GNRMC,083559.25,A,4717.11437,N,00833.91522,E,19.438,77.52,091226,,,A";

fn at(ms: u64) -> MonoTime {
    MonoTime(ms * 1_000_000)
}

#[test]
fn place_speed_course_and_time_come_of_rmc_altitude_of_gga_accuracy_of_gst() {
    let mut language = nmea::Nmea::default();
    let gga = sentence("GNGGA,083559.25,4717.11437,N,00833.91522,E,1,12,0.9,499.6,M,48.0,M,,");
    assert_eq!(language.line(&gga, at(100)), Meaning::Other);
    let gst = sentence("GNGST,083559.25,1.2,,,,3.0,4.0,6.1");
    assert_eq!(language.line(&gst, at(110)), Meaning::Other);
    let Meaning::Fix(fix) = language.line(&sentence(RMC), at(120)) else { panic!("no fix") };
    assert_eq!((fix.t, fix.alt_m, fix.course_deg, fix.accuracy_m), (at(120), 499.6, 77.52, Some(5.0)));
    assert!((fix.lat_deg - 47.285_239_5).abs() < 1e-7 && (fix.lon_deg - 8.565_253_7).abs() < 1e-7, "{fix:?}");
    assert!((fix.speed_mps - 10.0).abs() < 1e-3, "19.438 knots: {fix:?}");
    let wall = fix.wall.unwrap();
    assert_eq!((wall.unix_ms, wall.quality), (1_796_805_359_250, WallQuality::Gnss), "2026-12-09 08:35:59.250");
    let Meaning::Fix(late) = language.line(&sentence(RMC), at(5000)) else { panic!("no fix") };
    assert_eq!((late.alt_m, late.accuracy_m), (0.0, None), "what is old is not repeated");
}

#[test]
fn a_receiver_without_a_position_gives_none_and_damage_is_counted() {
    let mut language = nmea::Nmea::default();
    assert_eq!(language.line(&sentence("GNRMC,083559.00,V,,,,,,,091226,,,N"), at(1)), Meaning::NoFix);
    let whole = sentence(RMC);
    assert_eq!(language.line(&whole.replace("4717", "4718"), at(2)), Meaning::Damaged, "a wrong checksum");
    assert_eq!(language.line(whole.get(..30).unwrap(), at(3)), Meaning::Damaged, "cut off");
    for other in ["", "$", "$GP", "\u{b5}b\u{1}noise", "$PUBX,00*33", "$GPZDA,1,2,3*00", "$é"] {
        assert_eq!(language.line(other, at(4)), Meaning::Other, "{other}");
    }
}

#[test]
fn gpsd_says_its_fixes_in_json() {
    let mut language = gpsd::Gpsd;
    let tpv = r#"{"class":"TPV","mode":3,"time":"2026-12-09T08:35:59.250Z","lat":47.2852395,"lon":8.5652537,
        "altMSL":499.6,"speed":10.0,"track":77.5,"eph":4.5}"#;
    let Meaning::Fix(fix) = language.line(tpv, at(7)) else { panic!("no fix") };
    assert_eq!((fix.lat_deg, fix.alt_m, fix.speed_mps, fix.accuracy_m), (47.2852395, 499.6, 10.0, Some(4.5)));
    assert_eq!(fix.wall.unwrap().unix_ms, 1_796_805_359_250);
    assert_eq!(language.line(r#"{"class":"TPV","mode":1}"#, at(8)), Meaning::NoFix);
    assert_eq!(language.line(r#"{"class":"SKY","satellites":[]}"#, at(8)), Meaning::Other);
    assert_eq!(language.line(r#"{"class":"TPV","mode":3,"lat":1e9,"lon":0}"#, at(8)), Meaning::NoFix);
    assert_eq!(language.line(r#"{"class":"TPV","mo"#, at(8)), Meaning::Damaged);
}

/// The thread, and what it tells.
struct Running {
    stop: Arc<AtomicBool>,
    news: Receiver<News>,
    thread: Option<JoinHandle<bool>>,
}

impl Running {
    fn start(config: GnssConfig) -> Self {
        let (tell, news) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let device = config.device.clone().unwrap_or_default();
        let work = move || run(&config, &device, &stopped, &|| {}, &mut |n| tell.send(n).is_ok());
        Self { stop, news, thread: Some(std::thread::spawn(work)) }
    }

    fn until(&self, wanted: impl Fn(&News) -> bool) -> News {
        loop {
            let news = self.news.recv_timeout(LIMIT).unwrap();
            if wanted(&news) {
                return news;
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

fn says(news: &News, part: &str) -> bool {
    matches!(news, News::Said(text) if text.contains(part))
}

#[test]
fn a_serial_receiver_is_read_its_noise_is_passed_over_and_its_absence_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("gnss");
    let (kind, address) = (GnssKind::Serial, "localhost:1".to_owned());
    let running = Running::start(GnssConfig { kind, device: Some(link.clone()), baud: 9600, address });
    running.until(|n| says(n, "No such file"));
    // Plugged in.
    let master = rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY).unwrap();
    rustix::pty::grantpt(&master).unwrap();
    rustix::pty::unlockpt(&master).unwrap();
    let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
    std::os::unix::fs::symlink(PathBuf::from(name.to_str().unwrap()), &link).unwrap();
    let mut line = std::fs::File::from(master);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let writer = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            let bad = sentence(RMC).replace("A,4717", "A,4719");
            let text = format!("\u{1}\u{2}noise\r\n{}\r\n{bad}\r\n", sentence(RMC));
            line.write_all(text.as_bytes()).unwrap();
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    running.until(|n| says(n, "is back"));
    running.until(|n| says(n, "has a position"));
    let fix = running.until(|n| matches!(n, News::Sample(_)));
    assert!(matches!(fix, News::Sample(f) if (f.course_deg - 77.52).abs() < 1e-3), "{fix:?}");
    running.until(|n| *n == News::Lost(1));
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    // Unplugged: the other end is closed and the name is gone.
    std::fs::remove_file(&link).unwrap();
    running.until(|n| says(n, "is silent") || says(n, "No such file"));
}

#[test]
fn gpsd_is_asked_and_taken_up_again_when_it_comes_back() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap().to_string();
    let running = Running::start(GnssConfig { kind: GnssKind::Gpsd, device: None, baud: 9600, address });
    for _ in 0..2 {
        let (mut stream, _) = server.accept().unwrap();
        let mut asked = String::new();
        BufReader::new(stream.try_clone().unwrap()).read_line(&mut asked).unwrap();
        assert!(asked.starts_with("?WATCH={\"enable\":true,\"json\":true}"), "{asked}");
        stream.write_all(b"{\"class\":\"VERSION\"}\n{\"class\":\"TPV\",\"mode\":2,\"lat\":1.5,\"lon\":2.5}\n").unwrap();
        let fix = running.until(|n| matches!(n, News::Sample(_)));
        assert!(matches!(fix, News::Sample(f) if f.lat_deg == 1.5 && f.wall.is_none()), "{fix:?}");
        // Ends here: the next turn is a new connection.
    }
}
