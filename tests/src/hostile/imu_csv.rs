//! Tables of IMU samples: any bytes give a drive or an error that names the file; the drive has the samples that the report counts.

use agent_drive::import::{AccelUnit, GyroUnit, ImuColumns, InputKind, TimeUnit};

use super::candump::{Record, imported};

/// The first byte chooses units and whether there is a gyroscope.
pub fn judge(data: &[u8]) {
    let Some((choice, table)) = data.split_first() else { return };
    let three = |names: [&str; 3]| names.map(str::to_owned);
    let time = [TimeUnit::S, TimeUnit::Ms, TimeUnit::Us, TimeUnit::Ns][usize::from(choice & 3)];
    let accel_unit = if choice & 4 == 0 { AccelUnit::Mps2 } else { AccelUnit::G };
    let gyro_unit = if choice & 8 == 0 { GyroUnit::RadPerS } else { GyroUnit::DegPerS };
    let gyro = (choice & 16 == 0).then(|| (three(["p", "q", "r"]), gyro_unit));
    let columns = ImuColumns { time: ("t".to_owned(), time), accel: three(["x", "y", "z"]), accel_unit, gyro };
    let Some((report, records)) = imported(table, InputKind::ImuCsv(columns)) else { return };
    let samples = records.iter().filter(|r| **r == Record::Imu).count();
    assert_eq!((samples as u64, records.len()), (report.counts.imu, samples));
}

pub fn seeds() -> Vec<Vec<u8>> {
    let seconds = "\0t,x,y,z,p,q,r\n0.0,0.1,-9.81,0.2,0,0,1e-3\n0.01,1,2,3,4,5,6\nbad,,,\n\n-1,0,0,0,0,0,0\n";
    let nanoseconds = "\x17\u{FEFF}t , z,y,x,note\r\n1700000000000000000,0,0,1,a\r\n1700000000010000000,inf,0,1\r\n";
    [seconds, nanoseconds].map(|text| text.as_bytes().to_vec()).into()
}
