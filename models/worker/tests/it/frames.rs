//! Frames on the socket: what is written is read, what is damaged is refused at its place, nothing panics and nothing
//! large is reserved for what a header merely says.

use std::io::Cursor;

use agent_wire::{EventId, Hash8, UnitId};
use agent_worker::job::{Codebook, Facts, FrameInput, JobSpec, ObjectKind, ObjectRow, TelemetryRow, Window};
use agent_worker::limits::MAX_CONTROL_BYTES;
use agent_worker::protocol::{
    Fault, FrameReader, FromWorker, Incoming, ProtocolError, ToWorker, control, detail, picture, report,
};
use proptest::prelude::*;

fn spec() -> JobSpec {
    JobSpec::tasks(EventId { unit: UnitId::new("u").unwrap(), boot: 1, seq: 2 }, Window::default())
}

fn row() -> ObjectRow {
    ObjectRow { class: ObjectKind::Truck, distance_m: Some(7.5), flow_per_s: Some([0.1, -0.2]), closing_mps: None }
}

fn sample_frames() -> Vec<Vec<u8>> {
    let rgb: Vec<u8> = (0..42 * 24 * 3).map(|i| i as u8).collect();
    let telemetry = Some(TelemetryRow { acc_mps2: [1.0, -2.0, 0.5], heading_change_deg: 3.0, speed_mps: Some(9.0) });
    let frame = FrameInput { t_s: 1.5, width: 42, height: 24, rgb: &rgb, telemetry, objects: &[row(), row(), row()] };
    let facts = Facts {
        model: Hash8([1; 8]),
        name: "m".to_owned(),
        licence: "l".to_owned(),
        parameters: 5,
        device: "d".to_owned(),
        window: Window::default(),
        telemetry: true,
        objects: false,
        trained_on: Some("simulated".to_owned()),
        calibrated: false,
        codebook: Codebook { version: 1, description: vec!["x".to_owned(); 45], cause: vec![], prevention: vec![] },
    };
    vec![
        control(&ToWorker::Begin { job: 3, spec: spec() }).unwrap(),
        control(&ToWorker::Stop).unwrap(),
        picture(3, &frame).unwrap(),
        report(&FromWorker::Ready(facts)).unwrap(),
        report(&FromWorker::Refused { job: 1, fault: Fault::Failed, detail: "w".to_owned() }).unwrap(),
    ]
}

fn read(bytes: &[u8]) -> Result<Incoming, ProtocolError> {
    FrameReader::default().next(&mut Cursor::new(bytes))
}

#[test]
fn what_is_written_is_read_also_byte_by_byte() {
    struct Drip<'a>(&'a [u8], bool);
    impl std::io::Read for Drip<'_> {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(std::io::ErrorKind::WouldBlock.into());
            }
            self.0.read(&mut to[..1])
        }
    }
    let frames = sample_frames();
    let all: Vec<u8> = frames.concat();
    let (mut reader, mut drip) = (FrameReader::default(), Drip(&all, false));
    for frame in &frames {
        let slowly = loop {
            match reader.next(&mut drip) {
                Err(ProtocolError::Quiet) => {}
                other => break other.unwrap(),
            }
        };
        assert_eq!(slowly, read(frame).unwrap());
    }
    assert!(matches!(reader.next(&mut Cursor::new([])), Err(ProtocolError::Closed)));
    let Incoming::Picture(got) = read(&frames[2]).unwrap() else { panic!() };
    assert_eq!((got.job, got.rgb.len(), got.objects[2]), (3, 42 * 24 * 3, row()));
}

#[test]
fn each_damage_is_named_at_its_place() {
    let good = control(&ToWorker::Ping { nonce: 7 }).unwrap();
    let with = |i: usize, v: u8| {
        let mut bytes = good.clone();
        bytes[i] = v;
        read(&bytes)
    };
    assert!(matches!(with(0, b'X'), Err(ProtocolError::Magic(_))));
    assert!(matches!(with(2, 3), Err(ProtocolError::Version(3))));
    assert!(matches!(with(3, 9), Err(ProtocolError::Kind(9))));
    assert!(matches!(with(7, 0xff), Err(ProtocolError::Oversized { cap: MAX_CONTROL_BYTES, .. })));
    assert!(matches!(with(8, 0xee), Err(ProtocolError::Crc { .. })));
    assert!(matches!(read(&good[..good.len() - 1]), Err(ProtocolError::Cut { .. })));
    assert!(matches!(read(&[]), Err(ProtocolError::Closed)));
}

#[test]
fn no_flipped_bit_gets_through() {
    for frame in sample_frames() {
        // Pictures are long: every bit of the first bytes, then some.
        for bit in (0..frame.len() * 8).filter(|b| *b < 2000 || b.is_multiple_of(97)) {
            let mut bytes = frame.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&bytes).is_err(), "bit {bit} of {} bytes", frame.len());
        }
    }
}

#[test]
fn pictures_and_jobs_that_break_a_cap_are_refused_on_both_sides() {
    let rgb = vec![0u8; 30];
    let frame = |width, height| FrameInput { t_s: 0.0, width, height, rgb: &rgb, telemetry: None, objects: &[] };
    assert!(picture(1, &frame(5, 2)).is_ok());
    for (w, h) in [(5, 3), (0, 0), (2048, 2048), (65535, 65535)] {
        assert!(picture(1, &frame(w, h)).is_err(), "{w}x{h}");
    }
    let too_many = FrameInput { objects: &[row(); 4], ..frame(5, 2) };
    assert!(picture(1, &too_many).is_err());
    assert!(spec().check().is_ok());
    let broken = [
        JobSpec { frames: 19, ..spec() },
        JobSpec { question: Some(String::new()), ..spec() },
        JobSpec { question: Some("x".repeat(1025)), ..spec() },
        JobSpec { max_tokens: u16::MAX, ..spec() },
        JobSpec { window: Window { fps: f32::NAN, ..Window::default() }, ..spec() },
        JobSpec { window: Window { width: 2000, height: 2000, ..Window::default() }, ..spec() },
        JobSpec { window: Window { frames: 0, ..Window::default() }, ..spec() },
    ];
    assert!(broken.iter().all(|s| s.check().is_err()));
    assert_eq!(detail(&"\u{e9}".repeat(300)).len(), 400);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn any_bytes_give_a_frame_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0u8..5) {
        let _ = read(&bytes);
        let mut framed = vec![b'F', b'S', 1, kind];
        framed.extend((bytes.len() as u32).to_le_bytes());
        framed.extend(&bytes);
        let crc = crc32fast::hash(&framed);
        framed.extend(crc.to_le_bytes());
        if let Ok(Incoming::Picture(p)) = read(&framed) {
            prop_assert!(p.input().check().is_ok());
        }
    }
}
