//! Many frames of a socket by one call of the kernel (recvmmsg(2)): a call for each is most of what a full bus costs.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use socketcan::CanAnyFrame;

/// Frames by one call, at most.
pub(super) const MOST: usize = 32;
/// Bytes of a classic frame and of an FD frame as the kernel gives them (linux/can.h).
const CLASSIC: usize = libc::CAN_MTU;
const FD: usize = libc::CANFD_MTU;
/// Room for the stamp, and for two words more that the kernel might say.
const CONTROL: usize = 64;

#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Room {
    frame: [u8; FD],
    control: [u8; CONTROL],
}

/// Memory for one call.
pub(super) struct Frames(Vec<Room>);

impl Frames {
    pub(super) fn new() -> Self {
        Self(vec![Room { frame: [0; FD], control: [0; CONTROL] }; MOST])
    }

    /// Gives what waits in the socket, oldest first: a frame, or nothing for what is none, and its stamp by the wall clock,
    /// nanoseconds since 1970. Never waits.
    ///
    /// # Errors
    /// As recvmsg(2): nothing there, or the interface went.
    pub(super) fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        mut give: impl FnMut(Option<CanAnyFrame>, Option<u64>),
    ) -> io::Result<()> {
        let came = system::receive(socket.as_raw_fd(), &mut self.0)?;
        for ((len, stamp), room) in came.into_iter().flatten().zip(&self.0) {
            give(frame_of(&room.frame, len), stamp);
        }
        Ok(())
    }
}

/// The frame in so many bytes.
fn frame_of(bytes: &[u8; FD], len: usize) -> Option<CanAnyFrame> {
    match len {
        CLASSIC => Some(system::classic(bytes).into()),
        FD => Some(system::fd(bytes).into()),
        _ => None,
    }
}

#[allow(unsafe_code, reason = "a call for many messages has no safe interface")]
mod system {
    use std::io;
    use std::os::fd::RawFd;

    use super::{CONTROL, FD, MOST, Room};

    /// How many bytes came (none where they did not fit), and when.
    type Came = (usize, Option<u64>);

    /// Fills rooms.
    pub(super) fn receive(socket: RawFd, rooms: &mut [Room]) -> io::Result<[Option<Came>; MOST]> {
        // SAFETY: all-zero is a valid value of both: no memory is named and nothing is asked for.
        let (mut parts, mut heads): ([libc::iovec; MOST], [libc::mmsghdr; MOST]) = unsafe { std::mem::zeroed() };
        let mut asked = 0;
        for ((room, part), head) in rooms.iter_mut().zip(&mut parts).zip(&mut heads) {
            *part = libc::iovec { iov_base: room.frame.as_mut_ptr().cast(), iov_len: FD };
            head.msg_hdr.msg_iov = part;
            head.msg_hdr.msg_iovlen = 1;
            head.msg_hdr.msg_control = room.control.as_mut_ptr().cast();
            head.msg_hdr.msg_controllen = CONTROL as _;
            asked += 1;
        }
        // SAFETY: `asked` heads, at most MOST, name memory of `rooms` and `parts` with its true length, which nothing else touches
        // until the call is over; no time limit is named.
        let came =
            unsafe { libc::recvmmsg(socket, heads.as_mut_ptr(), asked, libc::MSG_DONTWAIT as _, std::ptr::null_mut()) };
        let came = usize::try_from(came).map_err(|_| io::Error::last_os_error())?;
        let mut found = [None; MOST];
        for (to, head) in found.iter_mut().zip(&heads).take(came) {
            let cut = head.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            let len = if cut { 0 } else { usize::try_from(head.msg_len).unwrap_or(0) };
            *to = Some((len, stamp(&head.msg_hdr)));
        }
        Ok(found)
    }

    /// What SO_TIMESTAMPNS adds to a message, nanoseconds since 1970.
    fn stamp(head: &libc::msghdr) -> Option<u64> {
        // SAFETY: the kernel set the head's control length to what it wrote there; the macros stay within it, and a stamp is as
        // long as its length says.
        unsafe {
            let mut word = libc::CMSG_FIRSTHDR(head);
            while let Some(&libc::cmsghdr { cmsg_len, cmsg_level, cmsg_type, .. }) = word.as_ref() {
                let whole = cmsg_len >= libc::CMSG_LEN(size_of::<libc::timespec>() as _) as usize;
                if cmsg_level == libc::SOL_SOCKET && cmsg_type == libc::SCM_TIMESTAMPNS && whole {
                    let at: libc::timespec = libc::CMSG_DATA(word).cast::<libc::timespec>().read_unaligned();
                    let s = u64::try_from(at.tv_sec).ok()?;
                    return s.checked_mul(1_000_000_000)?.checked_add(u64::try_from(at.tv_nsec).ok()?);
                }
                word = libc::CMSG_NXTHDR(head, word);
            }
            None
        }
    }

    pub(super) fn classic(bytes: &[u8; FD]) -> libc::can_frame {
        // SAFETY: the frame is plain integers of CAN_MTU bytes, which is less than there are; any bytes are a value of it.
        unsafe { bytes.as_ptr().cast::<libc::can_frame>().read_unaligned() }
    }

    pub(super) fn fd(bytes: &[u8; FD]) -> libc::canfd_frame {
        // SAFETY: as above, of CANFD_MTU bytes, which is what there are.
        unsafe { bytes.as_ptr().cast::<libc::canfd_frame>().read_unaligned() }
    }
}
