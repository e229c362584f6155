//! Questions and known answers from the user's own copy: CrashChat's six annotation files, or a small TOML or JSON file.
//!
//! An annotation file is a list of clips with a conversation: the first entry is the question (behind a `<video>` mark),
//! the second the answer. Where a file words its question in several ways the most frequent is taken, and said. The
//! known answers are the distinct ones, most frequent first; their order is their code, and the codebook's version is
//! derived from it. Upstream's texts are never part of this project.

use std::collections::BTreeMap;
use std::path::Path;

use agent_worker::limits::{MAX_ANSWER_BYTES, MAX_CODES};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::error::ConvertError;
use super::limits::{MAX_CLIPS, MAX_JSON_BYTES, MAX_QUESTION_BYTES};
use super::metadata::{CODED, Questions, TASKS};
use super::source::read_text;

/// The annotation file of each task, in the order of [`TASKS`].
const FILES: [&str; 6] = [
    "crash_recognition.json",
    "crash_description.json",
    "cause_reasoning.json",
    "prevention_reasoning.json",
    "crash_localization.json",
    "pre_crash_localization.json",
];

/// One clip of an annotation file; other keys are not looked at.
#[derive(Deserialize)]
struct Clip {
    conversations: Vec<Said>,
}

#[derive(Deserialize)]
struct Said {
    value: String,
}

/// The small form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Small {
    prompts: BTreeMap<String, String>,
    #[serde(default)]
    codebook: BTreeMap<String, Vec<String>>,
}

/// Texts with how often each stands.
type Counted = BTreeMap<String, u32>;

/// Reads questions and known answers from a folder of annotation files, a `.toml` or a `.json` file.
///
/// # Errors
/// [`ConvertError::Input`] naming the file and what is missing or too large.
pub fn read_questions(path: &Path, notes: &mut Vec<String>) -> Result<Questions, ConvertError> {
    let mut questions = if path.is_dir() { from_folder(path, notes)? } else { from_small(path)? };
    for (task, prompt) in TASKS.iter().zip(&questions.prompts) {
        check_question(path, task, prompt)?;
    }
    if let Some(severity) = &questions.severity {
        check_question(path, "severity", severity)?;
    }
    for (task, answers) in CODED.iter().zip(&questions.codebook) {
        if answers.len() > MAX_CODES {
            let what = format!("{task}: {} known answers, at most {MAX_CODES}", answers.len());
            return Err(ConvertError::input(path, what));
        }
        if let Some(bad) = answers.iter().find(|a| a.is_empty() || a.len() > MAX_ANSWER_BYTES) {
            return Err(ConvertError::input(path, format!("{task}: a known answer of {} bytes", bad.len())));
        }
    }
    questions.codebook_version = version(&questions.codebook);
    Ok(questions)
}

fn check_question(path: &Path, task: &str, text: &str) -> Result<(), ConvertError> {
    if text.is_empty() || text.len() > MAX_QUESTION_BYTES {
        let what = format!("{task}: a question of {} bytes, must be 1 to {MAX_QUESTION_BYTES}", text.len());
        return Err(ConvertError::input(path, what));
    }
    Ok(())
}

/// The first 16 bits of SHA-256 over the answers, each ended by a zero byte and each list by another; never 0.
fn version(codebook: &[Vec<String>; 3]) -> u16 {
    let mut hash = Sha256::new();
    for answers in codebook {
        for answer in answers {
            hash.update(answer.as_bytes());
            hash.update([0]);
        }
        hash.update([0]);
    }
    match hash.finalize().as_slice() {
        [a, b, ..] => u16::from_be_bytes([*a, *b]).max(1),
        _ => 1,
    }
}

fn from_folder(folder: &Path, notes: &mut Vec<String>) -> Result<Questions, ConvertError> {
    let mut questions = Questions::default();
    for (i, (file, task)) in FILES.iter().zip(TASKS).enumerate() {
        let path = folder.join(file);
        let (asked, answered) = count(&path)?;
        if asked.len() > 1 {
            notes.push(format!("{task}: {} wordings of the question, the most frequent taken", asked.len()));
        }
        if let (Some(slot), Some(text)) = (questions.prompts.get_mut(i), ranked(asked).into_iter().next()) {
            *slot = text;
        }
        if let Some(slot) = CODED.iter().position(|c| *c == task).and_then(|c| questions.codebook.get_mut(c)) {
            *slot = ranked(answered);
        }
    }
    Ok(questions)
}

/// Questions and answers of a file.
fn count(path: &Path) -> Result<(Counted, Counted), ConvertError> {
    let text = read_text(path, MAX_JSON_BYTES)?;
    let clips: Vec<Clip> = serde_json::from_str(&text).map_err(|e| ConvertError::input(path, e.to_string()))?;
    if clips.is_empty() || clips.len() > MAX_CLIPS {
        return Err(ConvertError::input(path, format!("{} clips, must be 1 to {MAX_CLIPS}", clips.len())));
    }
    let (mut asked, mut answered) = (Counted::new(), Counted::new());
    for (i, clip) in clips.iter().enumerate() {
        let [question, answer, ..] = clip.conversations.as_slice() else {
            return Err(ConvertError::input(path, format!("clip {i}: no question and answer")));
        };
        let question = question.value.trim();
        let question = question.strip_prefix("<video>").unwrap_or(question).trim();
        *asked.entry(question.to_owned()).or_default() += 1;
        *answered.entry(answer.value.trim().to_owned()).or_default() += 1;
    }
    Ok((asked, answered))
}

/// Most frequent first; equals in the order of their text.
fn ranked(counted: Counted) -> Vec<String> {
    let mut all: Vec<(String, u32)> = counted.into_iter().collect();
    all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    all.into_iter().map(|(text, _)| text).collect()
}

fn from_small(path: &Path) -> Result<Questions, ConvertError> {
    let text = read_text(path, MAX_JSON_BYTES)?;
    let parsed = if path.extension().is_some_and(|e| e == "json") {
        serde_json::from_str::<Small>(&text).map_err(|e| e.to_string())
    } else {
        toml::from_str::<Small>(&text).map_err(|e| e.to_string())
    };
    let mut small = parsed.map_err(|e| ConvertError::input(path, e))?;
    let mut questions = Questions::default();
    for (task, slot) in TASKS.iter().zip(&mut questions.prompts) {
        let text = small.prompts.remove(*task);
        *slot = text.ok_or_else(|| ConvertError::input(path, format!("prompts.{task} is missing")))?;
    }
    questions.severity = small.prompts.remove("severity");
    for (task, slot) in CODED.iter().zip(&mut questions.codebook) {
        *slot = small.codebook.remove(*task).unwrap_or_default();
        let mut seen = std::collections::BTreeSet::new();
        if let Some(twice) = slot.iter().find(|a| !seen.insert(a.as_str())) {
            return Err(ConvertError::input(path, format!("codebook.{task}: \"{twice}\" stands twice")));
        }
    }
    match small.prompts.keys().chain(small.codebook.keys()).next() {
        Some(other) => Err(ConvertError::input(path, format!("{other} is no task"))),
        None => Ok(questions),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotation_files_give_questions_and_closed_answers() {
        let dir = tempfile::tempdir().unwrap();
        for file in FILES {
            let clip = |q: &str, a: &str| {
                serde_json::json!({"video": ["v"], "conversations":
                    [{"from": "human", "value": q}, {"from": "gpt", "value": a}], "source": "s"})
            };
            let asked = format!("<video>\nask {file}");
            let clips = vec![clip(&asked, "rare"), clip(&asked, "often"), clip("<video>other", "often")];
            std::fs::write(dir.path().join(file), serde_json::to_string(&clips).unwrap()).unwrap();
        }
        let mut notes = Vec::new();
        let q = read_questions(dir.path(), &mut notes).unwrap();
        assert_eq!(q.prompts[5], "ask pre_crash_localization.json");
        assert_eq!(q.codebook[1], ["often", "rare"]);
        assert_eq!(notes.len(), 6);
        assert!(notes[0].contains("recognition: 2 wordings"));
        assert_ne!(q.codebook_version, 0);

        std::fs::write(dir.path().join("cause_reasoning.json"), "[{\"conversations\": []}]").unwrap();
        let error = read_questions(dir.path(), &mut notes).unwrap_err().to_string();
        assert!(error.contains("cause_reasoning.json: clip 0"), "{error}");
    }

    #[test]
    fn the_small_form_names_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("q.toml");
        let six: String = TASKS.iter().map(|t| format!("{t} = \"{t}?\"\n")).collect();
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_questions(&path, &mut Vec::new()).map_err(|e| e.to_string())
        };
        let q =
            read(&format!("[prompts]\n{six}severity = \"how bad?\"\n[codebook]\ncause = [\"a\", \"b\"]\n")).unwrap();
        assert_eq!((q.prompts[0].as_str(), q.severity.as_deref()), ("recognition?", Some("how bad?")));
        assert_eq!(q.codebook[1], ["a", "b"]);
        let missing = six.replace("cause = \"cause?\"\n", "");
        assert!(read(&format!("[prompts]\n{missing}")).unwrap_err().contains("prompts.cause is missing"));
        assert!(read(&format!("[prompts]\n{six}mood = \"x\"\n")).unwrap_err().contains("mood is no task"));
        assert!(read(&format!("[prompts]\n{six}[codebook]\ncause = [\"a\", \"a\"]\n")).unwrap_err().contains("twice"));
        assert!(read("[prompts\n").unwrap_err().contains("line 1"));
    }

    #[test]
    fn the_version_follows_the_answers() {
        let book = |a: &[&str]| [a.iter().map(|s| (*s).to_owned()).collect(), Vec::new(), Vec::new()];
        assert_eq!(version(&book(&["a", "b"])), version(&book(&["a", "b"])));
        assert_ne!(version(&book(&["a", "b"])), version(&book(&["b", "a"])));
        assert_ne!(version(&book(&["ab"])), version(&book(&["a", "b"])));
    }
}
