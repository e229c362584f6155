//! Small pieces of HTML: escaping, base64, tables. Everything that is not a literal of this module's callers goes
//! through [`escape`].

use super::limits::MAX_TEXT;

/// The text with the five characters that mean something to HTML made harmless, control characters replaced, and
/// cut off after [`MAX_TEXT`] characters.
pub(crate) fn escape(text: &str) -> String {
    let mut out = escape_whole(&text.chars().take(MAX_TEXT).collect::<String>());
    if text.chars().nth(MAX_TEXT).is_some() {
        out.push('…');
    }
    out
}

/// [`escape`] without the cut: for text whose length its maker bounds (a message's JSON).
pub(crate) fn escape_whole(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            // Also the marks that turn the direction of writing, with which a name could rewrite its surroundings.
            c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                out.push('\u{fffd}')
            }
            c => out.push(c),
        }
    }
    out
}

/// Standard base64 with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = group.iter().fold(0u32, |w, b| w << 8 | u32::from(*b)) << (8 * (3 - group.len()));
        for k in 0..4 {
            let digit = DIGITS.get((word >> (18 - 6 * k) & 63) as usize).copied().unwrap_or(b'=');
            out.push(if k > group.len() { '=' } else { char::from(digit) });
        }
    }
    out
}

/// A table of names and values; values are HTML already.
#[derive(Default)]
pub(crate) struct Rows(String);

impl Rows {
    /// A row whose value is text.
    pub(crate) fn text(&mut self, name: &str, value: &str) {
        self.html(name, &escape(value));
    }

    /// A row whose value is HTML of our own making.
    pub(crate) fn html(&mut self, name: &str, value: &str) {
        self.0.push_str(&format!("<tr><th scope=\"row\">{}</th><td>{value}</td></tr>\n", escape(name)));
    }

    /// The table, with a caption.
    pub(crate) fn table(&self, caption: &str) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        format!("<table><caption>{}</caption><tbody>\n{}</tbody></table>\n", escape(caption), self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_to_html_is_made_harmless() {
        assert_eq!(escape("<a href=\"x\" b='y'>&"), "&lt;a href=&quot;x&quot; b=&#39;y&#39;&gt;&amp;");
        assert_eq!(escape("a\u{0}b\u{202e}c"), "a\u{fffd}b\u{fffd}c");
        assert_eq!(escape(&"é".repeat(1000)).chars().count(), MAX_TEXT + 1);
    }

    #[test]
    fn base64_as_in_rfc_4648() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }
}
