//! Relative links of Markdown files. Links to other sites are not followed: tests need no network.

use super::tree::File;

/// Findings of one file. `exists` is asked with paths from the root.
pub(crate) fn findings(file: &File, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (number, target) in targets(&file.text) {
        let path = target.split(['#', '?']).next().unwrap_or("");
        let elsewhere = target.contains("://") || target.starts_with("mailto:");
        if elsewhere || path.is_empty() {
            continue;
        }
        let whole = match path.strip_prefix('/') {
            Some(from_root) => Some(from_root.to_owned()),
            None => resolve(&file.path, path),
        };
        if !whole.is_some_and(|p| exists(&p)) {
            found.push(format!("{}:{number}: the link to {target} leads nowhere", file.path));
        }
    }
    found
}

/// Line numbers and targets of `[text](target)` and `[name]: target`, code left out.
fn targets(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
            continue;
        }
        if in_code {
            continue;
        }
        let line = without_code(line);
        let inline = line.match_indices("](").filter_map(|(at, _)| line[at + 2..].split(')').next());
        let defined = line.strip_prefix('[').and_then(|l| l.split_once("]: ")).map(|(_, target)| target);
        for target in inline.chain(defined) {
            // A title may follow the target.
            let target = target.split_whitespace().next().unwrap_or("").trim_matches(['<', '>']);
            found.push((number + 1, target.to_owned()));
        }
    }
    found
}

/// The line without what stands between back-quotes.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

/// `target` as seen from the file `from`; `None` when it leaves the repository.
fn resolve(from: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_leads_nowhere() {
        let text = "[a](b.md) [c](../d.md#part) ![p](img/p.png \"title\") [e](https://x.invalid/y) [f](#here)\n\
                    ```\n[no](no.md)\n```\n`[no](no.md)` [g](gone.md)\n[h]: ../../out.md\n[i](/d.md)\n";
        let file = File { path: "docs/a.md".into(), text: text.into() };
        let there = ["docs/b.md", "d.md", "docs/img/p.png"];
        assert_eq!(
            findings(&file, &|path| there.contains(&path)),
            ["docs/a.md:5: the link to gone.md leads nowhere", "docs/a.md:6: the link to ../../out.md leads nowhere"]
        );
    }
}
