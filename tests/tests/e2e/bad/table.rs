//! The table of `firmware-agent/docs/bad-input.md`: made from the cases, held against the file.

use std::fmt::Write as _;

use super::Case;

const HEAD: &str = "# Broken inputs

What the agent does with inputs that are not what they should be. A test makes this table from what the program really
prints (`tests/tests/e2e/bad/`) and fails when it differs; `AGENT_UPDATE_DOCS=1 cargo test -p agent-tests` writes it
anew. Exit codes: 1 failed, 2 wrong command line, 3 configuration refused, 4 input unreadable, 5 finished with loss,
6 finished with messages undelivered, 7 evidence or update that nobody vouches for. Commands run in the folder of their files;
`data/` is the shared data folder.
";

/// Compares with the committed file, or writes it. Rows whose data are not here are taken as they stand there.
pub(super) fn hold(cases: &[Case], shown: &[Option<String>]) {
    let path = crate::tidy::root().join("firmware-agent/docs/bad-input.md");
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let text = render(cases, shown, &committed);
    if std::env::var_os("AGENT_UPDATE_DOCS").is_some() {
        assert!(shown.iter().all(Option::is_some), "the shared data are needed to write the whole table");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        return;
    }
    let differing: Vec<String> = text
        .lines()
        .filter(|l| !committed.lines().any(|c| c == *l))
        .map(|l| format!("+ {l}"))
        .chain(committed.lines().filter(|c| !text.lines().any(|l| l == *c)).map(|c| format!("- {c}")))
        .collect();
    assert!(text == committed, "firmware-agent/docs/bad-input.md is not what happens:\n{}", differing.join("\n"));
}

fn render(cases: &[Case], shown: &[Option<String>], committed: &str) -> String {
    let mut text = HEAD.to_owned();
    let mut group = "";
    for (case, shown) in cases.iter().zip(shown) {
        if case.group != group {
            group = case.group;
            let _ = write!(text, "\n## {group}\n\n| input | command | code | shown |\n|---|---|---|---|\n");
        }
        let command = if case.args.is_empty() { "(none)".to_owned() } else { format!("`{}`", case.args) };
        let start = format!("| {} | {command} | {} | ", case.what, case.code);
        let row = match shown {
            Some(shown) => format!("{start}{} |", cell(shown)),
            None => committed.lines().find(|l| l.starts_with(&start)).unwrap_or(&start).to_owned(),
        };
        text.push_str(&row);
        text.push('\n');
    }
    let _ = write!(text, "\n{} cases.\n", cases.len());
    text
}

/// Lines as code, so that nothing in them is read as markup.
fn cell(shown: &str) -> String {
    let lines = shown.lines().map(str::trim_end).filter(|l| !l.is_empty());
    let code = lines.map(|l| {
        let fence = if l.contains('`') { "``" } else { "`" };
        let l = l.replace('|', "\\|");
        if fence.len() > 1 { format!("{fence} {l} {fence}") } else { format!("{fence}{l}{fence}") }
    });
    code.collect::<Vec<_>>().join("<br>")
}

#[test]
fn a_row_holds_markup_as_text() {
    assert_eq!(cell("a|b\n\nuse `x`"), "`a\\|b`<br>`` use `x` ``");
    let one = super::case("G", "w", "inspect a", 4, &[]);
    let text = render(&[one], &[Some("no".to_owned())], "");
    assert!(text.contains("\n## G\n") && text.contains("| w | `inspect a` | 4 | `no` |\n"), "{text}");
    let again = render(&[super::case("G", "w", "inspect a", 4, &[])], &[None], &text);
    assert_eq!(again, text, "a row whose data are missing is kept");
}
