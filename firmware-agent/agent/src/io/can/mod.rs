//! The CAN buses: frames of classic CAN and CAN FD from the kernel's sockets.
//!
//! Terms: an *interface* is what the kernel calls a bus (`can0`); its *number* is its place in the configuration. An *error
//! frame* is no frame of the bus but the controller's word of what went wrong; *bus-off* is its last: it takes no more part in
//! the bus until it is restarted. One thread hears all buses, so that their frames reach the core in the order of their
//! stamps; it never waits for the core. Nothing is ever sent.
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
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;

use agent_core::samples::CanFrame;
use agent_drive::IdFilter;

pub(crate) use errors::ErrorCounts;

/// What the buses say.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum News {
    /// A frame.
    Frame(CanFrame),
    /// Frames that were lost.
    Lost(u32),
    /// Something that a person should know.
    Said(String),
}

/// What became of news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Taken.
    Taken,
    /// There was no room.
    Full,
    /// Nobody listens any more.
    Gone,
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
    stop: &AtomicBool,
    beat: &dyn Fn(),
    tell: &mut dyn FnMut(News) -> Told,
) -> Vec<BusReport> {
    let mut sockets = kernel::Sockets::new(interfaces, filters);
    keeper::Keeper::new(interfaces, &mut sockets, tell).run(stop, beat)
}

/// Words that wait for room in the core, at most.
const WORDS: usize = 32;

/// Hands news over without ever waiting; counts what found no room and tells it with the next.
struct Teller<'a> {
    tell: &'a mut dyn FnMut(News) -> Told,
    words: VecDeque<String>,
    lost: u32,
    gone: bool,
}

impl<'a> Teller<'a> {
    fn new(tell: &'a mut dyn FnMut(News) -> Told) -> Self {
        Self { tell, words: VecDeque::with_capacity(WORDS), lost: 0, gone: false }
    }

    /// False: it found no room, and is counted.
    fn frame(&mut self, frame: CanFrame) -> bool {
        self.flush();
        let told = (self.tell)(News::Frame(frame));
        self.gone |= told == Told::Gone;
        if told == Told::Full {
            self.lose(1);
        }
        told == Told::Taken
    }

    fn lose(&mut self, frames: u32) {
        self.lost = self.lost.saturating_add(frames);
    }

    /// Says something, as soon as there is room. Above the cap the newest words are left out.
    fn say(&mut self, what: String) {
        if self.words.len() < WORDS {
            self.words.push_back(what);
        }
        self.flush();
    }

    fn flush(&mut self) {
        if self.lost > 0 {
            match (self.tell)(News::Lost(self.lost)) {
                Told::Taken => self.lost = 0,
                Told::Full => return,
                Told::Gone => self.gone = true,
            }
        }
        while let Some(words) = self.words.front() {
            match (self.tell)(News::Said(words.clone())) {
                Told::Taken => drop(self.words.pop_front()),
                Told::Full => return,
                Told::Gone => {
                    self.gone = true;
                    return;
                }
            }
        }
    }
}
