//! The CAN buses: frames of classic CAN and CAN FD from the kernel's sockets.
//!
//! Terms: an *interface* is what the kernel calls a bus (`can0`); its *number* is its place in the configuration. An *error
//! frame* is no frame of the bus but the controller's word of what went wrong; *bus-off* is its last: it takes no more part in
//! the bus until it is restarted. One thread hears all buses, so that their frames reach the core in the order of their
//! stamps; it never waits for the core. Nothing is sent but OBD-II requests, where the configuration wants them.
//!
//! | what happens | then |
//! |---|---|
//! | an interface is missing, down or taken away | said once; opened again after 0.25 s, 0.5 s, ... up to 30 s; said when it is back |
//! | error frames | counted by kind; said when they begin and, with their number, when there were none for 10 s |
//! | bus-off | said once, and again when the bus is back |
//! | the core takes no frame, or the kernel had no room | counted as lost, told with the next news |
//!
//! A frame's time is that of the kernel's stamp, taken when the controller's interrupt was served. The stamp is of the wall
//! clock. It is not mapped by [`crate::io::camera::clock::ClockMap`], which guesses the offset of a clock that cannot be read
//! and would follow a step back of the wall clock by 100 ppm: both clocks are read beside each frame, and the stamp's age by
//! the wall clock is taken off the monotonic time. A stamp of no believable age is replaced by the arrival.

mod errors;
mod keeper;
mod kernel;
mod many;
#[cfg(test)]
mod tests;

use std::sync::atomic::AtomicBool;

use agent_core::samples::CanFrame;
use agent_drive::IdFilter;

use crate::config::can::CanBusConfig;
use crate::io::news::Told;

pub(crate) use errors::ErrorCounts;

/// What the buses say: frames, and words about them.
pub(crate) type News = crate::io::news::News<CanFrame>;

/// OBD-II: which bus is asked, and how often.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Asks {
    /// Its number.
    pub(crate) bus: usize,
    /// Requests a second.
    pub(crate) hz: f32,
}

impl Asks {
    /// As configured.
    pub(crate) fn of(config: &CanBusConfig) -> Option<Self> {
        let name = config.obd_interface.as_ref()?;
        let bus = config.interfaces.iter().position(|i| i == name)?;
        Some(Self { bus, hz: config.obd_hz })
    }
}

/// What was heard of one bus since the start.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct BusReport {
    /// The interface.
    pub(crate) name: String,
    /// Frames.
    pub(crate) frames: u64,
    /// Error frames, by what they name.
    pub(crate) errors: ErrorCounts,
    /// Times that the controller went bus-off.
    pub(crate) bus_offs: u32,
    /// Times that the interface went down or away after it was heard.
    pub(crate) outages: u32,
    /// Frames that the core had no room for.
    pub(crate) no_room: u64,
    /// Frames that the kernel had no room for.
    pub(crate) dropped: u64,
    /// OBD-II requests that were sent, and those that the bus did not take.
    pub(crate) asked: u64,
    /// See `asked`.
    pub(crate) unasked: u64,
    /// What was read and was no frame.
    pub(crate) damaged: u64,
    /// Room that the kernel gave for frames, bytes of its own accounting; 0 while it was never open.
    pub(crate) room_bytes: usize,
    /// Whether it is open and up.
    pub(crate) up: bool,
    /// Why not, as last said.
    pub(crate) why: Option<String>,
}

impl core::fmt::Display for BusReport {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "CAN {}: {} frames", self.name, self.frames)?;
        for (count, what) in [
            (self.asked, "requests"),
            (self.unasked, "requests not sent"),
            (self.no_room, "lost before the core"),
            (self.dropped, "lost in the kernel"),
            (self.damaged, "damaged"),
            (u64::from(self.outages), "outages"),
            (u64::from(self.bus_offs), "times bus-off"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        if self.errors.any() {
            write!(f, "; error frames: {}", self.errors)?;
        }
        Ok(())
    }
}

/// Hears the interfaces until `stop`, all their frames or those that a filter lets through, and says what was heard.
/// `beat` is called many times a second.
pub(crate) fn run(
    interfaces: &[String],
    filters: Option<&[IdFilter]>,
    asks: Option<Asks>,
    stop: &AtomicBool,
    beat: &dyn Fn(),
    tell: &mut dyn FnMut(News) -> Told,
) -> Vec<BusReport> {
    let mut sockets = kernel::Sockets::new(interfaces, filters);
    keeper::Keeper::new(interfaces, asks, &mut sockets, tell).run(stop, beat)
}
