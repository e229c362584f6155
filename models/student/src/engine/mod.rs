//! The CPU engine: the language half and the vision tower on kernels of our own.
//!
//! Why not the tensor library's: on AVX2 it has no fast path for Q8_0, materialises attention scores, and repeats the
//! keys of grouped heads. Here weights are repacked once at load, activations carry 13 bits and a sign (so that only the
//! weights' own rounding counts), integer products are exact, and every sum has one order: a row's result does not
//! depend on the other rows, on how a prefix was cut into pieces, or on the number of threads. Unsafe code stands in
//! [`kernels`] alone. Reads no clock and no environment.

pub mod attention;
pub mod kernels;
pub mod language;
pub mod limits;
pub mod linear;
mod load;
mod norm;
pub mod pack;

pub mod vision;

pub use language::EngineLanguage;
pub use vision::EngineVision;
