//! `demo`: the main job on embedded defaults. A synthetic drive with a crash is made, replayed through the pipeline,
//! published over an embedded broker on loopback (or another), received by the fleet side and shown.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agent_drive::{CameraInfo, DriveInfo, DriveWriter};
use agent_link::{Broker, ListenConfig, Listener};
use agent_sim::{DemoDrive, SimRecord};
use agent_wire::Message;
use anyhow::Context as _;

use crate::builtin;
use crate::cli::{DemoArgs, ReplayArgs};
use crate::cmd::{listen, replay};
use crate::exit::{Outcome, usage};
use crate::show::{put, say};
use crate::store_page::{jpeg, jpeg_meta};

/// How long to wait for the messages at the end.
const RECEIVE: Duration = Duration::from_secs(10);
/// Configuration of the demo: the bundled bus description's signals.
const CONFIG: &str = include_str!("demo.toml");

pub(crate) fn demo(args: &DemoArgs) -> anyhow::Result<Outcome> {
    std::fs::create_dir_all(&args.out).with_context(|| format!("making {}", args.out.display()))?;
    let url = match &args.broker {
        Some(url) => url.clone(),
        None => embedded_broker()?,
    };
    let broker = Broker::parse(&url).map_err(|e| usage(format!("--broker: {e}")))?;
    let shown = broker.to_string();
    let listener = Listener::start(ListenConfig::new(broker, "demo-fleet"))?;
    if !listener.wait_subscribed(RECEIVE) {
        anyhow::bail!("the broker does not answer on {shown}");
    }
    let drive = args.out.join("demo.mcap");
    say!("synthetic drive (simulated sensors, drawn frames), seed {}: {}", args.seed, drive.display());
    let truth = make_drive(&drive, args.seed)?;
    say!("the truth: {truth}");
    let config = args.out.join("demo.toml");
    std::fs::write(&config, CONFIG)?;
    std::fs::write(args.out.join("demo.dbc"), agent_sim::DEMO_DBC)?;
    // An outbox of an earlier demo would deliver its messages first.
    let _ = std::fs::remove_file(args.out.join("outbox.redb"));
    let student = student(args);
    let replayed = ReplayArgs {
        drives: vec![drive],
        out: args.out.clone(),
        config: Some(config),
        broker: Some(url.clone()),
        realtime: false,
        trigger: None,
        onnx: None,
        dbc: None,
        student: Some(student.clone()),
        no_telemetry: false,
        signal: Vec::new(),
        risk_log: false,
        no_evidence: false,
    };
    say!("the trigger model that ships looks at every frame, the telemetry trigger at every sample");
    if student == Path::new("none") {
        say!("no student: the report says so");
    } else if student == Path::new(builtin::WORD) {
        say!("the student that ships was trained on simulated roads only: of real ones its answers say nothing");
    }
    let done = replay::replay_to(&replayed)?;
    let (mut alerts, mut reports) = (0, 0);
    let books = done.books;
    let until = Instant::now() + RECEIVE;
    put!("received at the fleet side over {shown}:")?;
    while Instant::now() < until {
        let Some(received) = listener.recv(Duration::from_millis(300)) else {
            if reports > 0 {
                break;
            }
            continue;
        };
        match &received.message {
            Ok(Message::Alert(_)) => alerts += 1,
            Ok(Message::Report(_)) => reports += 1,
            _ => {}
        }
        listen::show(&received, false, &books)?;
        if let Ok(message @ (Message::Alert(_) | Message::Report(_))) = &received.message {
            put!("{}", serde_json::to_string_pretty(message)?)?;
        }
    }
    for page in &done.pages {
        put!("event page: {}", page.display())?;
    }
    if alerts == 0 || reports == 0 {
        say!("{alerts} alerts and {reports} reports arrived: the demo did not do its job");
        return Ok(Outcome::Failed);
    }
    Ok(done.outcome)
}

/// The student that is asked: the one named, else the one that ships where it is found.
fn student(args: &DemoArgs) -> PathBuf {
    let shipped = || if builtin::find(builtin::STUDENT).is_some() { builtin::WORD } else { "none" };
    args.student.clone().unwrap_or_else(|| PathBuf::from(shipped()))
}

/// Writes the synthetic drive; returns what really happens in it, in words.
pub(crate) fn make_drive(path: &std::path::Path, seed: u64) -> anyhow::Result<String> {
    let mut sim = DemoDrive::new(seed);
    let [width, height] = [agent_sim::limits::FRAME_WIDTH, agent_sim::limits::FRAME_HEIGHT].map(|n| n as u16);
    let info = DriveInfo {
        simulated: true,
        synthetic: true,
        camera: Some(CameraInfo { width, height, fps: 12.5, ..CameraInfo::default() }),
        importer: concat!("firmware-agent ", env!("CARGO_PKG_VERSION")).to_owned(),
        ..DriveInfo::new(format!("synthetic demo drive, seed {seed}"))
    };
    let mut writer = DriveWriter::create(path, &info)?;
    while let Some(record) = sim.next_record() {
        match record {
            SimRecord::Imu(s) => writer.write_imu(&s)?,
            SimRecord::Gnss(f) => writer.write_gnss(&f)?,
            SimRecord::Can(f) => writer.write_can(&f)?,
            SimRecord::Frame { t, seq, width, height, rgb } => {
                let meta = jpeg_meta(t, seq, width, height);
                let bytes = jpeg(rgb, meta.size[0], meta.size[1]).context("a drawn frame does not encode")?;
                writer.write_frame(&meta, &bytes)?;
            }
        }
    }
    writer.finish()?;
    let truth = sim.truth();
    let [along, across] = truth.recorder_delta_v_mps.map(|v| v * 3.6);
    Ok(format!(
        "contact at {:.3} s at {:.1} km/h, time zero {:.3} s, delta-V {along:.1} km/h along and {across:.1} across over \
         {} ms",
        truth.contact.as_s(),
        truth.speed_at_contact_mps * 3.6,
        truth.time_zero.as_s(),
        truth.pulse_ms
    ))
}

/// An MQTT broker inside this process, on a free loopback port; gives its address.
#[cfg(feature = "broker")]
fn embedded_broker() -> anyhow::Result<String> {
    use std::net::{Ipv4Addr, SocketAddr, TcpListener};

    // The port is free now; the broker binds it a moment later.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let connections = rumqttd::ConnectionSettings {
        connection_timeout_ms: 10_000,
        max_payload_size: 16 << 10,
        max_inflight_count: 100,
        auth: None,
        external_auth: None,
        dynamic_filters: true,
    };
    let server = rumqttd::ServerSettings {
        name: "demo".to_owned(),
        listen,
        tls: None,
        next_connection_delay_ms: 1,
        connections,
    };
    let config = rumqttd::Config {
        router: rumqttd::RouterConfig {
            max_connections: 10,
            max_outgoing_packet_count: 200,
            max_segment_size: 1 << 20,
            max_segment_count: 4,
            ..rumqttd::RouterConfig::default()
        },
        v4: Some(std::iter::once(("demo".to_owned(), server)).collect()),
        ..rumqttd::Config::default()
    };
    let mut broker = rumqttd::Broker::new(config);
    std::thread::Builder::new().name("broker".to_owned()).spawn(move || {
        if let Err(error) = broker.start() {
            say!("the embedded broker ended: {error}");
        }
    })?;
    Ok(format!("mqtt://127.0.0.1:{port}"))
}

/// There is none in this program.
#[cfg(not(feature = "broker"))]
fn embedded_broker() -> anyhow::Result<String> {
    Err(usage("this program is built without the broker of the demo: name one by --broker mqtt://HOST[:PORT]"))
}
