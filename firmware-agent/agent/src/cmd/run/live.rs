//! The unit's own camera in `run`: opened by the configuration, heard by the core.

use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::SystemTime;

use super::{Inbox, Owned};
use crate::config::Config;
use crate::exit::bad_config;
use crate::io::camera::Camera;
use crate::io::camera::source::News;

/// The configured camera, which need not be there yet.
pub(super) fn open_camera(config: &Config) -> anyhow::Result<Box<dyn Camera + Send>> {
    let bad = |why: String| bad_config(why);
    match crate::io::camera::make::camera(config) {
        Ok(Some(camera)) => Ok(camera),
        Ok(None) => Err(bad("sources.kind is device, and sources.camera.kind is none: there is no source".to_owned())),
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
