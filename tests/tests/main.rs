//! End-to-end tests and tidiness, in one binary.

#[cfg(test)]
mod e2e;
#[cfg(test)]
mod tidy;
