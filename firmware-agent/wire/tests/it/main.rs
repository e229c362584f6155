//! Proofs about the messages: their worst sizes, their frozen bytes, how bad input is refused, and that what is
//! accepted is written again byte for byte. One binary; the messages that it works on stand in `samples`.

#[cfg(test)]
mod golden;
#[cfg(test)]
mod names;
#[cfg(test)]
mod property;
#[cfg(test)]
mod refuse;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod size;
#[cfg(test)]
mod variants;
