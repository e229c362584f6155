//! Writing one buffer from several threads: each item of a region gets a part that no other item gets.
//!
//! [`for_rows`](Pool::for_rows) gives each item whole rows (of one buffer, or of several cut alike),
//! [`for_strips`](Pool::for_strips) a range of columns of all rows. That the parts are disjoint follows from how they
//! are cut here, not from the caller's promise.

use std::marker::PhantomData;
use std::ops::Range;

use super::Pool;

/// Something that can be cut into ranges of rows.
///
/// # Safety
/// Parts of disjoint ranges below `rows` must be disjoint memory that the value borrows uniquely.
pub unsafe trait Cut: Sync {
    /// What one item gets.
    type Part;
    /// Rows that can be handed out.
    fn rows(&self) -> usize;
    /// The part of `count` rows from `from`.
    ///
    /// # Safety
    /// The range lies below `rows`, and no other part overlaps it while this one lives.
    unsafe fn part(&self, from: usize, count: usize) -> Self::Part;
}

/// A buffer cut into rows of equal width.
pub struct RowsMut<'a, T> {
    base: *mut T,
    rows: usize,
    width: usize,
    of: PhantomData<&'a mut [T]>,
}

impl<'a, T> RowsMut<'a, T> {
    /// The whole rows of `width` elements in `all`.
    pub fn new(all: &'a mut [T], width: usize) -> Self {
        let rows = all.len().checked_div(width).unwrap_or(0);
        Self { base: all.as_mut_ptr(), rows, width, of: PhantomData }
    }
}

// SAFETY: shared access only forms parts, which `Cut::part` keeps apart.
unsafe impl<T: Send> Sync for RowsMut<'_, T> {}

// SAFETY: rows follow each other and the slice is borrowed uniquely for 'a.
unsafe impl<'a, T: Send> Cut for RowsMut<'a, T> {
    type Part = &'a mut [T];

    fn rows(&self) -> usize {
        self.rows
    }

    unsafe fn part(&self, from: usize, count: usize) -> &'a mut [T] {
        debug_assert!(from + count <= self.rows);
        // SAFETY: inside the slice, and disjoint from other parts, by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(from * self.width), count * self.width) }
    }
}

// SAFETY: both halves are cut alike.
unsafe impl<A: Cut, B: Cut> Cut for (A, B) {
    type Part = (A::Part, B::Part);

    fn rows(&self) -> usize {
        self.0.rows().min(self.1.rows())
    }

    unsafe fn part(&self, from: usize, count: usize) -> Self::Part {
        // SAFETY: the caller's promise is passed on; the range is below both numbers of rows.
        unsafe { (self.0.part(from, count), self.1.part(from, count)) }
    }
}

/// Columns that [`Pool::for_strips`] cuts a matrix into: ascending, without overlap.
pub struct Strips {
    width: usize,
    ranges: Vec<Range<usize>>,
}

impl Strips {
    /// Strips of a matrix `width` columns wide. Ranges that overlap, run backwards or beyond the width are cut off.
    #[must_use]
    pub fn new(width: usize, ranges: impl IntoIterator<Item = Range<usize>>) -> Self {
        let mut from = 0;
        let mut kept = Vec::new();
        for range in ranges {
            let start = range.start.max(from).min(width);
            let end = range.end.clamp(start, width);
            kept.push(start..end);
            from = end;
        }
        Self { width, ranges: kept }
    }

    /// Number of strips.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

/// Some columns of some rows of a matrix.
pub struct StripMut<'a> {
    base: *mut f32,
    width: usize,
    first: usize,
    rows: usize,
    columns: Range<usize>,
    of: PhantomData<&'a mut f32>,
}

impl StripMut<'_> {
    /// The columns this strip covers.
    #[must_use]
    pub fn columns(&self) -> Range<usize> {
        self.columns.clone()
    }

    /// The rows of the matrix that it covers.
    #[must_use]
    pub fn rows(&self) -> Range<usize> {
        self.first..self.first + self.rows
    }

    /// The strip's part of one of its rows, counted from its first; empty beyond its last.
    pub fn row(&mut self, row: usize) -> &mut [f32] {
        if row >= self.rows {
            return &mut [];
        }
        // SAFETY: row and columns lie inside the matrix, and no other strip of the region holds these columns of it.
        unsafe {
            let start = self.base.add((self.first + row) * self.width + self.columns.start);
            std::slice::from_raw_parts_mut(start, self.columns.len())
        }
    }
}

struct Base(*mut f32);

// SAFETY: the pointer is only used to form strips, which do not overlap, one for each item.
unsafe impl Sync for Base {}

impl Base {
    /// Through a method, so that closures capture the wrapper and not the bare pointer.
    fn get(&self) -> *mut f32 {
        self.0
    }
}

impl Pool {
    /// Calls `work(thread, first row, part)` with parts of at most `step` rows. False as [`Pool::run`].
    #[must_use]
    pub fn for_rows<C: Cut>(&mut self, of: C, step: usize, work: &(dyn Fn(usize, usize, C::Part) + Sync)) -> bool {
        let (rows, step) = (of.rows(), step.max(1));
        self.run(rows.div_ceil(step), &|worker, item| {
            let from = item * step;
            // SAFETY: items are handed out once, so parts do not overlap; `of` outlives the region.
            let part = unsafe { of.part(from, step.min(rows - from)) };
            work(worker, from, part);
        })
    }

    /// Calls `work(thread, index of the strip, strip)` for each strip of `matrix`. False as [`Pool::run`].
    #[must_use]
    pub fn for_strips(
        &mut self,
        matrix: &mut [f32],
        strips: &Strips,
        work: &(dyn Fn(usize, usize, StripMut<'_>) + Sync),
    ) -> bool {
        self.for_blocks(matrix, strips, usize::MAX, work)
    }

    /// The same, each strip cut into blocks of at most `step` rows.
    #[must_use]
    pub fn for_blocks(
        &mut self,
        matrix: &mut [f32],
        strips: &Strips,
        step: usize,
        work: &(dyn Fn(usize, usize, StripMut<'_>) + Sync),
    ) -> bool {
        let all = matrix.len().checked_div(strips.width).unwrap_or(0);
        let step = step.clamp(1, all.max(1));
        let blocks = all.div_ceil(step);
        let base = Base(matrix.as_mut_ptr());
        self.run(strips.ranges.len() * blocks, &|worker, item| {
            let (strip, first) = (item / blocks, item % blocks * step);
            let columns = strips.ranges[strip].clone();
            let rows = step.min(all - first);
            work(
                worker,
                strip,
                StripMut { base: base.get(), width: strips.width, first, rows, columns, of: PhantomData },
            );
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_strips_cover_everything_once() {
        let mut pool = Pool::new(3);
        let mut data = vec![0.0_f32; 7 * 10];
        let mut seen = vec![0_u8; 7];
        let both = (RowsMut::new(&mut data, 10), RowsMut::new(&mut seen, 1));
        assert!(pool.for_rows(both, 2, &|_, row, (part, seen)| {
            for (i, value) in part.iter_mut().enumerate() {
                *value += (row * 10 + i) as f32;
            }
            seen.iter_mut().for_each(|seen| *seen += 1);
        }));
        assert_eq!(seen, [1; 7]);
        let strips = Strips::new(10, [0..3, 3..4, 4..9, 9..10]);
        assert!(pool.for_strips(&mut data, &strips, &|_, _, mut strip| {
            for row in 0..7 {
                for value in strip.row(row) {
                    *value += 1000.0;
                }
            }
            assert!(strip.row(7).is_empty());
        }));
        assert!(data.iter().enumerate().all(|(i, value)| *value == 1000.0 + i as f32));
    }

    #[test]
    fn blocks_cover_everything_once() {
        let mut pool = Pool::new(2);
        let mut data = vec![0.0_f32; 7 * 10];
        let strips = Strips::new(10, [0..6, 6..10]);
        assert!(pool.for_blocks(&mut data, &strips, 3, &|_, index, mut strip| {
            assert_eq!(strip.columns().start, 6 * index);
            for i in 0..strip.rows().len() {
                strip.row(i).iter_mut().for_each(|value| *value += 1.0);
            }
            let end = strip.rows().len();
            assert!(strip.row(end).is_empty());
        }));
        assert!(data.iter().all(|value| *value == 1.0));
        assert!(pool.for_blocks(&mut [], &strips, 3, &|_, _, _| panic!("no rows, no item")));
    }

    #[test]
    fn overlapping_strips_are_cut_apart() {
        let strips = Strips::new(8, [0..5, 3..7, 2..4, 6..20]);
        assert_eq!(strips.ranges, [0..5, 5..7, 7..7, 7..8]);
    }
}
