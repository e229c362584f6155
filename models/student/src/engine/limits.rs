//! Caps of the CPU engine.

/// Threads of one pool: the largest board (AGX Orin) has twelve cores.
pub const MAX_THREADS: usize = 16;
/// Turns a worker waits for the next region before it parks; some tens of microseconds, longer than the gaps in a pass.
pub const SPINS_BEFORE_PARK: u32 = 4000;
/// Rows of one pass through the layers; longer input goes in several. Bounds the scratch buffers.
pub const MAX_PASS_ROWS: usize = 512;
/// Keys of one attention tile.
pub const KEY_TILE: usize = 64;
/// Queries of one attention item: they pass over the tiles together, and their sums stay in the first caches.
pub const QUERY_BLOCK: usize = 48;

const _: () = assert!(KEY_TILE.is_multiple_of(super::kernels::PANEL));
const _: () = assert!(MAX_THREADS >= 1 && QUERY_BLOCK.is_multiple_of(super::kernels::COLS));
