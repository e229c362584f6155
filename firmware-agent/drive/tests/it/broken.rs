//! Broken inputs and the error each gives.
