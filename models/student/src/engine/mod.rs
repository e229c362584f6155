//! The CPU engine: kernels, threads and the layers on them.
