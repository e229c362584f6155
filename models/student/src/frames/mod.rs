//! Frames to patches: resize as PIL does, normalise, cut in merge order, and drop what did not change.

/// One frame, cut. Patches stand in merge order: block row, block column, then row and column within the block.
#[derive(Clone, Debug, PartialEq)]
pub struct PatchFrame {
    /// Rows of patches, a multiple of the merge.
    pub rows: usize,
    /// Columns of patches, a multiple of the merge.
    pub cols: usize,
    /// rows x cols x 588 values, normalised; within a patch colour, row, column.
    pub pixels: Vec<f32>,
    /// One for each vision token (rows x cols / merge^2): goes to the language half.
    pub keep: Vec<bool>,
}

impl PatchFrame {
    /// Vision tokens that are kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.keep.iter().filter(|keep| **keep).count()
    }
}
