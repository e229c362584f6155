//! How long each branch is: kept alike by every backend of the language half.
//!
//! Terms as in [`super`]. Holds lengths alone; keys and values are the backend's.

use super::{Room, Run, call, limit};
use crate::error::Result;

/// The open branches and their tokens.
#[derive(Clone, Debug)]
pub(crate) struct Branches {
    lens: Vec<usize>,
}

impl Branches {
    /// None open; room for as many as there may be, so that opening allocates nothing.
    pub(crate) fn new(room: &Room) -> Self {
        Self { lens: Vec::with_capacity(room.branches) }
    }

    /// Closes all.
    pub(crate) fn close(&mut self) {
        self.lens.clear();
    }

    /// Opens `n`, all empty, over a prefix of so many tokens; those open before are gone.
    ///
    /// # Errors
    /// [`crate::error::StudentError::Limit`] past the room, [`crate::error::StudentError::Call`] over an empty prefix.
    pub(crate) fn open(&mut self, n: usize, prefix: usize, room: &Room) -> Result<()> {
        limit("branches", n, room.branches)?;
        if prefix == 0 {
            return Err(call("branches over an empty prefix".to_owned()));
        }
        self.lens.clear();
        self.lens.resize(n, 0);
        Ok(())
    }

    /// Refuses `rows` more tokens of prefix while branches are open, or past the room.
    ///
    /// # Errors
    /// [`crate::error::StudentError::Call`], [`crate::error::StudentError::Limit`].
    pub(crate) fn may_grow(&self, prefix: usize, rows: usize, room: &Room) -> Result<()> {
        if !self.lens.is_empty() {
            return Err(call("the prefix cannot grow while branches are open".to_owned()));
        }
        limit("prefix tokens", prefix.saturating_add(rows), room.prefix)
    }

    /// The lengths, one an open branch.
    pub(crate) fn lens(&self) -> &[usize] {
        &self.lens
    }

    /// Tokens of a branch; 0 for one that is not open.
    pub(crate) fn len(&self, branch: u8) -> usize {
        self.lens.get(usize::from(branch)).copied().unwrap_or(0)
    }

    /// Cuts a branch to its first `len` tokens; one that is shorter or not open stays as it is.
    pub(crate) fn truncate(&mut self, branch: u8, len: usize) {
        if let Some(own) = self.lens.get_mut(usize::from(branch)) {
            *own = len.min(*own);
        }
    }

    /// Makes `to` as long as `from` once `copy` (from, to, tokens) has copied what they hold, which it is asked for only
    /// where there is something to copy.
    ///
    /// # Errors
    /// [`crate::error::StudentError::Call`] for a branch that is not open; what `copy` says, and no length changes then.
    pub(crate) fn copy(
        &mut self,
        from: u8,
        to: u8,
        copy: impl FnOnce(usize, usize, usize) -> Result<()>,
    ) -> Result<()> {
        let (from, to) = (usize::from(from), usize::from(to));
        let (Some(&len), true) = (self.lens.get(from), to < self.lens.len()) else {
            return Err(call(format!("branch {from} to {to}; {} are open", self.lens.len())));
        };
        if from != to && len > 0 {
            copy(from, to, len)?;
        }
        if let Some(own) = self.lens.get_mut(to) {
            *own = len;
        }
        Ok(())
    }

    /// Adds the rows of a step that was taken.
    pub(crate) fn grow(&mut self, runs: &[Run]) {
        for run in runs {
            if let Some(own) = self.lens.get_mut(run.branch) {
                *own += run.len;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room { prefix: 10, branches: 3, branch: 5 };

    fn grown() -> Branches {
        let mut branches = Branches::new(&ROOM);
        branches.open(3, 4, &ROOM).unwrap();
        branches.grow(&[Run { branch: 0, start: 0, len: 3 }, Run { branch: 2, start: 3, len: 1 }]);
        branches
    }

    #[test]
    fn they_open_over_a_prefix_alone_and_hold_it_while_they_are_open() {
        let mut branches = Branches::new(&ROOM);
        branches.may_grow(4, 6, &ROOM).unwrap();
        assert!(branches.may_grow(4, 7, &ROOM).is_err() && branches.may_grow(4, usize::MAX, &ROOM).is_err());
        assert!(branches.open(1, 0, &ROOM).is_err() && branches.open(4, 4, &ROOM).is_err());
        branches.open(3, 4, &ROOM).unwrap();
        assert!(branches.may_grow(4, 1, &ROOM).is_err());
        assert_eq!(branches.lens(), [0, 0, 0]);
        branches.close();
        branches.may_grow(4, 1, &ROOM).unwrap();
    }

    #[test]
    fn lengths_follow_steps_cuts_and_copies() {
        let mut branches = grown();
        assert_eq!([branches.len(0), branches.len(1), branches.len(2), branches.len(9)], [3, 0, 1, 0]);
        branches.truncate(0, 2);
        branches.truncate(2, 7);
        branches.truncate(9, 0);
        assert_eq!(branches.lens(), [2, 0, 1]);
        let mut copied = Vec::new();
        let mut copy = |branches: &mut Branches, from, to| {
            branches.copy(from, to, |from, to, len| {
                copied.push((from, to, len));
                Ok(())
            })
        };
        copy(&mut branches, 0, 2).unwrap();
        copy(&mut branches, 1, 0).unwrap();
        copy(&mut branches, 2, 2).unwrap();
        assert!(copy(&mut branches, 0, 3).is_err() && copy(&mut branches, 3, 0).is_err());
        assert_eq!(branches.lens(), [0, 0, 2]);
        assert_eq!(copied, [(0, 2, 2)], "nothing is copied of an empty branch, or onto itself");
    }

    #[test]
    fn a_copy_that_fails_leaves_the_lengths() {
        let mut branches = grown();
        assert!(branches.copy(0, 1, |_, _, _| Err(call("no".to_owned()))).is_err());
        assert_eq!(branches.lens(), [3, 0, 1]);
    }
}
