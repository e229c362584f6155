//! The chain's own logic: links in, faults out. Reads nothing.

use std::collections::{BTreeMap, BTreeSet};

use agent_core::time::MonoTime;

use super::{CutOff, Fault, FaultKind, Verdict, index};
use crate::chain::{Hash, Head, Link, Run};
use crate::limits::{MAX_FAULTS, MAX_PARTS};

/// Where a part stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub(super) from: u64,
    pub(super) span: Option<(MonoTime, MonoTime)>,
}

/// A part that is not what its link says: what it is instead, and its fault.
struct Other {
    part: u32,
    digest: Hash,
    fault: usize,
}

/// What the last link came to, as long as nothing behind it is good: if the file was cut there, it is what the cut tore.
#[derive(Clone, Copy)]
struct Torn {
    fault: usize,
    from: u64,
}

#[derive(Default)]
pub(super) struct Judge {
    verdict: Verdict,
    head: Option<Head>,
    /// Number of the part that comes next.
    expected: u32,
    missing: BTreeSet<u32>,
    /// Values of the chain, by part.
    values: BTreeMap<u32, Hash>,
    /// What links say of their parts.
    stated: BTreeMap<Hash, u32>,
    others: Vec<Other>,
    unsigned: bool,
    ended: bool,
    torn: Option<Torn>,
}

impl Judge {
    pub(super) fn head(&mut self, head: Head, offset: u64) {
        self.verdict.chained = true;
        if self.head.is_some() || self.expected > 0 {
            let says = "a second beginning of a chain: a file has one".to_owned();
            self.fault(FaultKind::Added, 0, Place { from: offset, ..Place::default() }, says);
            return;
        }
        self.verdict.unit.clone_from(&head.unit);
        self.verdict.about.clone_from(&head.about);
        self.verdict.source.clone_from(&head.source);
        self.verdict.key = head.key;
        self.values.insert(0, head.start());
        self.head = Some(head);
    }

    /// A link behind a part that is `run`.
    pub(super) fn link(&mut self, link: &Link, run: Run, place: Place) {
        self.verdict.chained = true;
        let expected = self.expected.max(1);
        let n = link.part;
        if n == 0 || n > MAX_PARTS || self.ended {
            let (kind, says) = if self.ended {
                (FaultKind::Added, "a part behind the last one".to_owned())
            } else {
                (FaultKind::Chain, format!("a link with the number {n}"))
            };
            self.fault(kind, n, place, says);
            return;
        }
        let chain = link.chain();
        if !self.genuine(link, &chain) {
            let says = format!("the link of part {n} is not signed by the key that the file names");
            self.torn = self.fault(FaultKind::Signature, n, place, says).map(|fault| Torn { fault, from: place.from });
            self.expected = expected.max(n + 1);
            // Its number is nobody's word: what is missing shows by the links around it.
            return;
        }
        self.ended = link.last;
        if self.values.contains_key(&n) {
            self.fault(FaultKind::Doubled, n, place, format!("part {n} is there twice"));
            return;
        }
        let moved = n < expected;
        for gap in expected..n {
            self.missing.insert(gap);
        }
        self.missing.remove(&n);
        self.expected = expected.max(n + 1);
        self.values.insert(n, chain);
        self.stated.insert(link.run.digest, n);
        let follows = n.checked_sub(1).and_then(|before| self.values.get(&before)).is_none_or(|v| *v == link.before);
        if moved {
            let says = format!("part {n} stands behind part {}", expected - 1);
            self.fault(FaultKind::Moved, n, place, says);
        } else if !follows {
            let says = format!("part {n} does not follow on what is before it: it is from another file");
            self.fault(FaultKind::Moved, n, place, says);
        } else if run.records == 0 && link.run.records > 0 {
            let says = format!("part {n} was taken out; its link is left");
            self.torn = self.fault(FaultKind::Removed, n, place, says).map(|fault| Torn { fault, from: place.from });
        } else if run != link.run {
            let says = format!("part {n} is not what was written");
            let fault = self.fault(FaultKind::Changed, n, place, says);
            self.torn = fault.map(|fault| Torn { fault, from: place.from });
            self.others.extend(fault.map(|fault| Other { part: n, digest: run.digest, fault }));
        } else {
            self.good(place);
        }
    }

    /// A part that is what was written, at its place.
    fn good(&mut self, place: Place) {
        self.verdict.parts += 1;
        self.torn = None;
        if let Some((first, last)) = place.span {
            let (low, high) = self.verdict.span.unwrap_or((first, last));
            self.verdict.span = Some((low.min(first), high.max(last)));
        }
    }

    fn genuine(&mut self, link: &Link, chain: &Hash) -> bool {
        let Some(head) = &self.head else { return false };
        match (&head.key, &link.signature) {
            (Some(key), Some(signature)) => key.verifies(&head.signed(chain), signature),
            (None, None) => {
                self.unsigned = true;
                true
            }
            _ => false,
        }
    }

    /// A record of the chain's name that is none of its records.
    pub(super) fn broken_link(&mut self, offset: u64, run_from: u64) {
        self.verdict.chained = true;
        let place = Place { from: offset, ..Place::default() };
        let says = "a record of the chain is not as the agent writes it".to_owned();
        self.torn = self.fault(FaultKind::Chain, 0, place, says).map(|fault| Torn { fault, from: run_from });
    }

    /// The end of the data, with what stands behind the last link.
    pub(super) fn end_of_data(&mut self, run: Run, loose: Place, len: u64) {
        if self.ended {
            if run.records > 0 {
                self.fault(
                    FaultKind::Added,
                    0,
                    loose,
                    "records behind the last part, which nobody wrote there".to_owned(),
                );
            }
        } else {
            // No power cut closes a file: what is wrong before this is no tear.
            self.ends_at(loose.from, len, "it was closed without the last link of its chain");
        }
    }

    /// The index does not fit.
    pub(super) fn tail(&mut self, offset: u64, says: index::Tail, len: u64) {
        let place = Place { from: offset, ..Place::default() };
        match says {
            index::Tail::Missing(why) if self.verdict.cut.is_none() => {
                self.verdict.cut = Some(CutOff { offset, bytes: len.saturating_sub(offset), says: why.to_owned() });
            }
            index::Tail::Missing(_) => {}
            // It follows from any fault that was found before.
            index::Tail::Data if !self.verdict.faults.is_empty() => {}
            index::Tail::Data => {
                self.fault(FaultKind::Index, 0, place, "the checksum of the data does not fit".to_owned());
            }
            index::Tail::Wrong(why) => {
                self.fault(FaultKind::Index, 0, place, why);
            }
        }
    }

    /// The file ends before its end; what stands from `from` on has no link.
    pub(super) fn cut(&mut self, from: u64, len: u64, why: &str) {
        let mut from = from;
        // A link that was synced before its part, or a part that was not: nothing behind it is good, so it is of the cut.
        if let Some(torn) = self.torn.take()
            && torn.fault + 1 == self.verdict.faults.len()
        {
            self.verdict.faults.pop();
            self.others.retain(|o| o.fault != torn.fault);
            from = torn.from;
        }
        self.ends_at(from, len, why);
    }

    fn ends_at(&mut self, from: u64, len: u64, why: &str) {
        if self.verdict.chained {
            let bytes = len.saturating_sub(from);
            self.verdict.cut = Some(CutOff { offset: from, bytes, says: why.to_owned() });
        }
    }

    /// Records cannot be told apart from `at` on. A file that ends as a whole one was not cut but changed.
    pub(super) fn unreadable(&mut self, at: u64, run_from: u64, len: u64, why: &str, closed: bool) {
        if closed {
            let place = Place { from: at, ..Place::default() };
            let part = self.expected.max(1);
            self.fault(FaultKind::Unreadable, part, place, format!("{why}: nothing from here on can be read"));
        } else {
            self.cut(run_from, len, why);
        }
    }

    /// Notes a fault and gives its place in the list, if it is listed.
    fn fault(&mut self, kind: FaultKind, part: u32, place: Place, says: String) -> Option<usize> {
        let faults = &mut self.verdict.faults;
        if faults.len() >= MAX_FAULTS {
            self.verdict.more_faults = self.verdict.more_faults.saturating_add(1);
            return None;
        }
        faults.push(Fault { kind, part, offset: place.from, span: place.span, says });
        Some(faults.len() - 1)
    }

    pub(super) fn verdict(mut self) -> Verdict {
        for other in std::mem::take(&mut self.others) {
            let from = self.stated.get(&other.digest).copied();
            if let (Some(from), Some(fault)) = (from, self.verdict.faults.get_mut(other.fault)) {
                fault.kind = FaultKind::Moved;
                fault.says = format!("at the place of part {} stands what was written as part {from}", other.part);
            }
        }
        for part in std::mem::take(&mut self.missing) {
            // With a cut file's torn link the number is nobody's word either.
            self.fault(FaultKind::Removed, part, Place::default(), format!("part {part} is not there"));
        }
        if self.verdict.chained && self.head.is_none() {
            let says = "the beginning of the chain, which says whose it is, is not there".to_owned();
            self.fault(FaultKind::Chain, 0, Place::default(), says);
        }
        self.verdict.signed = self.verdict.key.is_some() && !self.unsigned && self.verdict.parts > 0;
        self.verdict
    }
}
