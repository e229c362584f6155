//! Multiple choice with hard distractors: each answer in words is held against the truth and what a baseline confused with
//! it. It asks no model: an answer chooses the option that it is, word for word. Nothing is read or written here.

use std::collections::{BTreeMap, BTreeSet};

use agent_score::distractors::{Confusions, credit};

use super::judge::answered;
use super::load::Drive;

/// What a drive's answers to description, cause and prevention are worth: credit, and how many distractors the baseline
/// had really confused with the truth. `None` without an answer or without any other option.
pub(crate) type Choice = [Option<(f64, usize)>; 3];

fn truths(drive: &Drive) -> [&str; 3] {
    let truth = &drive.truth;
    [&truth.description.text, &truth.cause.text, &truth.prevention.text].map(String::as_str)
}

/// The choices of each drive; options are all the truths of the drives. None where the baseline confused nothing.
pub(crate) fn choices(drives: &[Drive]) -> Option<Vec<Choice>> {
    let mut choices = vec![Choice::default(); drives.len()];
    let mut any = false;
    for task in 0..3 {
        let (mut confusions, mut options) = (Confusions::default(), BTreeSet::new());
        for drive in drives {
            let truth = truths(drive)[task];
            options.insert(truth.to_owned());
            if let Some(said) = answered(drive, &drive.baseline) {
                confusions.add(truth, &said.words[task]);
            }
        }
        if confusions.is_empty() {
            continue;
        }
        any = true;
        let mut hard = BTreeMap::new();
        for (drive, choice) in drives.iter().zip(&mut choices) {
            let Some(said) = answered(drive, &drive.events) else { continue };
            let truth = truths(drive)[task];
            let (distractors, confused) = hard.entry(truth).or_insert_with(|| confusions.hard(truth, &options));
            if !distractors.is_empty() {
                choice[task] = Some((credit(&said.words[task], truth, distractors), *confused));
            }
        }
    }
    any.then_some(choices)
}
