//! Where the models that ship with the program lie: in a source tree beside the program that was built in it, or where a
//! package puts them. Looks for files; reads none.

use std::path::{Path, PathBuf};

/// The word that stands for the shipped model in the configuration and on the command line.
pub(crate) const WORD: &str = "builtin";
/// File of the shipped student.
pub(crate) const STUDENT: &str = "student.gguf";
/// Where packages put models.
const INSTALLED: &str = "/usr/share/firmware-agent/models";
/// From a program in `target/debug/deps` up to the source tree.
const UP: usize = 4;

/// The shipped file of this name, if it is there.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    places().into_iter().map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Why there is none, in words.
pub(crate) fn missing(name: &str) -> String {
    let places: Vec<String> = places().iter().map(|p| p.display().to_string()).collect();
    format!("no {name} in {}", places.join(", "))
}

fn places() -> Vec<PathBuf> {
    let program = std::env::current_exe().unwrap_or_default();
    let mut places = Vec::with_capacity(UP + 2);
    // Only above a folder `target`: an installed program must not take what happens to lie above it.
    let target = program.ancestors().skip(1).take(UP).find(|p| p.file_name().is_some_and(|n| n == "target"));
    places.extend(target.and_then(Path::parent).map(|tree| tree.join("models/artifacts")));
    // bin/firmware-agent beside share/: an installation below another root.
    places.extend(program.parent().and_then(Path::parent).map(|root| root.join("share/firmware-agent/models")));
    places.push(PathBuf::from(INSTALLED));
    places.dedup();
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_nowhere_is_said_with_the_places() {
        assert_eq!(find("no such model"), None);
        let said = missing("x.gguf");
        assert!(said.starts_with("no x.gguf in ") && said.contains(INSTALLED), "{said}");
    }
}
