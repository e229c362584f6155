//! Joins the two branches of a pipeline: an encoded frame and the small picture of the same instant.
//!
//! Both carry the time of the frame that they were made of. An encoder holds frames back, scaling does not, so small
//! pictures wait for their frame; a frame waits a little for its picture, and goes without when a later picture is there
//! or too many frames wait. Bounded both ways. Knows nothing of GStreamer.

use std::collections::VecDeque;

/// Small pictures that wait for their frame: as many as an encoder may hold back.
const PICTURES: usize = 8;
/// Frames that wait for their picture.
const FRAMES: usize = 3;
/// Times that differ by less mean the same frame, ns: elements that count in 90 kHz or in microseconds round.
const SAME_NS: u64 = 500_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Join<K, S> {
    frames: VecDeque<(u64, K)>,
    pictures: VecDeque<(u64, S)>,
    /// Whether there are small pictures at all.
    two: bool,
    unseen: u32,
}

impl<K, S> Join<K, S> {
    /// `two`: there is a branch of small pictures.
    pub(crate) fn new(two: bool) -> Self {
        let (frames, pictures) = (VecDeque::with_capacity(FRAMES + 1), VecDeque::with_capacity(PICTURES));
        Self { frames, pictures, two, unseen: 0 }
    }

    /// Takes an encoded frame.
    pub(crate) fn frame(&mut self, ns: u64, frame: K) {
        self.frames.push_back((ns, frame));
    }

    /// Whether frames wait that must be taken before another is added.
    #[cfg(test)]
    pub(crate) fn full(&self) -> bool {
        self.frames.len() > FRAMES
    }

    /// Takes a small picture. The oldest goes when too many wait.
    pub(crate) fn picture(&mut self, ns: u64, picture: S) {
        if self.pictures.len() >= PICTURES {
            self.pictures.pop_front();
            self.unseen += 1;
        }
        self.pictures.push_back((ns, picture));
    }

    /// The next frame that is ready, with its picture if it has one.
    pub(crate) fn next(&mut self) -> Option<(u64, K, Option<S>)> {
        let at = self.frames.front()?.0;
        if !self.two {
            return self.frames.pop_front().map(|(ns, frame)| (ns, frame, None));
        }
        // Pictures older than the frame belong to frames that were lost.
        while self.pictures.front().is_some_and(|(ns, _)| ns.saturating_add(SAME_NS) <= at) {
            self.pictures.pop_front();
        }
        let same = self.pictures.front().map(|(ns, _)| *ns < at.saturating_add(SAME_NS));
        match same {
            Some(true) => {
                let picture = self.pictures.pop_front().map(|(_, picture)| picture);
                self.frames.pop_front().map(|(ns, frame)| (ns, frame, picture))
            }
            None if self.frames.len() <= FRAMES => None,
            // A later picture is there, or too many frames wait: this one's will not come.
            _ => {
                self.unseen += 1;
                self.frames.pop_front().map(|(ns, frame)| (ns, frame, None))
            }
        }
    }

    /// Frames without a picture, and pictures given up, since it was last asked.
    pub(crate) fn take_unseen(&mut self) -> u32 {
        std::mem::take(&mut self.unseen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn drain(join: &mut Join<u64, u64>) -> Vec<(u64, Option<u64>)> {
        std::iter::from_fn(|| join.next().map(|(_, frame, picture)| (frame, picture))).collect()
    }

    #[test]
    fn an_encoder_that_holds_frames_back_gets_their_own_pictures() {
        let mut join = Join::new(true);
        let mut got = Vec::new();
        for i in 0..100_u64 {
            join.picture(i * 33 * MS, i);
            if i >= 5 {
                // Rounded to microseconds.
                join.frame((i - 5) * 33 * MS - (i - 5) % 2 * 999, i - 5);
            }
            got.extend(drain(&mut join));
        }
        assert_eq!(got, (0..95).map(|i| (i, Some(i))).collect::<Vec<_>>());
        assert_eq!(join.take_unseen(), 0);
    }

    #[test]
    fn a_frame_whose_picture_was_dropped_goes_without_and_is_counted() {
        let mut join = Join::new(true);
        for i in 0..10_u64 {
            join.frame(i * 33 * MS, i);
            if i % 3 != 1 {
                join.picture(i * 33 * MS, i);
            }
        }
        let got = drain(&mut join);
        let expected: Vec<_> = (0..10).map(|i| (i, (i % 3 != 1).then_some(i))).collect();
        assert_eq!(got, expected);
        assert_eq!(join.take_unseen(), 3);
        assert_eq!(join.take_unseen(), 0);
    }

    #[test]
    fn frames_do_not_wait_for_a_branch_that_stands() {
        let mut join = Join::new(true);
        let mut got = 0;
        for i in 0..50_u64 {
            join.frame(i * 33 * MS, i);
            got += drain(&mut join).len();
            assert!(!join.full());
        }
        assert_eq!(got, 50 - FRAMES);
        assert_eq!(join.take_unseen(), got as u32);
    }

    #[test]
    fn pictures_of_lost_frames_are_dropped_and_without_a_second_branch_nothing_waits() {
        let mut join = Join::new(true);
        (0..4_u64).for_each(|i| join.picture(i * 33 * MS, i));
        join.frame(3 * 33 * MS, 3);
        assert_eq!(drain(&mut join), [(3, Some(3))]);
        let mut one = Join::new(false);
        one.frame(7, 7);
        assert_eq!(drain(&mut one), [(7, None)]);
        assert_eq!(one.take_unseen(), 0);
    }
}
