//! Reads checked values out of the merged tree and notes every problem on the way.
//!
//! Terms: a *section* is a table under reading with its dotted path; [`At`] is a value with the spot that wrote it. A
//! faulty value is noted once and stands in with a harmless one, so that reading goes on; the caller never uses the
//! result when a problem was noted. Nothing here knows the sections' meaning.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::error::Problem;
use super::limits::MAX_TEXT_BYTES;
use super::tree::{Files, Node, Spot, Table, Value};

static EMPTY: Table = Table(BTreeMap::new());

/// A value and where it was written; no spot when it was faulty, so that no second problem is made of it.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) spot: Option<Spot>,
}

/// A table under reading.
pub(super) struct Section<'t> {
    path: String,
    table: &'t Table,
    spot: Spot,
    known: Vec<&'static str>,
    /// The table itself was faulty: what it lacks is not worth a word.
    hollow: bool,
}

impl<'t> Section<'t> {
    /// The top of the tree.
    pub(super) fn top(table: &'t Table) -> Self {
        let spot = Spot { file: 0, from: 0, to: 0 };
        Self { path: String::new(), table, spot, known: Vec::new(), hollow: false }
    }

    /// A table in a list, under a path such as `trigger.signals[0]`.
    pub(super) fn entry(files: &mut Files, path: String, node: &'t Node) -> Self {
        let (table, hollow) = match &node.value {
            Value::Table(table) => (table, false),
            _ => {
                wanted(files, &path, node, "a table");
                (&EMPTY, true)
            }
        };
        Self { path, table, spot: node.spot, known: Vec::new(), hollow }
    }

    /// The dotted path of a key.
    pub(super) fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Where the section begins.
    pub(super) fn spot(&self) -> Spot {
        self.spot
    }

    /// Whether a key is there; it counts as known from then on.
    pub(super) fn has(&mut self, key: &'static str) -> bool {
        self.known.push(key);
        self.table.0.contains_key(key)
    }

    /// The value of a key, if it is there.
    pub(super) fn optional(&mut self, key: &'static str) -> Option<&'t Node> {
        self.known.push(key);
        self.table.0.get(key).map(|(_, node)| node)
    }

    /// The same by another name of a key, which hints leave out where it is not used.
    pub(super) fn alias(&mut self, name: &'static str) -> Option<&'t Node> {
        let (_, node) = self.table.0.get(name)?;
        self.known.push(name);
        Some(node)
    }

    /// The value of a key that must be there.
    fn needed(&mut self, files: &mut Files, key: &'static str, wanted: &str) -> Option<&'t Node> {
        let node = self.optional(key);
        if node.is_none() && !self.hollow {
            files.problem(self.spot, Problem::Missing { key: self.key(key), wanted: wanted.to_owned() });
        }
        node
    }

    /// A table inside this one.
    pub(super) fn section(&mut self, files: &mut Files, key: &'static str) -> Section<'t> {
        let path = self.key(key);
        match self.needed(files, key, "a table") {
            Some(node) => Section::entry(files, path, node),
            None => Section { path, table: &EMPTY, spot: self.spot, known: Vec::new(), hollow: true },
        }
    }

    /// A list.
    pub(super) fn list(&mut self, files: &mut Files, key: &'static str, most: usize) -> At<&'t [Node]> {
        let faulty = At { value: &[][..], spot: None };
        let Some(node) = self.needed(files, key, "a list") else { return faulty };
        let Value::List(list) = &node.value else {
            wanted(files, &self.key(key), node, "a list");
            return faulty;
        };
        if list.len() > most {
            let value = format!("a list of {}", list.len());
            files.problem(
                node.spot,
                Problem::Refused { key: self.key(key), value, reason: format!("more than {most}") },
            );
            return faulty;
        }
        At { value: list, spot: Some(node.spot) }
    }

    /// A number from `min` to `max`.
    pub(super) fn real(&mut self, files: &mut Files, key: &'static str, min: f32, max: f32) -> At<f32> {
        let wanted = format!("a number from {min} to {max}");
        match self.needed(files, key, &wanted) {
            Some(node) => real(files, &self.key(key), node, min, max),
            None => At { value: min, spot: None },
        }
    }

    /// A number from `min` to `max`, or nothing.
    pub(super) fn real_or_none(&mut self, files: &mut Files, key: &'static str, min: f32, max: f32) -> Option<At<f32>> {
        self.optional(key).map(|node| real(files, &self.key(key), node, min, max))
    }

    /// A whole number from `min` to `max`.
    pub(super) fn whole(&mut self, files: &mut Files, key: &'static str, min: u32, max: u32) -> At<u32> {
        let wanted = format!("a whole number from {min} to {max}");
        match self.needed(files, key, &wanted) {
            Some(node) => whole(files, &self.key(key), node, min, max),
            None => At { value: min, spot: None },
        }
    }

    /// A whole number from `min` to `max`, or nothing.
    pub(super) fn whole_or_none(
        &mut self,
        files: &mut Files,
        key: &'static str,
        min: u32,
        max: u32,
    ) -> Option<At<u32>> {
        self.optional(key).map(|node| whole(files, &self.key(key), node, min, max))
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, files: &mut Files, key: &'static str) -> At<bool> {
        match self.needed(files, key, "true or false") {
            Some(Node { value: Value::Flag(flag), spot }) => At { value: *flag, spot: Some(*spot) },
            Some(node) => {
                wanted(files, &self.key(key), node, "true or false");
                At { value: false, spot: None }
            }
            None => At { value: false, spot: None },
        }
    }

    /// Text; `what` says in an error what is wanted.
    pub(super) fn text(&mut self, files: &mut Files, key: &'static str, what: &str) -> At<String> {
        match self.needed(files, key, what) {
            Some(node) => text(files, &self.key(key), node, what),
            None => At { value: String::new(), spot: None },
        }
    }

    /// Text turned into a checked type by `check`, whose error ends the sentence `KEY is VALUE, ...`.
    pub(super) fn checked<T>(
        &mut self,
        files: &mut Files,
        key: &'static str,
        what: &str,
        check: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<At<T>> {
        let At { value, spot } = self.text(files, key, what);
        let spot = spot?;
        match check(&value) {
            Ok(value) => Some(At { value, spot: Some(spot) }),
            Err(reason) => {
                refuse(files, spot, self.key(key), reason);
                None
            }
        }
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&mut self, files: &mut Files, key: &'static str, words: &[(&str, T)]) -> Option<At<T>> {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        let what = format!("one of {}", names.join(", "));
        let node = self.needed(files, key, &what)?;
        let Value::Text(text) = &node.value else {
            wanted(files, &self.key(key), node, &what);
            return None;
        };
        match words.iter().find(|(name, _)| name == text) {
            Some((_, value)) => Some(At { value: *value, spot: Some(node.spot) }),
            None => {
                wanted(files, &self.key(key), node, &what);
                None
            }
        }
    }

    /// A path, not empty.
    pub(super) fn path(&mut self, files: &mut Files, key: &'static str) -> PathBuf {
        self.checked(files, key, "a path", path).map_or_else(PathBuf::new, |at| at.value)
    }

    /// A path, or the word `none`.
    pub(super) fn path_or_none(&mut self, files: &mut Files, key: &'static str) -> At<Option<PathBuf>> {
        let check = |text: &str| if text == "none" { Ok(None) } else { path(text).map(Some) };
        self.checked(files, key, "a path or \"none\"", check).unwrap_or(At { value: None, spot: None })
    }

    /// Notes each key that nobody asked for.
    pub(super) fn finish(self, files: &mut Files) {
        for (key, (spot, _)) in &self.table.0 {
            if self.known.contains(&key.as_str()) {
                continue;
            }
            // Short keys are all near each other: one slip in three letters at most.
            let close = |d: usize| d <= 2 && d * 3 <= key.len();
            let near = self.known.iter().map(|k| (distance(k, key), k)).min().filter(|(d, _)| close(*d));
            let hint = match near {
                Some((_, near)) => format!("did you mean {near}?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            // As written: a quoted key may hold what a terminal must not see.
            let key = self.key(&files.quote(*spot));
            files.problem(*spot, Problem::UnknownKey { key, hint });
        }
    }
}

/// A path as a checked value.
fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("empty".to_owned()) } else { Ok(PathBuf::from(text)) }
}

/// Notes that the value at `spot` breaks a rule.
pub(super) fn refuse(files: &mut Files, spot: Spot, key: String, reason: String) {
    let value = without_credentials(&files.quote(spot));
    files.problem(spot, Problem::Refused { key, value, reason });
}

/// A refused URL is shown without its user and password, one of a token without a PIN: errors end up in logs.
fn without_credentials(quoted: &str) -> String {
    if let Some((before, _)) = quoted.split_once("pin-value") {
        return format!("{before}pin-value=...\"");
    }
    match (quoted.split_once("://"), quoted.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://...@{host}"),
        _ => quoted.to_owned(),
    }
}

fn wanted(files: &mut Files, key: &str, node: &Node, wanted: &str) {
    let value = match node.value {
        Value::Table(_) => "a table".to_owned(),
        Value::List(_) => "a list".to_owned(),
        _ => files.quote(node.spot),
    };
    files.problem(node.spot, Problem::Wanted { key: key.to_owned(), value, wanted: wanted.to_owned() });
}

/// Text of a node.
pub(super) fn text(files: &mut Files, key: &str, node: &Node, what: &str) -> At<String> {
    match &node.value {
        Value::Text(text) if text.len() > MAX_TEXT_BYTES => {
            refuse(files, node.spot, key.to_owned(), format!("longer than {MAX_TEXT_BYTES} bytes"));
        }
        Value::Text(text) if text.chars().any(char::is_control) => {
            refuse(files, node.spot, key.to_owned(), "with a control character".to_owned());
        }
        Value::Text(text) => return At { value: text.clone(), spot: Some(node.spot) },
        _ => wanted(files, key, node, what),
    }
    At { value: String::new(), spot: None }
}

fn real(files: &mut Files, key: &str, node: &Node, min: f32, max: f32) -> At<f32> {
    let faulty = At { value: min, spot: None };
    let number = match node.value {
        Value::Real(Some(x)) => x as f32,
        Value::Whole(Some(n)) => n as f32,
        _ => {
            wanted(files, key, node, &format!("a number from {min} to {max}"));
            return faulty;
        }
    };
    let reason = if number.is_nan() {
        "not a number".to_owned()
    } else if number < min {
        format!("below {min}")
    } else if number > max {
        format!("above {max}")
    } else {
        return At { value: number, spot: Some(node.spot) };
    };
    refuse(files, node.spot, key.to_owned(), reason);
    faulty
}

/// A whole number of a node.
pub(super) fn whole(files: &mut Files, key: &str, node: &Node, min: u32, max: u32) -> At<u32> {
    let faulty = At { value: min, spot: None };
    let reason = match node.value {
        Value::Whole(Some(n)) if n < i64::from(min) => format!("below {min}"),
        Value::Whole(Some(n)) => match u32::try_from(n) {
            Ok(n) if n <= max => return At { value: n, spot: Some(node.spot) },
            _ => format!("above {max}"),
        },
        Value::Whole(None) => "more than 64 bits hold".to_owned(),
        _ => {
            wanted(files, key, node, &format!("a whole number from {min} to {max}"));
            return faulty;
        }
    };
    refuse(files, node.spot, key.to_owned(), reason);
    faulty
}

/// Edit distance of two keys, for a hint; keys far apart in length are not compared.
fn distance(a: &str, b: &str) -> usize {
    if a.len().abs_diff(b.len()) > 2 {
        return usize::MAX;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, cb) in b.iter().enumerate() {
            let change = row.get(j).copied().unwrap_or(0) + usize::from(ca != *cb);
            let insert = next.last().copied().unwrap_or(0) + 1;
            let delete = row.get(j + 1).copied().unwrap_or(0) + 1;
            next.push(change.min(insert).min(delete));
        }
        row = next;
    }
    row.last().copied().unwrap_or(usize::MAX)
}
