//! `simulate --batch`: short clips of many seeds, for training. No video is encoded.
//!
//! Each shard is four files with one entry per clip, in the order of their seeds:
//!
//! | file | type | shape | content |
//! |---|---|---|---|
//! | `shard-00000.frames.npy` | u8 | clips, frames, height, width, 3 | pictures, rows from the top, RGB |
//! | `shard-00000.imu.npy` | f32 | clips, samples, 6 | acceleration (m/s^2) and turn rate (rad/s), sensor axes |
//! | `shard-00000.bus.npy` | f32 | clips, frames, 7 | at each frame: speed by the bus (m/s), brake (0, 1), steering wheel (degrees), yaw rate (degrees/s), pedal (%), speed by GNSS (m/s), its age (s, 99: none) |
//! | `shard-00000.jsonl` | | one line a clip | the drive's truth, with `clip`: begin and length (s), frame times from the begin, and boxes |
//!
//! Times in a truth count from the begin of its drive; subtract `clip.begin_s`. `manifest.json` says what was asked for.
//! A shard is what its seeds make it, whatever the number of jobs.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use agent_sim::SimRecord;
use agent_sim::rng::Rng;
use agent_sim::world::truth::{FrameTruth, Split, split_of};
use agent_sim::world::{DriveOptions, Next, Scenario, WorldDrive, scenario_of};
use anyhow::Context as _;
use serde::Serialize;
use serde_json::json;

use super::{camera, picture, scenario};
use crate::cli::SimulateArgs;
use crate::exit::{Outcome, usage};
use crate::show::{put, say};

/// Most bytes of pictures in a shard, seeds in a run, threads.
const SHARD_BYTES: usize = 512 << 20;
const SEEDS: u64 = 10_000_000;
const JOBS: usize = 64;
/// Values of the bus per frame.
const BUS: usize = 7;

/// What one run makes.
struct Batch {
    options: DriveOptions,
    named: Vec<Scenario>,
    frames: usize,
    clip_s: f64,
    fps: f64,
    out: std::path::PathBuf,
}

/// The clip of one seed.
struct Clip {
    frames: Vec<u8>,
    imu: Vec<f32>,
    bus: Vec<f32>,
    line: String,
}

#[derive(Serialize)]
struct ClipInfo<'a> {
    begin_s: f64,
    length_s: f64,
    frame_times_s: &'a [f64],
    frames: &'a [FrameTruth],
}

pub(super) fn run(args: &SimulateArgs, options: DriveOptions) -> anyhow::Result<Outcome> {
    let Some(out) = &args.out else { return Err(usage("--out DIR is needed")) };
    let (from, to) = seeds(args.seeds.as_deref().unwrap_or(""))?;
    let split = match args.split.as_deref() {
        None => None,
        Some("train") => Some(Split::Train),
        Some("validation") => Some(Split::Validation),
        Some("test") => Some(Split::Test),
        Some(other) => return Err(usage(format!("--split {other} is none of train, validation, test"))),
    };
    if !(1.0..=60.0).contains(&args.clip_s) || options.fps * args.clip_s < 1.0 {
        return Err(usage("--clip-s is 1 to 60 s and holds at least one frame"));
    }
    let frames = (options.fps * args.clip_s).floor() as usize;
    let bytes = frames * options.size[0] * options.size[1] * 3;
    let (per_shard, jobs) = (args.per_shard.max(1), args.jobs.clamp(1, JOBS));
    if bytes * per_shard > SHARD_BYTES {
        return Err(usage(format!(
            "{per_shard} clips of {bytes} bytes are more than {SHARD_BYTES}: lower --per-shard"
        )));
    }
    std::fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
    let named = args.scenario.iter().map(|n| scenario(n)).collect::<anyhow::Result<Vec<_>>>()?;
    let batch = Batch {
        options: DriveOptions { fps: 0.0, ..options },
        named,
        frames,
        clip_s: args.clip_s,
        fps: options.fps,
        out: out.clone(),
    };
    let wanted: Vec<u64> = (from..to).filter(|s| split.is_none_or(|w| split_of(*s) == w)).collect();
    let shards: Vec<&[u64]> = wanted.chunks(per_shard).collect();
    let (done, failed) = work(&batch, &shards, jobs)?;
    let manifest = json!({
        "format": "firmware-agent simulated clips 1", "simulated": true,
        "seeds": [from, to], "split": args.split, "scenarios": args.scenario, "shards": shards.len(),
        "clips": done, "seeds_without_a_draw": failed, "width": options.size[0], "height": options.size[1],
        "fps": options.fps, "frames": frames, "clip_s": args.clip_s, "imu_hz": options.imu_hz,
        "imu": ["ax", "ay", "az", "gx", "gy", "gz"],
        "bus": ["speed_mps", "brake", "steering_deg", "yaw_dps", "pedal_pct", "gnss_mps", "gnss_age_s"],
    });
    std::fs::write(out.join("manifest.json"), serde_json::to_string_pretty(&manifest)? + "\n")?;
    put!("{}", json!({"out": out, "shards": shards.len(), "clips": done, "seeds_without_a_draw": failed}))?;
    Ok(if failed > 0 { Outcome::Loss } else { Outcome::Done })
}

/// `A..B`, B left out.
fn seeds(text: &str) -> anyhow::Result<(u64, u64)> {
    let parsed = text.split_once("..").and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    match parsed {
        Some((from, to)) if from < to && to - from <= SEEDS => Ok((from, to)),
        _ => Err(usage(format!("--seeds {text} is not A..B with A below B and at most {SEEDS} seeds"))),
    }
}

/// Makes the shards on some threads; counts clips, and seeds of which no draw ended as meant.
fn work(batch: &Batch, shards: &[&[u64]], jobs: usize) -> anyhow::Result<(usize, usize)> {
    let next = AtomicUsize::new(0);
    let one = || -> anyhow::Result<(usize, usize)> {
        let (mut done, mut failed) = (0, 0);
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(seeds) = shards.get(index) else { return Ok((done, failed)) };
            let mut clips = Vec::with_capacity(seeds.len());
            for seed in *seeds {
                match clip(batch, *seed) {
                    Ok(clip) => clips.push(clip),
                    Err(error) => {
                        failed += 1;
                        say!("{error:#}");
                    }
                }
            }
            done += clips.len();
            write_shard(batch, index, &clips)?;
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(one)).collect();
        threads.into_iter().try_fold((0, 0), |(done, failed), thread| {
            let (d, f) = thread.join().map_err(|_| anyhow::anyhow!("a worker thread ended abruptly"))??;
            Ok((done + d, failed + f))
        })
    })
}

/// What a sensor said last.
#[derive(Default)]
struct Last {
    bus: [f32; BUS],
    fix: Option<f64>,
}

impl Last {
    fn take(&mut self, record: &SimRecord<'_>) {
        match record {
            SimRecord::Can(frame) => {
                let word = |at: usize| i16::from_le_bytes([frame.data[at], frame.data[at + 1]]);
                match frame.id {
                    0x100 => self.bus[0] = f32::from(word(0) as u16) * 0.01 / 3.6,
                    0x110 => self.bus[1] = f32::from(word(0) & 1),
                    0x120 => (self.bus[2], self.bus[3]) = (f32::from(word(0)) * 0.1, f32::from(word(2)) * 0.01),
                    0x130 => self.bus[4] = f32::from(word(2)) * 0.1,
                    _ => {}
                }
            }
            SimRecord::Gnss(fix) => {
                self.bus[5] = fix.speed_mps;
                self.fix = Some(fix.t.as_s());
            }
            _ => {}
        }
    }

    fn at(&self, now: f64) -> [f32; BUS] {
        let mut out = self.bus;
        out[6] = self.fix.map_or(99.0, |t| (now - t) as f32);
        out
    }
}

fn clip(batch: &Batch, seed: u64) -> anyhow::Result<Clip> {
    let built_in;
    let scenario = match batch.named.len() {
        0 => {
            built_in = scenario(scenario_of(seed))?;
            &built_in
        }
        n => batch.named.get(Rng::new(seed, 200).next_u64() as usize % n).context("no scenario")?,
    };
    let mut sim = WorldDrive::new(scenario, seed, batch.options)?;
    let length = sim.length_ms() as f64 * 1e-3;
    anyhow::ensure!(length >= batch.clip_s, "seed {seed}: its drive of {length:.1} s is shorter than a clip");
    let begin = begin(&sim, seed, batch.clip_s, length);
    let times: Vec<f64> = (0..batch.frames).map(|k| k as f64 / batch.fps).collect();
    let due = |k: usize| times.get(k).map(|t| ((begin + t) * 1000.0).round() as usize);
    let (first, last) = ((begin * 1000.0).round() as usize, ((begin + batch.clip_s) * 1000.0).round() as usize);
    let (mut imu, mut bus, mut now) = (Vec::new(), Vec::new(), Last::default());
    let mut frame = 0;
    while let Some(next) = sim.next_due() {
        let Next::Record(record) = next else { continue };
        let ms = (record.t().0 / 1_000_000) as usize;
        while due(frame).is_some_and(|at| ms >= at) {
            bus.extend(now.at(ms as f64 * 1e-3));
            frame += 1;
        }
        now.take(&record);
        if let SimRecord::Imu(s) = record
            && (first..last).contains(&ms)
        {
            imu.extend(s.accel_mps2.into_iter().chain(s.gyro_rps));
        }
        if ms > last + 20 {
            break;
        }
    }
    bus.resize(batch.frames * BUS, 0.0);
    imu.resize((batch.clip_s * batch.options.imu_hz as f64).round() as usize * 6, 0.0);
    let [width, height] = batch.options.size;
    let mut camera = camera(&sim, [width, height]);
    let (mut frames, mut boxes) = (vec![0; batch.frames * width * height * 3], Vec::new());
    let mut truths = Vec::with_capacity(batch.frames);
    for (k, rgb) in frames.chunks_exact_mut(width * height * 3).enumerate() {
        let Some(ms) = due(k) else { break };
        truths.push(picture(&mut sim, &mut camera, ms, rgb, &mut boxes));
    }
    let info = ClipInfo { begin_s: begin, length_s: batch.clip_s, frame_times_s: &times, frames: &truths };
    let line = serde_json::to_string(&json!({"drive": sim.truth(), "clip": info}))?;
    Ok(Clip { frames, imu, bus, line })
}

/// Where the clip begins: so that an event lies in its second half, anywhere in a drive without one.
fn begin(sim: &WorldDrive, seed: u64, clip_s: f64, length: f64) -> f64 {
    let mut rng = Rng::new(seed, 201);
    let latest = length - clip_s;
    let wanted = match &sim.truth().event {
        Some(event) => event.contact_s - clip_s * rng.between(0.45, 0.85),
        None => latest * rng.unit(),
    };
    // Whole hundredths, so that samples and frames fall on the grid.
    (wanted.clamp(0.0, latest) * 100.0).floor() / 100.0
}

fn write_shard(batch: &Batch, index: usize, clips: &[Clip]) -> anyhow::Result<()> {
    let [width, height] = batch.options.size;
    let path = |kind: &str| batch.out.join(format!("shard-{index:05}.{kind}"));
    let n = clips.len();
    let samples = clips.first().map_or(0, |c| c.imu.len() / 6);
    let bytes = |v: &[f32]| v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    npy(&path("frames.npy"), "|u1", &[n, batch.frames, height, width, 3], clips.iter().map(|c| c.frames.clone()))?;
    npy(&path("imu.npy"), "<f4", &[n, samples, 6], clips.iter().map(|c| bytes(&c.imu)))?;
    npy(&path("bus.npy"), "<f4", &[n, batch.frames, BUS], clips.iter().map(|c| bytes(&c.bus)))?;
    let mut lines = BufWriter::new(File::create(path("jsonl"))?);
    for clip in clips {
        lines.write_all(clip.line.as_bytes())?;
        lines.write_all(b"\n")?;
    }
    lines.flush()?;
    Ok(())
}

/// An array in NumPy's format, version 1.0: magic, header padded to 64 bytes, data in C order.
fn npy(path: &Path, kind: &str, shape: &[usize], parts: impl Iterator<Item = Vec<u8>>) -> anyhow::Result<()> {
    let sides: Vec<String> = shape.iter().map(ToString::to_string).collect();
    let mut header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({},), }}", sides.join(", "));
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let file = File::create(path).with_context(|| format!("making {}", path.display()))?;
    let mut out = BufWriter::new(file);
    out.write_all(b"\x93NUMPY\x01\x00")?;
    out.write_all(&(header.len() as u16).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    for part in parts {
        out.write_all(&part)?;
    }
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_ranges_are_read_and_bounded() {
        assert_eq!(seeds("3..9").unwrap(), (3, 9));
        for bad in ["", "3", "9..3", "3..3", "a..b", "0..99999999999"] {
            assert!(seeds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn arrays_have_numpys_header() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        npy(&path, "|u1", &[2, 3], [vec![1, 2, 3], vec![4, 5, 6]].into_iter()).unwrap();
        let bytes = std::fs::read(path).unwrap();
        let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        assert_eq!((10 + length) % 64, 0);
        assert!(std::str::from_utf8(&bytes[10..10 + length]).unwrap().contains("'shape': (2, 3,)"));
        assert_eq!(&bytes[10 + length..], [1, 2, 3, 4, 5, 6]);
    }
}
