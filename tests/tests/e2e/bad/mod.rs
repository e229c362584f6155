//! Broken inputs over all commands: each ends with its exit code and says what is wrong and where; none panics or hangs.
//!
//! A *case* is a folder with files, a command run in it, and what must come of it. All cases together are the table in
//! `firmware-agent/docs/bad-input.md`; run the tests with `AGENT_UPDATE_DOCS=1` to write it anew.

mod config;
mod drives;
mod imports;
mod link;
mod messages;
mod models;
mod scenarios;
mod table;
mod trust;

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::binary::{Ended, Running};
use super::samples::data_folder;

/// A command that takes longer on a broken input hangs.
const LIMIT: Duration = Duration::from_secs(30);

type Make = Box<dyn Fn(&Path) + Send + Sync>;

/// See the module.
struct Case {
    group: &'static str,
    what: &'static str,
    make: Vec<Make>,
    args: String,
    code: i32,
    says: Vec<&'static str>,
    data: bool,
    limit: Duration,
}

/// A case without files that must end with `code` and say every one of `says`.
fn case(group: &'static str, what: &'static str, args: &str, code: i32, says: &[&'static str]) -> Case {
    Case { group, what, make: vec![], args: args.into(), code, says: says.to_vec(), data: false, limit: LIMIT }
}

impl Case {
    /// With a file of that content.
    fn file(self, name: &'static str, content: impl Into<Vec<u8>>) -> Self {
        let content = content.into();
        self.with(move |folder| fs::write(folder.join(name), &content).unwrap())
    }

    /// With what `make` puts into the folder.
    fn with(mut self, make: impl Fn(&Path) + Send + Sync + 'static) -> Self {
        self.make.push(Box::new(make));
        self
    }

    /// Needs the shared data, which the folder gets as `data`.
    fn data(mut self) -> Self {
        self.data = true;
        let link = |folder: &Path| std::os::unix::fs::symlink(data_folder().unwrap(), folder.join("data")).unwrap();
        self.make.insert(0, Box::new(link));
        self
    }

    /// Waits for the broker by design: longer than the others.
    fn patient(mut self) -> Self {
        self.limit *= 3;
        self
    }

    /// Runs it; `None` where its data are not there. Otherwise what was shown, or what is wrong with it.
    fn run(&self) -> Option<Result<String, String>> {
        if self.data && data_folder().is_none() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        self.make.iter().for_each(|make| make(folder.path()));
        let args: Vec<&str> = self.args.split_whitespace().collect();
        let ended = Running::start(folder.path(), &args).end(self.limit);
        let place = folder.path().canonicalize().unwrap();
        // Paths that were made absolute begin in this test's own folder, which has another name each time.
        let shown = shown(&ended, &args).replace(&format!("{}/", place.display()), "");
        let shown = shown.replace(&place.display().to_string(), ".");
        let mut wrong = Vec::new();
        if ended.hung {
            wrong.push("it hangs".to_owned());
        }
        if ended.code != Some(self.code) {
            wrong.push(format!("exit code {:?}, not {}", ended.code, self.code));
        }
        if ended.stderr.contains("panicked") || ended.stdout.contains("panicked") {
            wrong.push("it panics".to_owned());
        }
        let missing = self.says.iter().filter(|s| !shown.contains(*s)).map(|s| format!("does not say {s:?}"));
        wrong.extend(missing);
        if shown.trim().is_empty() {
            wrong.push("says nothing".to_owned());
        }
        let name = format!("{}: {} (firmware-agent {})", self.group, self.what, self.args);
        Some(if wrong.is_empty() { Ok(shown) } else { Err(format!("{name}: {}\n{shown}", wrong.join("; "))) })
    }
}

/// What a user sees of the error: stderr without lines of progress, of which some hold the wall clock; what
/// check-config found; the loss that inspect shows.
fn shown(ended: &Ended, args: &[&str]) -> String {
    // A new key is another one each time.
    let begun = |l: &str| l.starts_with("start ") || l.starts_with("this unit's key was made");
    let progress = |l: &&str| l.contains(" times real time)") || l.contains(" messages in ") || begun(l);
    let mut lines: Vec<&str> = ended.stderr.lines().filter(|l| !progress(l)).collect();
    match args.first() {
        Some(&"check-config") => lines.extend(ended.stdout.lines()),
        Some(&"inspect") => {
            let bad = |l: &&str| l.starts_with("\"loss\": \"") || l.starts_with("\"says\": \"");
            lines.extend(ended.stdout.lines().map(str::trim).filter(bad));
        }
        Some(&"listen") => lines.extend(ended.stdout.lines().filter(|l| l.contains("refused"))),
        _ => {}
    }
    if lines.contains(&"Commands:") {
        // The whole help: the other cases show what of it belongs to an error.
        lines.retain(|l| l.starts_with("Usage: "));
    }
    lines.retain(|l| !l.starts_with("For more information"));
    lines.join("\n")
}

fn all() -> Vec<Case> {
    let groups = [
        config::cases(),
        drives::cases(),
        imports::cases(),
        scenarios::cases(),
        messages::cases(),
        models::cases(),
        link::cases(),
        trust::cases(),
    ];
    groups.into_iter().flatten().collect()
}

#[test]
fn each_broken_input_ends_as_the_table_says() {
    let cases = all();
    assert!(cases.len() >= 40, "{} cases", cases.len());
    super::binary::path();
    super::samples::demo();
    // A few at a time: most wait for nothing, a few for a broker that is not there.
    let next = std::sync::atomic::AtomicUsize::new(0);
    let found = std::sync::Mutex::new(vec![None; cases.len()]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
                    && let Some(case) = cases.get(index)
                {
                    let outcome = case.run();
                    found.lock().unwrap()[index] = outcome;
                }
            });
        }
    });
    let found = found.into_inner().unwrap();
    let wrong: Vec<&String> = found.iter().flatten().filter_map(|f| f.as_ref().err()).collect();
    let texts: Vec<String> = wrong.iter().map(|w| format!("--- {w}")).collect();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), texts.join("\n"));
    let skipped = found.iter().filter(|f| f.is_none()).count();
    if skipped > 0 {
        println!("SKIPPED: {skipped} cases need the shared data");
    }
    let shown: Vec<Option<String>> = found.into_iter().map(|f| f.and_then(Result::ok)).collect();
    table::hold(&cases, &shown);
}
