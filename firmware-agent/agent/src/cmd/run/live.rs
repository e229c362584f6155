//! The unit's own sensors in `run`: opened by the configuration, heard by the core.

use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::{Instant, SystemTime};

use agent_core::agent::Lost;
use agent_drive::{DriveRecord, IdFilter, SignalMap};
use agent_worker::pulse::Pulse;

use super::{Core, Inbox, Owned, watch};
use crate::config::Config;
use crate::config::gnss::GnssKind;
use crate::exit::bad_config;
use crate::io::camera::Camera;
use crate::io::camera::source::News;
use crate::io::{can, gnss};
use crate::show::say;

/// The configured camera, which need not be there yet; none where the unit has other sensors.
pub(super) fn open_camera(config: &Config) -> anyhow::Result<Option<Box<dyn Camera + Send>>> {
    let bad = |why: String| bad_config(why);
    match crate::io::camera::make::camera(config) {
        Ok(None) if config.sources.gnss.kind == GnssKind::None && config.sources.can.interfaces.is_empty() => Err(bad(
            "sources.kind is device, sources.camera.kind and sources.gnss.kind are none, and sources.can.interfaces is \
             empty: there is no source"
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
    let beat = || pulse.busy(Instant::now(), watch::GNSS);
    gnss::run(&config.sources.gnss, &config.gnss_device(), stop, &beat, &mut tell);
    pulse.idle();
}

/// What the kernel lets through of the buses: everything, or what is mapped and what the configuration names.
pub(super) fn can_filters(config: &Config, signals: Option<&SignalMap>) -> anyhow::Result<Option<Vec<IdFilter>>> {
    let settings = &config.sources.can;
    if settings.record_all || settings.interfaces.is_empty() {
        return Ok(None);
    }
    let mut filters = signals.map(SignalMap::filters).unwrap_or_default();
    for filter in &settings.filters {
        if !filters.contains(filter) {
            filters.push(*filter);
        }
    }
    if filters.is_empty() {
        return Err(bad_config(
            "sources.can.record_all is false, and neither [can.signals], [[trigger.signals]] nor sources.can.filters names \
             anything: nothing would be heard",
        ));
    }
    Ok(Some(filters))
}

/// The thread of the CAN buses. It never waits for the core either.
pub(super) fn buses(
    config: &Config,
    filters: Option<&[IdFilter]>,
    stop: &AtomicBool,
    pulse: &Pulse,
    inbox: &SyncSender<Inbox>,
) {
    let mut tell = |news: can::News| {
        let message = match news {
            can::News::Frame(frame) => Inbox::Record(Owned::Sample(DriveRecord::Can(frame)), SystemTime::now()),
            other => Inbox::Can(other),
        };
        match inbox.try_send(message) {
            Ok(()) => can::Told::Taken,
            Err(TrySendError::Full(_)) => can::Told::Full,
            Err(TrySendError::Disconnected(_)) => can::Told::Gone,
        }
    };
    let beat = || pulse.busy(Instant::now(), watch::CAN);
    for bus in can::run(&config.sources.can.interfaces, filters, stop, &beat, &mut tell) {
        say!("{bus}");
    }
    pulse.idle();
}

impl Core {
    pub(super) fn receiver(&mut self, news: &gnss::News) {
        match news {
            gnss::News::Fix(fix) => self.agent.on_gnss(fix),
            gnss::News::Lost(fixes) => self.agent.on_loss(Lost::Gnss, *fixes),
            gnss::News::Said(what) => say!("{what}"),
        }
    }

    pub(super) fn buses(&mut self, news: &can::News) {
        match news {
            can::News::Lost(frames) => self.agent.on_loss(Lost::Can, *frames),
            can::News::Said(what) => say!("{what}"),
            // Frames come as records.
            can::News::Frame(_) => {}
        }
    }

    pub(super) fn camera(&mut self, news: News) {
        match news {
            News::Lost(frames) => self.agent.on_loss(Lost::Frames, frames),
            News::State(state, why) => say!("camera {}: {why}", state.name()),
            News::Said(what) => say!("{what}"),
            News::Frame(..) | News::Seen(..) | News::Unseen(_) | News::Ended => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_lets_through_is_everything_or_what_is_mapped_and_named() {
        let of = |text: &str| {
            let config = crate::config::load_str("unit.toml", text).unwrap();
            let dbc = "VERSION \"\"\n\nNS_ :\n\nBS_:\n\nBU_: A\n\nBO_ 291 M: 8 A\n SG_ S : 0|8@1+ (1,0) [0|0] \"\" A\n";
            let signals = config.can.dbc.as_ref().map(|_| crate::convert::map_signals(dbc, &config).unwrap());
            let filters = can_filters(&config, signals.as_ref()).map_err(|e| e.to_string())?;
            Ok::<_, String>(filters.map(|list| list.iter().map(ToString::to_string).collect::<Vec<_>>()))
        };
        let bus = "[sources.can]\ninterfaces = [\"can0\"]\n";
        assert_eq!(of(bus), Ok(None));
        let dbc = "[can]\ndbc = \"car.dbc\"\n";
        let mapped =
            format!("{dbc}[can.signals]\nspeed = \"M.S\"\n{bus}record_all = false\nfilters = [\"123\", \"7E8\"]\n");
        assert_eq!(of(&mapped), Ok(Some(vec!["123:7FF".to_owned(), "7E8:7FF".to_owned()])));
        let nothing = of(&format!("{dbc}{bus}record_all = false\n")).unwrap_err();
        assert!(nothing.contains("nothing would be heard"), "{nothing}");
    }

    #[test]
    fn buses_alone_are_a_source() {
        let open = |text: &str| {
            let config = crate::config::load_str("unit.toml", text).unwrap();
            open_camera(&config).map(|camera| camera.is_none()).map_err(|e| e.to_string())
        };
        assert!(open("[sources]\nkind = \"device\"\n").unwrap_err().contains("there is no source"));
        assert_eq!(open("[sources]\nkind = \"device\"\n[sources.can]\ninterfaces = [\"can0\"]\n"), Ok(true));
    }
}
