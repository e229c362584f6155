//! The unit's own sensors in `run`: opened by the configuration, heard by the core.

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::{Instant, SystemTime};

use agent_worker::pulse::Pulse;

use super::{Inbox, Owned, watch};
use crate::config::Config;
use crate::config::gnss::GnssKind;
use crate::exit::bad_config;
use crate::io::camera::Camera;
use crate::io::camera::source::News;
use crate::io::gnss;

/// The configured camera, which need not be there yet; none where the unit has other sensors.
pub(super) fn open_camera(config: &Config) -> anyhow::Result<Option<Box<dyn Camera + Send>>> {
    let bad = |why: String| bad_config(why);
    match crate::io::camera::make::camera(config) {
        Ok(None) if config.sources.gnss.kind == GnssKind::None => Err(bad(
            "sources.kind is device, and sources.camera.kind and sources.gnss.kind are none: there is no source"
                .to_owned(),
        )),
        Ok(camera) => Ok(camera),
        Err(why) => Err(bad(why)),
    }
}

/// Hands what the camera says to the core; false when it is gone. A frame never waits: what finds the inbox full is a gap
/// in the sequence, which the core counts, and its buffer goes back.
pub(super) fn tell(inbox: &SyncSender<Inbox>, give_back: &SyncSender<Vec<u8>>, news: News) -> bool {
    let born = SystemTime::now();
    let message = match news {
        News::Frame(meta, bytes) => {
            let Err(refused) = inbox.try_send(Inbox::Record(Owned::Frame(meta, bytes), born)) else { return true };
            let (TrySendError::Full(message) | TrySendError::Disconnected(message)) = refused;
            if let Inbox::Record(Owned::Frame(_, bytes), _) = message {
                let _ = give_back.try_send(bytes);
            }
            return false;
        }
        News::Seen(t, aspect, detections) => Inbox::Seen { t, aspect, detections, born },
        News::Unseen(frames) => Inbox::Unseen(frames),
        News::Ended => Inbox::End,
        other => Inbox::Camera(other),
    };
    inbox.send(message).is_ok()
}

/// The receiver's thread. It never waits for the core: what finds the inbox full is lost, and told with the next news.
pub(super) fn receiver(config: &Config, stop: &AtomicBool, pulse: &Pulse, inbox: &SyncSender<Inbox>) {
    let settings = &config.sources.gnss;
    let device = settings.device.as_deref().map(|d| config.resolve(d)).unwrap_or_default();
    let mut lost = 0_u32;
    let mut tell = |news: gnss::News| {
        if lost > 0 && inbox.try_send(Inbox::Gnss(gnss::News::Lost(lost))).is_ok() {
            lost = 0;
        }
        let counts = matches!(news, gnss::News::Fix(_));
        match inbox.try_send(Inbox::Gnss(news)) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                lost += u32::from(counts);
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    };
    gnss::run(settings, &device, stop, &|| pulse.busy(Instant::now(), watch::GNSS), &mut tell);
    pulse.idle();
}
