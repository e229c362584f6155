//! The student's worker: frames on its socket. What is read is written again and read as the same, whatever kind it is of,
//! and a picture that came through has the size that it says.
//!
//! The input is tried as a stream, and as a kind and a payload under a right length and checksum.

use std::io::Cursor;

use agent_wire::Hash8;
use agent_worker::job::{Codebook, Facts, FrameInput, JobSpec, ObjectKind, ObjectRow, TelemetryRow, Window};
use agent_worker::protocol::{
    Fault, FrameReader, FromWorker, Incoming, MAGIC, ProtocolError, ToWorker, VERSION, control, picture, report,
};

use super::envelope::{crc32, event};

/// Frames of one stream that are read: more than any input of the fuzzer holds.
const MOST_FRAMES: usize = 256;

pub fn judge(data: &[u8]) {
    stream(data);
    let Some((kind, payload)) = data.split_first() else { return };
    let length = (payload.len() as u32).to_le_bytes();
    let mut framed = [&MAGIC[..], &[VERSION, kind % 4], &length, payload].concat();
    framed.extend(crc32(&framed).to_le_bytes());
    stream(&framed);
}

fn stream(bytes: &[u8]) {
    let (mut reader, mut from) = (FrameReader::default(), Cursor::new(bytes));
    for _ in 0..MOST_FRAMES {
        match reader.next(&mut from) {
            Ok(incoming) => one(&incoming),
            Err(ProtocolError::Quiet | ProtocolError::Io(_)) => panic!("memory neither waits nor fails"),
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return;
            }
        }
    }
}

fn one(incoming: &Incoming) {
    let written = match incoming {
        Incoming::Control(words) => {
            if let ToWorker::Begin { spec, .. } = words {
                let _ = spec.check();
            }
            control(words)
        }
        Incoming::Report(words) => {
            match words {
                FromWorker::Ready(facts) => drop(facts.check()),
                FromWorker::Answers { answers, .. } => drop(answers.check()),
                _ => {}
            }
            report(words)
        }
        Incoming::Picture(one) => {
            assert_eq!(one.rgb.len(), 3 * usize::from(one.width) * usize::from(one.height));
            picture(one.job, &one.input())
        }
    };
    let written = written.expect("what was read can be written");
    let again = FrameReader::default().next(&mut Cursor::new(&written)).expect("what was written can be read");
    // By what it looks like: a float that is no number is not equal to itself.
    assert_eq!(format!("{again:?}"), format!("{incoming:?}"));
}

pub fn seeds() -> Vec<Vec<u8>> {
    let row =
        ObjectRow { class: ObjectKind::Truck, distance_m: Some(7.5), flow_per_s: Some([0.1, -0.2]), closing_mps: None };
    let telemetry = Some(TelemetryRow { acc_mps2: [1.0, -2.0, 0.5], heading_change_deg: 3.0, speed_mps: Some(9.0) });
    let frame = FrameInput { t_s: 1.5, width: 4, height: 3, rgb: &[7; 36], telemetry, objects: &[row, row] };
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
        codebook: Codebook { version: 1, description: vec!["x".to_owned(); 3], cause: vec![], prevention: vec![] },
    };
    let ask = JobSpec { question: Some("What is ahead?".to_owned()), ..JobSpec::tasks(event(), Window::default()) };
    let frames = [
        control(&ToWorker::Begin { job: 3, spec: ask }),
        control(&ToWorker::Answer { job: 3 }),
        control(&ToWorker::Ping { nonce: 9 }),
        picture(3, &frame),
        report(&FromWorker::Ready(facts)),
        report(&FromWorker::Text { job: 3, text: "a lorry".to_owned() }),
        report(&FromWorker::Refused { job: 1, fault: Fault::Failed, detail: "w".to_owned() }),
        report(&FromWorker::Pong { nonce: 9, steps: 70_000 }),
    ]
    .map(|frame| frame.expect("sound"));
    let bare = frames.iter().filter_map(|f| Some([&f[3..4], f.get(8..f.len() - 4)?].concat()));
    frames.iter().cloned().chain(bare).chain([frames.concat()]).collect()
}
