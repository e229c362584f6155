//! An event as its evidence file has it, for the student: time zero, the mounting that was in force, motion and fixes.
//!
//! Objects are not in the file frame by frame, so a model that reads them gets none; the speed is that of GNSS.

use std::path::{Path, PathBuf};

use agent_core::rings::SampleRing;
use agent_core::samples::{GnssFix, ImuSample};
use agent_core::student::{TelemetryAt, between_fixes, telemetry};
use agent_core::telemetry::Alignment;
use agent_core::time::{MonoTime, Span};
use agent_drive::{DriveReader, DriveRecord};
use serde_json::Value;

use crate::exit::bad_input;

/// Samples that are looked at: the longest pre-roll and post-roll at the highest rate.
const MAX_IMU: usize = 400_000;
/// The same for fixes.
const MAX_FIXES: usize = 20_000;
/// The same for key frames, were each frame one.
const MAX_KEYS: usize = 20_000;

/// What an evidence file says besides its frames.
pub(crate) struct Recorded {
    pub(crate) path: PathBuf,
    pub(crate) event: String,
    pub(crate) t_zero: MonoTime,
    alignment: Alignment,
    imu: Vec<ImuSample>,
    fixes: SampleRing<GnssFix>,
    keys: Vec<MonoTime>,
}

impl Recorded {
    /// Reads a file whose event is `wanted`, or its last event.
    ///
    /// # Errors
    /// No drive, or no such event in it. One that was cut off is read to its last whole chunk.
    pub(crate) fn read(path: &Path, wanted: Option<&str>) -> anyhow::Result<Self> {
        let mut reader = DriveReader::open(path).map_err(bad_input)?;
        let mut recorded = Self {
            path: path.to_owned(),
            event: String::new(),
            t_zero: MonoTime::ZERO,
            alignment: Alignment::default(),
            imu: Vec::new(),
            fixes: SampleRing::new(MAX_FIXES, Span(u64::MAX)),
            keys: Vec::new(),
        };
        while let Some(record) = reader.next().map_err(bad_input)? {
            match record {
                DriveRecord::Json("/event", _, text) => recorded
                    .describe(text, wanted)
                    .ok_or_else(|| bad_input(format!("{}: /event is not what an agent writes", path.display())))?,
                DriveRecord::Imu(s) if recorded.imu.len() < MAX_IMU => recorded.imu.push(s),
                DriveRecord::Gnss(f) => {
                    // One out of order is left out.
                    recorded.fixes.push(f, None);
                }
                DriveRecord::Frame(meta, _) if meta.key && recorded.keys.len() < MAX_KEYS => recorded.keys.push(meta.t),
                _ => {}
            }
        }
        if recorded.event.is_empty() {
            return Err(bad_input(format!("{}: no event in it; an event's evidence file is needed", path.display())));
        }
        Ok(recorded)
    }

    /// The parts of `/event` that matter here.
    fn describe(&mut self, text: &str, wanted: Option<&str>) -> Option<()> {
        let value: Value = serde_json::from_str(text).ok()?;
        let event = value.get("event")?.as_str()?;
        if wanted.is_some_and(|wanted| wanted != event) {
            return Some(());
        }
        self.t_zero = MonoTime(value.get("time_zero_ns")?.as_u64()?);
        let alignment = value.get("alignment")?;
        let rows: [[f32; 3]; 3] = serde_json::from_value(alignment.get("vehicle_from_sensor")?.clone()).ok()?;
        self.alignment.vehicle_from_sensor = rows;
        self.alignment.up_known = alignment.get("up_known")?.as_bool()?;
        self.alignment.forward_known = alignment.get("forward_known")?.as_bool()?;
        event.clone_into(&mut self.event);
        Some(())
    }

    /// Whether the vehicle's axes were known.
    pub(crate) fn axes_known(&self) -> bool {
        self.alignment.up_known && self.alignment.forward_known
    }

    /// Time of the key frame from which decoding has to begin to have what follows `t`.
    pub(crate) fn key_before(&self, t: MonoTime) -> MonoTime {
        self.keys.iter().copied().filter(|key| *key <= t).max().unwrap_or(MonoTime::ZERO)
    }

    /// Telemetry beside a frame, where it is known; `interval` is the time since the frame before.
    pub(crate) fn beside(&self, t: MonoTime, interval: Span) -> Option<TelemetryAt> {
        let from = self.imu.partition_point(|s| s.t < t.minus(interval));
        let to = self.imu.partition_point(|s| s.t <= t);
        let samples = self.imu.get(from..to.max(from)).unwrap_or_default();
        telemetry(samples.iter(), &self.alignment, between_fixes(&self.fixes, t))
    }
}
