//! Zeroed buffers that begin on a cache line, so that no load of the kernels crosses one.

/// Plain numbers.
///
/// # Safety
/// Every bit pattern is a value, and the alignment is at most 64.
pub unsafe trait Plain: Copy + Send + Sync + 'static {}
// SAFETY: numbers without padding or forbidden patterns.
unsafe impl Plain for u8 {}
// SAFETY: the same.
unsafe impl Plain for i16 {}
// SAFETY: the same.
unsafe impl Plain for f32 {}

/// Bytes of a cache line.
const LINE: usize = 64;

/// A zeroed buffer of numbers, aligned to a cache line, of a length fixed when it is made.
pub struct Aligned<T> {
    /// Longer by a line than the numbers, so that they can begin at `skip`. Never grown, so they never move.
    bytes: Vec<u8>,
    skip: usize,
    len: usize,
    of: std::marker::PhantomData<T>,
}

impl<T: Plain> Aligned<T> {
    /// `len` zeros. The system gives zeroed pages: memory that is never touched is never used.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        let bytes = vec![0_u8; len * size_of::<T>() + LINE];
        let skip = bytes.as_ptr().addr().wrapping_neg() % LINE;
        Self { bytes, skip, len, of: std::marker::PhantomData }
    }
}

impl<T: Plain> std::ops::Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: from `skip` on there are `len` numbers, initialised and aligned beyond any Plain type.
        unsafe { std::slice::from_raw_parts(self.bytes.as_ptr().add(self.skip).cast(), self.len) }
    }
}

impl<T: Plain> std::ops::DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; the borrow is unique.
        unsafe { std::slice::from_raw_parts_mut(self.bytes.as_mut_ptr().add(self.skip).cast(), self.len) }
    }
}

impl Aligned<u8> {
    /// Some of the bytes as floats.
    ///
    /// # Panics
    /// If the range is not inside, or not on a multiple of four.
    #[must_use]
    pub fn floats(&self, range: std::ops::Range<usize>) -> &[f32] {
        let bytes = &self[range];
        assert!(bytes.as_ptr().addr().is_multiple_of(4) && bytes.len().is_multiple_of(4));
        // SAFETY: aligned and in whole floats by the assertion; every pattern is a float.
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / 4) }
    }
}
