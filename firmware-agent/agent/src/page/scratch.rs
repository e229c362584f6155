use super::*;
use agent_sim::{DemoDrive, SimRecord};
use agent_wire::{StudentOutcome, StudentRefusal};
#[test]
fn scratch_page() {
    let mut drive = DemoDrive::without_images(7);
    let truth = drive.truth().clone();
    let rel = |t: agent_core::time::MonoTime| (t.0 as f64 - truth.time_zero.0 as f64) as f32 * 1e-6;
    let (mut accel, mut bus, mut gnss, mut dv) = (vec![], vec![], vec![], vec![]);
    let mut sum = [0.0f32; 2];
    while let Some(r) = drive.next_record() {
        match r {
            SimRecord::Imu(s) if rel(s.t) > -20000.0 && rel(s.t) < 5000.0 => {
                let mut v = agent_sim::maths::mul(&truth.vehicle_from_sensor, s.accel_mps2.map(f64::from));
                v[2] -= 9.81;
                let mps2 = v.map(|x| x as f32);
                accel.push(AccelPoint { at_ms: rel(s.t), mps2 });
                if rel(s.t) > 0.0 && rel(s.t) < 300.0 {
                    sum[0] += mps2[0] * 0.036;
                    sum[1] += mps2[1] * 0.036;
                    dv.push(DeltaVPoint { at_ms: rel(s.t), kmh: sum });
                }
            }
            SimRecord::Can(f) if f.id == 0x100 && rel(f.t) > -20000.0 && rel(f.t) < 5000.0 => {
                bus.push((rel(f.t), u16::from_le_bytes([f.data[0], f.data[1]]) as f32 * 0.01))
            }
            SimRecord::Gnss(f) if rel(f.t) > -20000.0 && rel(f.t) < 5000.0 => gnss.push((rel(f.t), f.speed_mps * 3.6)),
            _ => {}
        }
    }
    let mut files: Vec<_> = std::fs::read_dir("/tmp/simframes")
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "jpg"))
        .collect();
    files.sort();
    let jpegs: Vec<(i32, Vec<u8>)> = files
        .iter()
        .map(|p| {
            let seq: i32 = p.file_stem().unwrap().to_str().unwrap().parse().unwrap();
            (seq * 80 - 34084, std::fs::read(p).unwrap())
        })
        .collect();
    let (alert, report) = (tests::alert(), tests::report(StudentOutcome::Refused(StudentRefusal::NotInstalled)));
    let page = EventPage {
        source: "demo drive, seed 7",
        program: "firmware-agent 0.1.0",
        alert: Some((&alert, 141)),
        report: Some((&report, 260)),
        answers: AnswerWords::default(),
        frames: jpegs.iter().map(|(t, j)| PageFrame { at_ms: *t, jpeg: j }).collect(),
        axes_known: true,
        accel,
        speed: vec![SpeedSeries { source: "vehicle bus", points: bus }, SpeedSeries { source: "GNSS", points: gnss }],
        delta_v: dv,
        marks: vec![(16.0, "airbag"), (-488.0, "brake on")],
    };
    std::fs::write("/tmp/simframes/page.html", render(&page)).unwrap();
}
