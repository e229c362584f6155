//! Evidence files: one MCAP per event with the encoded video and the raw samples around it, the event data table and
//! the object table, chained and signed as it is written ([`agent_drive::chain`]). Written under another name, synced, then renamed: a file with its final name is whole.

use std::io::{BufWriter, Read as _, Seek, Write};
use std::path::{Path, PathBuf};

use agent_core::evidence::{EvidenceView, Recorded};
use agent_core::samples::{CanFrame, FrameMeta, GnssFix, ImuSample};
use agent_core::time::MonoTime;
use agent_disk::{Cursor, Disk, How, folder_of};
use agent_drive::{Chained, DriveError, DriveInfo, DriveWriter, NoSeek};
use agent_wire::{EventId, EvidenceFile, Hash8};
use anyhow::Context as _;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::signer::Signer;

/// Whether to wait for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// fsync before the rename (`run`).
    Synced,
    /// Leave it to the operating system (`replay`).
    Buffered,
}

/// What is written at once.
const WRITE_BYTES: usize = 64 << 10;
/// Folder, below that of crash evidence, for evidence that may be rotated away.
pub(crate) const LESSER: &str = "lesser";

/// Writes the evidence of an event into `folder` at once and returns what the report says of it. `run` does it a piece at a time:
/// [`crate::scribe`].
pub(crate) fn write(
    disk: &dyn Disk,
    folder: &Path,
    view: &EvidenceView<'_>,
    info: &DriveInfo,
    signer: &Signer,
    durability: Durability,
) -> anyhow::Result<EvidenceFile> {
    disk.make_folder(folder)?;
    let (part, path) = names(folder, &view.event().id);
    let file = Cursor::new(disk.open(&part, How::Create).with_context(|| part.display().to_string())?);
    let mut writer = begin(BufWriter::with_capacity(WRITE_BYTES, file), view, info, signer)?;
    write_all(&mut writer, merged(view.imu(), view.gnss(), view.can(), view.frames()))?;
    writer.finish()?;
    seal(disk, &part, &path, durability)
}

/// Names of an event's evidence in `folder`: one that says it is not whole yet, and its own.
pub(crate) fn names(folder: &Path, event: &EventId) -> (PathBuf, PathBuf) {
    let name = format!("{event}.mcap");
    (folder.join(format!(".{name}.part")), folder.join(name))
}

/// Begins the evidence of an event: all but its records.
pub(crate) fn begin<W: Write>(
    out: W,
    view: &EvidenceView<'_>,
    info: &DriveInfo,
    signer: &Signer,
) -> Result<DriveWriter<NoSeek<Chained<W>>>, DriveError> {
    let mut writer = DriveWriter::chained(out, info, signer.seal(view.event().id.to_string()))?;
    writer.write_json("/event", view.event().t_zero, &describe(view).to_string())?;
    writer.write_json("/event/edr", view.event().t_zero, &edr_json(view).to_string())?;
    Ok(writer)
}

/// Deletes the oldest lesser evidence until `folder` with all evidence in it leaves room for `need` bytes below `quota`.
/// Evidence of crashes is never deleted. Returns how many files went, and whether there is room now. A unit's files sort
/// by age: their names hold start and sequence.
pub(crate) fn make_room(disk: &dyn Disk, folder: &Path, quota: u64, need: u64) -> (u32, bool) {
    let lesser = disk.list(&folder.join(LESSER));
    let mut total: u64 = disk.list(folder).iter().chain(&lesser).map(|(_, bytes)| bytes).sum();
    let mut gone = 0;
    for (path, bytes) in lesser.into_iter().filter(|(p, _)| p.extension().is_some_and(|e| e == "mcap")) {
        if total.saturating_add(need) <= quota {
            break;
        }
        if disk.remove(&path).is_ok() {
            total = total.saturating_sub(bytes);
            gone += 1;
        }
    }
    (gone, total.saturating_add(need) <= quota)
}

/// At the start: what a power cut left half written gets a name of its own, `NAME.cut.mcap`, and is read to its last whole chunk.
/// How many there were.
pub(crate) fn recover(disk: &dyn Disk, folder: &Path) -> std::io::Result<u32> {
    let mut recovered = 0;
    for folder in [folder.to_owned(), folder.join(LESSER)] {
        for (path, bytes) in disk.list(&folder) {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let Some(event) = name.strip_prefix('.').and_then(|n| n.strip_suffix(".mcap.part")) else { continue };
            if bytes == 0 {
                disk.remove(&path)?;
                continue;
            }
            disk.rename(&path, &folder.join(format!("{event}.cut.mcap")))?;
            recovered += 1;
        }
    }
    recovered += recover_journal(disk, folder)?;
    if recovered > 0 {
        disk.sync_folder(folder)?;
    }
    Ok(recovered)
}

/// Folder of the journal, below that of evidence.
pub(crate) const JOURNAL: &str = ".journal";

/// The journal that the last start left behind: if it was for an event it is that event's evidence and stays like any other of a
/// crash; otherwise the power went while risk was high, or for no reason that is known, and it is lesser evidence.
fn recover_journal(disk: &dyn Disk, folder: &Path) -> std::io::Result<u32> {
    let left = disk.list(&folder.join(JOURNAL));
    // START_NUMBER.mcap, and START_NUMBER.EVENT.mcap once there was an event.
    let parts = |path: &Path| {
        let stem = path.file_name()?.to_str()?.strip_suffix(".mcap")?.to_owned();
        let (part, event) = stem.split_once('.').map_or((stem.as_str(), None), |(part, e)| (part, Some(e.to_owned())));
        let (start, number) = part.rsplit_once('_')?;
        Some((start.to_owned(), number.to_owned(), event))
    };
    let named: Vec<_> = left.iter().filter_map(|(path, _)| parts(path)).collect();
    let mut recovered = 0;
    for (path, bytes) in &left {
        let Some((start, number, _)) = parts(path).filter(|_| *bytes > 0) else {
            disk.remove(path)?;
            continue;
        };
        // The last event of that start; what was recorded before it is its pre-roll.
        let event = named.iter().rev().find_map(|(s, _, event)| event.as_ref().filter(|_| *s == start));
        let to = match event {
            Some(event) => folder.join(format!("{event}.cut-{number}.mcap")),
            None => folder.join(LESSER).join(format!("{start}_power.cut-{number}.mcap")),
        };
        disk.make_folder(folder_of(&to))?;
        disk.rename(path, &to)?;
        recovered += 1;
    }
    Ok(recovered)
}

/// Hashes a written part and gives it its final name, after a sync if wanted.
pub(crate) fn seal(disk: &dyn Disk, part: &Path, path: &Path, durability: Durability) -> anyhow::Result<EvidenceFile> {
    let (bytes, sha256_8) = hash(disk, part)?;
    if durability == Durability::Synced {
        disk.open(part, How::OpenOrCreate)?.sync()?;
    }
    disk.rename(part, path)?;
    if durability == Durability::Synced {
        // The rename itself lives in the folder.
        disk.sync_folder(folder_of(path))?;
    }
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let name = name.as_str().try_into().map_err(|_| anyhow::anyhow!("evidence file name {name} is too long"))?;
    Ok(EvidenceFile { name, bytes, sha256_8 })
}

/// Size and first eight bytes of the SHA-256 of a file.
pub(crate) fn hash(disk: &dyn Disk, path: &Path) -> std::io::Result<(u64, Hash8)> {
    let mut file = Cursor::new(disk.open(path, How::Read)?);
    let (mut digest, mut bytes, mut buffer) = (Sha256::new(), 0u64, vec![0u8; 1 << 16]);
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        bytes += n as u64;
        digest.update(buffer.get(..n).unwrap_or_default());
    }
    let mut out = Hash8::default();
    out.0.iter_mut().zip(digest.finalize()).for_each(|(to, from)| *to = from);
    Ok((bytes, out))
}

fn write_all<'a, W: Write + Seek>(
    writer: &mut DriveWriter<W>,
    records: impl Iterator<Item = Record<'a>>,
) -> Result<(), DriveError> {
    for record in records {
        match record {
            Record::Imu(s) => writer.write_imu(s)?,
            Record::Gnss(f) => writer.write_gnss(f)?,
            Record::Can(f) => writer.write_can(&f)?,
            Record::Frame(meta, bytes) => writer.write_frame(&meta, bytes)?,
        }
    }
    Ok(())
}

/// Writes what the rings hold of a stretch of time, in its order.
pub(crate) fn write_recorded<W: Write + Seek>(
    writer: &mut DriveWriter<W>,
    recorded: &Recorded<'_>,
) -> Result<(), DriveError> {
    write_all(writer, merged(recorded.imu(), recorded.gnss(), recorded.can(), recorded.frames()))
}

/// One record of the evidence.
enum Record<'a> {
    Imu(&'a ImuSample),
    Gnss(&'a GnssFix),
    Can(CanFrame),
    Frame(FrameMeta, &'a [u8]),
}

/// Four streams in the order of time; at equal times IMU, GNSS, CAN, video.
struct Merged<I: Iterator, G: Iterator, C: Iterator, F: Iterator> {
    imu: std::iter::Peekable<I>,
    gnss: std::iter::Peekable<G>,
    can: std::iter::Peekable<C>,
    frames: std::iter::Peekable<F>,
}

fn merged<'a>(
    imu: impl Iterator<Item = &'a ImuSample>,
    gnss: impl Iterator<Item = &'a GnssFix>,
    can: impl Iterator<Item = CanFrame>,
    frames: impl Iterator<Item = (FrameMeta, &'a [u8])>,
) -> impl Iterator<Item = Record<'a>> {
    Merged { imu: imu.peekable(), gnss: gnss.peekable(), can: can.peekable(), frames: frames.peekable() }
}

impl<'a, I, G, C, F> Iterator for Merged<I, G, C, F>
where
    I: Iterator<Item = &'a ImuSample>,
    G: Iterator<Item = &'a GnssFix>,
    C: Iterator<Item = CanFrame>,
    F: Iterator<Item = (FrameMeta, &'a [u8])>,
{
    type Item = Record<'a>;
    fn next(&mut self) -> Option<Record<'a>> {
        let times: [Option<MonoTime>; 4] = [
            self.imu.peek().map(|s| s.t),
            self.gnss.peek().map(|f| f.t),
            self.can.peek().map(|f| f.t),
            self.frames.peek().map(|(m, _)| m.t),
        ];
        let (which, _) =
            times.iter().enumerate().filter_map(|(i, t)| t.map(|t| (i, t))).min_by_key(|(i, t)| (*t, *i))?;
        match which {
            0 => self.imu.next().map(Record::Imu),
            1 => self.gnss.next().map(Record::Gnss),
            2 => self.can.next().map(Record::Can),
            _ => self.frames.next().map(|(m, b)| Record::Frame(m, b)),
        }
    }
}

/// The event as JSON: what the alert cannot carry.
pub(crate) fn describe(view: &EvidenceView<'_>) -> Value {
    let event = view.event();
    let alignment = view.alignment();
    json!({
        "event": event.id.to_string(),
        "kind": event.kind,
        "severity": event.severity,
        "time_zero_ns": event.t_zero.0,
        "complete": event.complete,
        "impacts": event.impacts.iter().map(|i| json!({
            "time_zero_ns": i.t_zero.0,
            "delta_v_mps": i.delta_v_mps,
            "axes_known": i.axes_known,
            "max_delta_v_mps": i.max_delta_v_mps,
            "max_delta_v_at_ns": i.max_delta_v_at.0,
            "peak_mps2": i.peak_mps2,
            "clipped": i.clipped,
        })).collect::<Vec<_>>(),
        "max_vision_risk": event.max_risk,
        "objects": event.objects.iter().map(|o| json!({
            "track": o.track,
            "class": format!("{:?}", o.class).to_lowercase(),
            "box": [o.bbox.x, o.bbox.y, o.bbox.w, o.bbox.h],
            "distance_m": o.distance_m,
            "flow_per_s": o.flow_per_s,
            "closing_mps": o.closing_mps,
            "ttc_s": o.ttc_s,
        })).collect::<Vec<_>>(),
        "alignment": {
            "vehicle_from_sensor": alignment.vehicle_from_sensor,
            "up_known": alignment.up_known,
            "forward_known": alignment.forward_known,
            "confidence": alignment.confidence,
        },
        "wall_clock_steps": view.wall_steps().map(|s| json!({
            "at_ns": s.t.0, "from": s.from, "to": s.to, "moved_ms": s.moved_ms,
        })).collect::<Vec<_>>(),
    })
}

/// The whole event data table, Part 563-style.
fn edr_json(view: &EvidenceView<'_>) -> Value {
    let table = view.edr();
    json!({
        "note": "Part 563-style; not a certified event data recorder",
        "delta_v": table.delta_v.iter().map(|r| json!({
            "at_ms": r.at_ms, "longitudinal_kmh": r.delta_v_kmh[0], "lateral_kmh": r.delta_v_kmh[1],
        })).collect::<Vec<_>>(),
        "pre_crash": table.pre_crash.iter().map(|r| json!({
            "at_ms": r.at_ms,
            "speed_kmh": r.row.speed_mps.map(|(v, _)| v * agent_core::fusion::KMH_PER_MPS),
            "speed_source": r.row.speed_mps.map(|(_, bus)| if bus { "bus" } else { "gnss" }),
            "brake": r.row.brake,
            "accelerator_pct": r.row.accelerator_pct,
            "engine_rpm": r.row.engine_rpm,
            "steering_deg": r.row.steering_deg,
            "abs": r.row.abs,
            "esc": r.row.esc,
        })).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use agent_disk::RealDisk;

    use super::*;

    #[test]
    fn the_oldest_lesser_evidence_goes_first_and_that_of_crashes_never() {
        let folder = tempfile::tempdir().unwrap();
        let lesser = folder.path().join(LESSER);
        std::fs::create_dir(&lesser).unwrap();
        std::fs::write(folder.path().join("u_00000001_000001.mcap"), [0; 600]).unwrap();
        for seq in 2..6 {
            std::fs::write(lesser.join(format!("u_00000001_00000{seq}.mcap")), [0; 100]).unwrap();
        }
        assert_eq!(make_room(&RealDisk, folder.path(), 1000, 0), (0, true));
        assert_eq!(make_room(&RealDisk, folder.path(), 1000, 150), (2, true));
        assert!(!lesser.join("u_00000001_000003.mcap").exists() && lesser.join("u_00000001_000004.mcap").exists());
        assert_eq!(make_room(&RealDisk, folder.path(), 500, 100), (2, false));
        assert!(folder.path().join("u_00000001_000001.mcap").exists());
        assert_eq!(make_room(&RealDisk, &folder.path().join("absent"), 10, 5), (0, true));
    }
}
