//! A configuration file as a tree of values that remember where they were written, and the merging of files.
//!
//! Terms: a *spot* is a file's number in the chain and a byte offset in it; number 0 is the user's own file. Merging is
//! by table: a table of the child adds to the parent's, any other value (arrays too) replaces it.
//!
//! Why not serde into a structure of options per file: serde stops at the first unknown key or wrong type, and a
//! merged value must still name the file and line that wrote it. Here every problem of every file is found in one go.
//! Nothing here knows what a key means.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, ConfigErrors, Place, Problem};
use super::limits::{MAX_DEPTH, MAX_PROBLEMS, MAX_QUOTED_CHARS};

/// Where a value was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    /// Number of the file in the chain.
    pub(super) file: usize,
    /// First byte.
    pub(super) from: usize,
    /// Byte after the last.
    pub(super) to: usize,
}

/// A value and its spot.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) spot: Spot,
    pub(super) value: Value,
}

/// A value of TOML, as far as a configuration has use for it.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    /// `None` when it does not fit in 64 bits.
    Whole(Option<i64>),
    /// `None` when it does not parse.
    Real(Option<f64>),
    Flag(bool),
    /// Dates have no use here.
    Date,
    List(Vec<Node>),
    Table(Table),
}

/// A table: each key with the spot of the key and its value, in the order of the alphabet.
#[derive(Clone, Debug, Default)]
pub(super) struct Table(pub(super) BTreeMap<String, (Spot, Node)>);

impl Table {
    /// The value at a path of keys.
    pub(super) fn find(&self, path: &[&str]) -> Option<&Node> {
        let (last, tables) = path.split_last()?;
        let table = tables.iter().try_fold(self, |table, key| match table.0.get(*key) {
            Some((_, Node { value: Value::Table(inner), .. })) => Some(inner),
            _ => None,
        })?;
        table.0.get(*last).map(|(_, node)| node)
    }

    /// Lays `over` on this table.
    pub(super) fn merge(&mut self, over: Self) {
        // Recursion is bounded by MAX_DEPTH, which `Files::parse` has enforced.
        for (key, (spot, node)) in over.0 {
            match (self.0.get_mut(&key).map(|(_, node)| node), node) {
                (
                    Some(Node { value: Value::Table(under), spot: s }),
                    Node { value: Value::Table(table), spot: over },
                ) => {
                    *s = over;
                    under.merge(table);
                }
                (_, node) => {
                    self.0.insert(key, (spot, node));
                }
            }
        }
    }
}

/// The files of one configuration and the problems found in them so far.
#[derive(Debug, Default)]
pub(super) struct Files {
    files: Vec<(String, String)>,
    problems: Vec<(Option<Spot>, Problem)>,
    omitted: usize,
}

impl Files {
    /// Adds a file to the chain and gives its number.
    pub(super) fn add(&mut self, name: String, text: String) -> usize {
        self.files.push((name, text));
        self.files.len() - 1
    }

    /// Notes a problem at a spot.
    pub(super) fn problem(&mut self, spot: Spot, problem: Problem) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push((Some(spot), problem));
        } else {
            self.omitted += 1;
        }
    }

    /// Whether nothing was wrong so far.
    pub(super) fn sound(&self) -> bool {
        self.problems.is_empty()
    }

    /// The problems, in the order of the files and their lines.
    pub(super) fn into_errors(mut self) -> ConfigErrors {
        let mut problems = core::mem::take(&mut self.problems);
        problems.sort_by_key(|(spot, _)| *spot);
        let list =
            problems.into_iter().map(|(spot, problem)| ConfigError { place: self.place(spot), problem }).collect();
        ConfigErrors { list, omitted: self.omitted }
    }

    /// What a spot is called in an error.
    pub(super) fn place(&self, spot: Option<Spot>) -> Place {
        let Some((spot, (name, text))) = spot.and_then(|s| self.files.get(s.file).map(|f| (s, f))) else {
            return Place { file: String::new(), at: None };
        };
        // Only whole characters before the spot count; a spot inside a character cannot come from the parser.
        let before = text.get(..spot.from).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        Place { file: name.clone(), at: Some((line, column)) }
    }

    /// A value as it was written, on one line, shortened to what an error can show.
    pub(super) fn quote(&self, spot: Spot) -> String {
        let text = self.files.get(spot.file).and_then(|(_, text)| text.get(spot.from..spot.to)).unwrap_or("?");
        let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if line.chars().count() <= MAX_QUOTED_CHARS {
            return line;
        }
        let mut short: String = line.chars().take(MAX_QUOTED_CHARS).collect();
        short.push_str("...");
        short
    }

    /// Parses a file of the chain. Problems of syntax are noted; what could be read is returned all the same, so that
    /// the caller must ask [`Self::sound`].
    pub(super) fn parse(&mut self, file: usize) -> Table {
        let Some(text) = self.files.get(file).map(|(_, text)| text.clone()) else {
            return Table::default();
        };
        let (table, errors) = DeTable::parse_recoverable(&text);
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            let spot = Spot { file, from: span.start, to: span.end };
            let message = match error.message() {
                // What the parser says of a value that is absent, or text without quotes, misleads.
                m if m.starts_with("string values must be quoted") => {
                    "a value is wanted here; text stands in double quotes".to_owned()
                }
                m @ "duplicate key" => format!("{m} {}", self.quote(spot)),
                m => m.to_owned(),
            };
            self.problem(spot, Problem::Syntax(message));
        }
        self.table(file, table.into_inner(), 1)
    }

    fn table(&mut self, file: usize, table: DeTable<'_>, depth: usize) -> Table {
        let mut out = BTreeMap::new();
        for (key, value) in table {
            let span = key.span();
            let spot = Spot { file, from: span.start, to: span.end };
            let node = self.node(file, value, depth);
            out.insert(key.into_inner().into_owned(), (spot, node));
        }
        Table(out)
    }

    fn node(&mut self, file: usize, value: Spanned<DeValue<'_>>, depth: usize) -> Node {
        let span = value.span();
        let spot = Spot { file, from: span.start, to: span.end };
        let value = value.into_inner();
        if depth > MAX_DEPTH && matches!(value, DeValue::Array(_) | DeValue::Table(_)) {
            self.problem(spot, Problem::TooDeep(MAX_DEPTH));
            return Node { spot, value: Value::Date };
        }
        let value = match value {
            DeValue::String(text) => Value::Text(text.into_owned()),
            DeValue::Integer(n) => Value::Whole(i64::from_str_radix(n.as_str(), n.radix()).ok()),
            DeValue::Float(x) => Value::Real(x.as_str().parse().ok()),
            DeValue::Boolean(flag) => Value::Flag(flag),
            DeValue::Datetime(_) => Value::Date,
            DeValue::Array(list) => Value::List(list.into_iter().map(|v| self.node(file, v, depth + 1)).collect()),
            DeValue::Table(table) => Value::Table(self.table(file, table, depth + 1)),
        };
        Node { spot, value }
    }
}
