//! BLEU of a corpus as sacrebleu computes it (tokenizer 13a, exponential smoothing, four-grams) and ROUGE-1, 2 and L as
//! rouge-score does (lower case, letters and digits, no stemmer). Both from 0 to 1.

use std::collections::HashMap;

const ORDERS: usize = 4;

/// Replaces each pair of neighbours that `matches` by `put`, from left to right, without overlap.
fn pairs(text: &str, matches: fn(char, char) -> bool, put: fn(char, char) -> String) -> String {
    let chars: Vec<char> = text.chars().collect();
    let (mut out, mut i) = (String::with_capacity(text.len() * 2), 0);
    while let Some(&a) = chars.get(i) {
        match chars.get(i + 1) {
            Some(&b) if matches(a, b) => {
                out.push_str(&put(a, b));
                i += 2;
            }
            _ => {
                out.push(a);
                i += 1;
            }
        }
    }
    out
}

/// Tokens of mteval-v13a, of a line whose end sacrebleu trims first: a hyphen before a last line break stays one.
pub fn tokens_13a(line: &str) -> Vec<String> {
    // Python's white space, which counts four separators more than Unicode's.
    let line = line.trim_end_matches(|c: char| c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}'));
    let mut text = line.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    if text.contains('&') {
        text = text.replace("&quot;", "\"").replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">");
    }
    let mut spaced = String::from(" ");
    for c in text.chars() {
        if matches!(c, '{'..='~' | '['..='`' | ' '..='&' | '('..='+' | ':'..='@' | '/') {
            spaced.extend([' ', c, ' ']);
        } else {
            spaced.push(c);
        }
    }
    spaced.push(' ');
    let text = pairs(&spaced, |a, b| !a.is_ascii_digit() && matches!(b, '.' | ','), |a, b| format!("{a} {b} "));
    let text = pairs(&text, |a, b| matches!(a, '.' | ',') && !b.is_ascii_digit(), |a, b| format!(" {a} {b}"));
    let text = pairs(&text, |a, b| a.is_ascii_digit() && b == '-', |a, b| format!("{a} {b} "));
    text.split_whitespace().map(str::to_owned).collect()
}

fn grams(tokens: &[String], order: usize) -> HashMap<&[String], usize> {
    let mut counts = HashMap::new();
    for gram in tokens.windows(order) {
        *counts.entry(gram).or_insert(0) += 1;
    }
    counts
}

/// How many n-grams both have, each counted as often as in the one that has it less often.
fn common(a: &[String], b: &[String], order: usize) -> usize {
    let theirs = grams(b, order);
    grams(a, order).iter().map(|(gram, n)| theirs.get(gram).map_or(0, |m| *n.min(m))).sum()
}

/// What one pair adds to the BLEU of its corpus: small, so that a bootstrap need not tokenise again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BleuCounts {
    right: [usize; ORDERS],
    total: [usize; ORDERS],
    answer: usize,
    reference: usize,
}

impl BleuCounts {
    /// Counts of one answer against its reference.
    pub fn of(answer: &str, reference: &str) -> Self {
        let (answer, reference) = (tokens_13a(answer), tokens_13a(reference));
        let mut counts = Self { answer: answer.len(), reference: reference.len(), ..Self::default() };
        for order in 1..=ORDERS {
            counts.right[order - 1] = common(&answer, &reference, order);
            counts.total[order - 1] = (answer.len() + 1).saturating_sub(order);
        }
        counts
    }
}

/// BLEU of a corpus, 0 to 1.
pub fn bleu<'a>(pairs: impl IntoIterator<Item = &'a BleuCounts>) -> Option<f64> {
    let (mut all, mut n) = (BleuCounts::default(), 0);
    for one in pairs {
        for k in 0..ORDERS {
            all.right[k] += one.right[k];
            all.total[k] += one.total[k];
        }
        all.answer += one.answer;
        all.reference += one.reference;
        n += 1;
    }
    if n == 0 {
        return None;
    }
    // Without a single four-gram the product has a factor of nothing.
    if all.right.iter().all(|r| *r == 0) || all.total.contains(&0) {
        return Some(0.0);
    }
    let (mut smooth, mut log_sum) = (1.0, 0.0);
    for (right, total) in all.right.iter().zip(all.total) {
        let precision = if *right == 0 {
            smooth *= 2.0;
            1.0 / (smooth * total as f64)
        } else {
            *right as f64 / total as f64
        };
        log_sum += f64::ln(precision);
    }
    let brevity = if all.answer < all.reference { (1.0 - all.reference as f64 / all.answer as f64).exp() } else { 1.0 };
    Some(brevity * (log_sum / ORDERS as f64).exp())
}

/// F measures of one answer against its reference.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rouge {
    /// Single words.
    pub one: f64,
    /// Pairs of words.
    pub two: f64,
    /// Longest common subsequence.
    pub l: f64,
}

fn f_measure(common: usize, answer: usize, reference: usize) -> f64 {
    let (precision, recall) = (common as f64 / answer.max(1) as f64, common as f64 / reference.max(1) as f64);
    if common == 0 { 0.0 } else { 2.0 * precision * recall / (precision + recall) }
}

/// ROUGE of one pair.
pub fn rouge(answer: &str, reference: &str) -> Rouge {
    let tokens = |text: &str| -> Vec<String> {
        let text = text.to_lowercase();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty());
        words.map(str::to_owned).collect()
    };
    let (a, b) = (tokens(answer), tokens(reference));
    let gram =
        |n: usize| f_measure(common(&a, &b, n), (a.len() + 1).saturating_sub(n), (b.len() + 1).saturating_sub(n));
    Rouge { one: gram(1), two: gram(2), l: f_measure(longest(&a, &b), a.len(), b.len()) }
}

/// Length of the longest common subsequence.
fn longest(a: &[String], b: &[String]) -> usize {
    let mut row = vec![0; b.len() + 1];
    for x in a {
        let mut diagonal = 0;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if x == y { diagonal + 1 } else { above.max(row[j]) };
            diagonal = above;
        }
    }
    row.last().copied().unwrap_or(0)
}
