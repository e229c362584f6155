//! The kernel's CAN sockets, by the socketcan crate: raw, with FD frames, error frames and stamps.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd as _;
use std::time::{Duration, SystemTime};

use agent_core::samples::CanFrame;
use agent_core::time::MonoTime;
use agent_drive::IdFilter;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;
use socketcan::{
    CanAnyFrame, CanFdSocket, CanFilter, EmbeddedFrame as _, Frame as _, Socket as _, SocketOptions as _, StandardId,
};

use super::errors::ErrorSet;
use super::keeper::{Got, Heard, Kernel, Now};
use super::many::{self, Frames};
use crate::io::camera::clock::monotonic_now;

/// What the kernel is asked to hold for us. It doubles that, and a frame takes about 1 KB: 0.4 s of 20,000 frames a second.
/// A process without rights gets at most net.core.rmem_max.
pub(super) const ROOM_BYTES: usize = 4 << 20;
/// Two clocks are read together when so little passed between.
const TOGETHER_NS: u64 = 20_000;

/// One socket for each interface that is open.
pub(super) struct Sockets<'a> {
    names: &'a [String],
    /// None lets everything through.
    filters: Option<Vec<CanFilter>>,
    open: Vec<Option<Open>>,
    frames: Frames,
}

/// An open interface.
struct Open {
    socket: CanFdSocket,
    /// What came with the last call and was not asked for yet.
    came: VecDeque<Got>,
}

impl Open {
    fn new(socket: CanFdSocket) -> Self {
        Self { socket, came: VecDeque::with_capacity(many::MOST) }
    }
}

impl<'a> Sockets<'a> {
    pub(super) fn new(names: &'a [String], filters: Option<&[IdFilter]>) -> Self {
        let filters = filters.map(|list| list.iter().map(in_kernel).collect());
        Self { names, filters, open: names.iter().map(|_| None).collect(), frames: Frames::new() }
    }

    /// Takes a socket of another family that carries frames, in place of the first interface.
    #[cfg(test)]
    pub(super) fn put_first(&mut self, socket: CanFdSocket) -> io::Result<usize> {
        let room = prepare(&socket)?;
        self.open[0] = Some(Open::new(socket));
        Ok(room)
    }
}

/// What is not special to CAN: never waits, stamps, has room. How much, bytes.
fn prepare(socket: &CanFdSocket) -> io::Result<usize> {
    socket.set_nonblocking(true)?;
    socket.set_recv_timestamp(true)?;
    if sockopt::set_socket_recv_buffer_size_force(socket, ROOM_BYTES).is_err() {
        sockopt::set_socket_recv_buffer_size(socket, ROOM_BYTES)?;
    }
    Ok(sockopt::socket_recv_buffer_size(socket)?)
}

impl Kernel for Sockets<'_> {
    fn now(&self) -> Now {
        let mut mono = monotonic_now();
        let mut unix_ns = unix_ns(SystemTime::now());
        // Put aside between the two, the thread would see the age of a frame wrongly.
        for _ in 0..2 {
            let after = monotonic_now();
            if after.since(mono).0 < TOGETHER_NS {
                break;
            }
            (mono, unix_ns) = (after, self::unix_ns(SystemTime::now()));
        }
        Now { mono, unix_ns }
    }

    fn open(&mut self, bus: usize) -> io::Result<usize> {
        let name = self.names.get(bus).map_or("", String::as_str);
        let socket = CanFdSocket::open(name)?;
        let room = prepare(&socket)?;
        socket.set_error_filter_accept_all()?;
        if let Some(filters) = &self.filters {
            socket.set_filters(filters)?;
        }
        if let Some(place) = self.open.get_mut(bus) {
            *place = Some(Open::new(socket));
        }
        Ok(room)
    }

    fn close(&mut self, bus: usize) {
        if let Some(place) = self.open.get_mut(bus) {
            *place = None;
        }
    }

    fn read(&mut self, bus: usize) -> io::Result<Option<Got>> {
        let Some(Some(Open { socket, came })) = self.open.get_mut(bus) else { return Ok(None) };
        if came.is_empty() {
            let got = self.frames.receive(socket.as_fd(), |frame, stamp_unix_ns| {
                let heard = frame.map_or(Heard::Damaged, |frame| heard(bus, &frame));
                came.push_back(Got { heard, stamp_unix_ns });
            });
            match got {
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                got => got?,
            }
        }
        Ok(came.pop_front())
    }

    fn dropped(&mut self, bus: usize) -> u32 {
        let Some(Some(Open { socket, .. })) = self.open.get(bus) else { return 0 };
        const WORD: usize = size_of::<u32>();
        const AT: usize = libc::SK_MEMINFO_DROPS as usize * WORD;
        let mut words = [0_u8; AT + WORD];
        match socket.get_socket_option_bytes(libc::SOL_SOCKET, libc::SO_MEMINFO, &mut words) {
            Ok(n) if n == words.len() => words.last_chunk().copied().map_or(0, u32::from_ne_bytes),
            // Kernels before 4.12 do not say.
            _ => 0,
        }
    }

    fn send(&mut self, bus: usize, id: u16, data: [u8; 8]) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::NotConnected);
        let Some(Some(Open { socket, .. })) = self.open.get(bus) else { return Err(gone()) };
        let frame = StandardId::new(id).and_then(|id| socketcan::CanFrame::new(id, &data)).ok_or_else(gone)?;
        socket.write_frame(&CanAnyFrame::from(frame))
    }

    fn wait(&mut self, most: Duration) {
        let mut fds: Vec<PollFd<'_>> =
            self.open.iter().flatten().map(|o| PollFd::new(&o.socket, PollFlags::IN)).collect();
        let most = Timespec { tv_sec: most.as_secs().try_into().unwrap_or(1), tv_nsec: most.subsec_nanos().into() };
        // Interrupted or not, the next reads say what there is.
        let _ = poll(&mut fds, Some(&most));
    }

    fn pause(&mut self, long: Duration) {
        std::thread::sleep(long);
    }
}

fn unix_ns(t: SystemTime) -> u64 {
    t.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}

/// The kernel compares the flag for 29 bits with the identifier's.
fn in_kernel(filter: &IdFilter) -> CanFilter {
    let flag = if filter.extended { libc::CAN_EFF_FLAG } else { 0 };
    CanFilter::new(filter.id | flag, filter.mask | libc::CAN_EFF_FLAG)
}

/// Its time is set by the keeper.
pub(super) fn heard(bus: usize, frame: &CanAnyFrame) -> Heard {
    let (fd, remote, len) = match frame {
        CanAnyFrame::Error(frame) => return Heard::Errors(ErrorSet::decode(*frame)),
        CanAnyFrame::Normal(frame) => (false, false, frame.data().len()),
        // It carries no data, but asks for so much.
        CanAnyFrame::Remote(frame) => (false, true, frame.dlc()),
        CanAnyFrame::Fd(frame) => (true, false, frame.data().len()),
    };
    let mut data = [0; 64];
    data.iter_mut().zip(frame.data()).for_each(|(to, from)| *to = *from);
    let (t, bus) = (MonoTime::ZERO, u8::try_from(bus).unwrap_or(u8::MAX));
    let len = u8::try_from(len).unwrap_or(0);
    Heard::Frame(CanFrame { t, bus, id: frame.raw_id(), extended: frame.is_extended(), fd, remote, len, data })
}
