//! The README and `--help` say the same: every command and flag that the README shows exists.

use std::collections::{BTreeMap, BTreeSet};

use super::binary::run;

/// Commands of the design. Those that are not built yet are missing in `--help`, never the other way round.
const DESIGNED: [&str; 17] = [
    "run",
    "record",
    "demo",
    "replay",
    "import",
    "simulate",
    "eval",
    "listen",
    "inspect",
    "keys",
    "command",
    "update",
    "models",
    "student",
    "ask",
    "check-config",
    "doctor",
];

/// What stands before the arguments of a call in the README.
const CALLS: [&str; 4] =
    ["firmware-agent ", "cargo run --release -- ", "cargo run -q --release -- ", "./target/release/firmware-agent "];

fn help(args: &[&str]) -> String {
    let args: Vec<&str> = args.iter().copied().chain(["--help"]).collect();
    run(&crate::tidy::root(), &args).with_code(0).stdout
}

/// Names in the list of commands of a `--help`.
fn commands(text: &str) -> Vec<String> {
    let list = text.lines().skip_while(|l| *l != "Commands:").skip(1).take_while(|l| !l.is_empty());
    // A line that goes on is indented deeper.
    let names =
        list.filter(|l| l.starts_with("  ") && !l.starts_with("   ")).filter_map(|l| l.split_whitespace().next());
    names.filter(|n| *n != "help").map(str::to_owned).collect()
}

/// Flags in the options of a `--help`, long and short.
fn flags(text: &str) -> BTreeSet<String> {
    let lines = text.lines().map(str::trim_start).filter(|l| l.starts_with('-'));
    let words =
        lines.flat_map(|l| l.split("  ").next().unwrap_or("").split([' ', ',', '='])).filter(|w| w.starts_with('-'));
    words.map(|w| w.trim_end_matches("...").to_owned()).collect()
}

/// The calls of this program in the code blocks of Markdown: line number and arguments.
fn calls(markdown: &str) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    let (mut in_code, mut joined, mut begun) = (false, String::new(), 0);
    for (number, line) in markdown.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
            joined.clear();
            continue;
        }
        if !in_code {
            continue;
        }
        if joined.is_empty() {
            begun = number + 1;
        }
        let part = line.trim().trim_start_matches("$ ");
        if let Some(more) = part.strip_suffix('\\') {
            joined.push_str(more);
            continue;
        }
        joined.push_str(part);
        let whole = std::mem::take(&mut joined);
        let bare = whole.split(" #").next().unwrap_or("").split([';', '|', '&', '>']).next().unwrap_or("");
        if let Some(args) = CALLS.iter().find_map(|c| bare.strip_prefix(c)) {
            found.push((begun, args.split_whitespace().map(str::to_owned).collect()));
        }
    }
    found
}

/// What of the calls does not exist. `help` gives the text of `--help` of a command.
fn untrue(calls: &[(usize, Vec<String>)], known: &[String], help: &dyn Fn(&str) -> String) -> Vec<String> {
    let mut found = Vec::new();
    let mut texts = BTreeMap::new();
    for (line, args) in calls {
        let Some(command) = args.first() else { continue };
        let is_flag =
            |a: &&String| a.starts_with('-') && a.len() > 1 && !a[1..].starts_with(|c: char| c.is_ascii_digit());
        if !known.contains(command) {
            if !command.starts_with('-') && command != "help" {
                found.push(format!("line {line}: no command {command}"));
            }
            continue;
        }
        let there = texts.entry(command.clone()).or_insert_with(|| flags(&help(command)));
        for flag in args[1..].iter().filter(is_flag) {
            let name = flag.split('=').next().unwrap_or("");
            if !there.contains(name) {
                found.push(format!("line {line}: {command} has no {name}"));
            }
        }
    }
    found
}

#[test]
fn the_check_finds_what_is_untrue() {
    let readme = "firmware-agent gone\n```sh\n$ firmware-agent replay d.mcap \\\n    --out o --nope=1 -5  # --no\n\
                  cargo run --release -- listen -x | cat --y\nfirmware-agent fly\nls --z\n```\n";
    let help = |_: &str| "Options:\n      --out <OUT>  Where\n  -h, --help       Print\n".to_owned();
    let known = ["replay".to_owned(), "listen".to_owned()];
    assert_eq!(
        untrue(&calls(readme), &known, &help),
        ["line 3: replay has no --nope", "line 5: listen has no -x", "line 6: no command fly"]
    );
}

#[test]
fn every_command_is_of_the_design_and_has_help_of_its_own() {
    let known = commands(&help(&[]));
    assert!(known.len() >= 7, "{known:?}");
    for command in &known {
        assert!(DESIGNED.contains(&command.as_str()), "{command} is not of the design");
        let text = help(&[command]);
        assert!(text.contains(&format!("Usage: firmware-agent {command}")), "{text}");
        assert!(flags(&text).contains("--help"), "{text}");
    }
}

#[test]
fn what_the_readme_shows_exists() {
    let Ok(readme) = std::fs::read_to_string(crate::tidy::root().join("README.md")) else {
        println!("SKIPPED: there is no README.md");
        return;
    };
    let calls = calls(&readme);
    assert!(!calls.is_empty(), "the README shows no call");
    // With those of its own commands.
    let whole = |command: &str| {
        let text = help(&[command]);
        let nested: Vec<String> = commands(&text).iter().map(|sub| help(&[command, sub])).collect();
        text + &nested.concat()
    };
    let found = untrue(&calls, &commands(&help(&[])), &whole);
    assert!(found.is_empty(), "README.md:\n{}", found.join("\n"));
}

#[test]
fn help_states_the_exit_codes() {
    let text = help(&[]);
    for code in [
        "0 done",
        "1 failed",
        "2 wrong",
        "3 configuration",
        "4 input",
        "5 finished",
        "6 finished",
        "7 evidence",
        "8 an update",
    ] {
        assert!(text.contains(code), "{text}");
    }
}
