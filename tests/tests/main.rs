//! End-to-end tests, hostile input and tidiness, in one binary.

#[cfg(test)]
mod e2e;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tidy;
