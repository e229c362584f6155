//! The eyes of `run` while it plays drives: frames decoded and scored. A live camera has a thread of its own for that.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError};
use std::time::{Instant, SystemTime};

use agent_core::agent::Lost;
use agent_core::samples::FrameMeta;
use agent_core::time::MonoTime;
use agent_core::vision::Detections;
use agent_drive::VideoDecoder;
use agent_models::Detector;
use agent_worker::pulse::Pulse;

use super::{Core, Inbox, Shown, watch};
use crate::pipeline::SMALL_WIDTH;
use crate::show::say;

/// Decodes every frame and scores every n-th.
pub(super) fn eyes(
    mut detector: Detector,
    every_nth: u64,
    frames: &Receiver<Shown>,
    inbox: &SyncSender<Inbox>,
    pool: &SyncSender<Vec<u8>>,
    pulse: &Pulse,
) {
    let mut decoder: Option<VideoDecoder> = None;
    let (mut next_seq, mut waits_for_key, mut said) = (None, false, false);
    while let Ok((meta, bytes, born)) = frames.recv() {
        pulse.busy(Instant::now(), watch::LOOK);
        // After a frame that never came here, the decoder would show rubbish until the next key frame.
        waits_for_key = !meta.key && (waits_for_key || next_seq.is_some_and(|n| n != meta.seq));
        next_seq = Some(meta.seq + 1);
        let message = if waits_for_key {
            Inbox::Unseen(1)
        } else {
            match look(&mut detector, &mut decoder, every_nth.max(1), &meta, &bytes) {
                Ok(None) => {
                    pulse.idle();
                    let _ = pool.try_send(bytes);
                    continue;
                }
                Ok(Some((t, aspect, detections))) => Inbox::Seen { t, aspect, detections: Box::new(detections), born },
                Err(error) => {
                    if !std::mem::replace(&mut said, true) {
                        say!("frame {} at {} could not be looked at: {error:#}", meta.seq, meta.t);
                    }
                    Inbox::Unseen(1)
                }
            }
        };
        pulse.idle();
        // The pool has room for every buffer that exists.
        let _ = pool.try_send(bytes);
        if inbox.send(message).is_err() {
            return;
        }
    }
}

fn look(
    detector: &mut Detector,
    decoder: &mut Option<VideoDecoder>,
    every_nth: u64,
    meta: &FrameMeta,
    bytes: &[u8],
) -> anyhow::Result<Option<(MonoTime, f32, Detections)>> {
    let decoder = match decoder {
        Some(decoder) => decoder,
        None => decoder.insert(VideoDecoder::new(meta.codec, SMALL_WIDTH)?),
    };
    let Some(small) = decoder.decode(meta, bytes)? else { return Ok(None) };
    if !meta.seq.is_multiple_of(every_nth) {
        return Ok(None);
    }
    let aspect = f32::from(small.width) / f32::from(small.height.max(1));
    let found = detector.detect(small.width.into(), small.height.into(), small.rgb)?;
    Ok(Some((small.meta.t, aspect, found.clone())))
}

impl Core {
    /// Hands a frame to the eyes, or back to the pool when they are behind.
    pub(super) fn show_frame(&mut self, meta: FrameMeta, bytes: Vec<u8>, born: Option<SystemTime>) {
        let bytes = match &self.to_eyes {
            None => bytes,
            Some(eyes) => match eyes.try_send((meta, bytes, born)) {
                Ok(()) => return,
                Err(TrySendError::Full((_, bytes, _)) | TrySendError::Disconnected((_, bytes, _))) => {
                    self.agent.on_loss(Lost::UnseenFrames, 1);
                    self.unseen += 1;
                    if self.unseen == 1 {
                        say!("the trigger model is behind: frames go unseen, counted in each message");
                    }
                    bytes
                }
            },
        };
        let _ = self.give_back.try_send(bytes);
    }
}
