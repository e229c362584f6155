//! End-to-end tests and tidiness, in one binary.

#[cfg(test)]
mod tidy;
