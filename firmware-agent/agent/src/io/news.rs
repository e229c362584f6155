//! What a sensor's thread tells the core, without ever waiting for it.

use std::collections::VecDeque;

/// News of one sensor, whose samples are `T`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum News<T> {
    /// A sample.
    Sample(T),
    /// Samples that were lost.
    Lost(u32),
    /// Something that a person should know.
    Said(String),
}

/// What became of news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Taken.
    Taken,
    /// There was no room.
    Full,
    /// Nobody listens any more.
    Gone,
}

/// Words that wait for room in the core, at most.
const WORDS: usize = 32;

/// Hands news over without ever waiting; counts what found no room and tells it with the next.
pub(crate) struct Teller<'a, T> {
    tell: &'a mut dyn FnMut(News<T>) -> Told,
    words: VecDeque<String>,
    lost: u32,
    gone: bool,
}

impl<'a, T> Teller<'a, T> {
    pub(crate) fn new(tell: &'a mut dyn FnMut(News<T>) -> Told) -> Self {
        Self { tell, words: VecDeque::with_capacity(WORDS), lost: 0, gone: false }
    }

    /// Whether nobody listens any more.
    pub(crate) const fn gone(&self) -> bool {
        self.gone
    }

    /// False: it found no room, and is counted.
    pub(crate) fn sample(&mut self, sample: T) -> bool {
        self.flush();
        let told = (self.tell)(News::Sample(sample));
        self.gone |= told == Told::Gone;
        if told == Told::Full {
            self.lose(1);
        }
        told == Told::Taken
    }

    /// Counts samples that were lost, to be told with the next news.
    pub(crate) fn lose(&mut self, samples: u32) {
        self.lost = self.lost.saturating_add(samples);
    }

    /// Says something, as soon as there is room. Above the cap the newest words are left out.
    pub(crate) fn say(&mut self, what: String) {
        if self.words.len() < WORDS {
            self.words.push_back(what);
        }
        self.flush();
    }

    /// Tells what waits, as far as there is room.
    pub(crate) fn flush(&mut self) {
        if self.lost > 0 {
            match (self.tell)(News::Lost(self.lost)) {
                Told::Taken => self.lost = 0,
                Told::Full => return,
                Told::Gone => self.gone = true,
            }
        }
        while let Some(words) = self.words.front() {
            match (self.tell)(News::Said(words.clone())) {
                Told::Taken => drop(self.words.pop_front()),
                Told::Full => return,
                Told::Gone => {
                    self.gone = true;
                    return;
                }
            }
        }
    }
}
