//! The real answers of CrashChat's six files, where they are at hand: every one is decoded as its code, in few steps.

use std::collections::BTreeMap;
use std::path::Path;

use agent_student::decode::{Mode, Plan, Question, Stats, Trie, run};
use agent_student::llm::Language;
use agent_student::tasks::{instants, intervals, parse_instant, parse_interval};

use crate::decode_tokenizer::tokens;
use crate::decode_toy::Toy;

/// Answers of one file, most frequent first, with their counts.
fn answers(path: &Path) -> Vec<(String, usize)> {
    let entries: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut counts = BTreeMap::<String, usize>::new();
    for entry in entries.as_array().unwrap() {
        *counts.entry(entry["conversations"][1]["value"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let mut list: Vec<_> = counts.into_iter().collect();
    list.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    list
}

#[test]
fn real_answers_are_found_in_few_steps() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/crashchat");
    if !folder.exists() {
        println!("skipped: no shared data");
        return;
    }
    let tokens = tokens();
    let end = tokens.chat().end;
    // Steps allowed on average: one for the question and one for each branch point or two.
    let files = [
        ("crash_description", 4.0),
        ("cause_reasoning", 5.0),
        ("prevention_reasoning", 8.0),
        ("crash_localization", 8.0),
        ("pre_crash_localization", 5.0),
    ];
    for (name, most) in files {
        let list = answers(&folder.join(format!("{name}.json")));
        let known: Vec<String> = match name {
            "crash_localization" => intervals(60).collect(),
            "pre_crash_localization" => instants(60).collect(),
            _ => list.iter().map(|(text, _)| text.clone()).collect(),
        };
        let trie = Trie::new(end, known.iter().map(|text| tokens.encode_plain(text).unwrap())).unwrap();
        for through in [0, 1, 2] {
            let (mut total, mut steps, mut plain) = (0, 0, 0);
            let mut sum = Stats::default();
            for (text, count) in &list {
                let mut said = tokens.encode_plain(text).unwrap();
                let most = said.len() + 1;
                said.push(end);
                let mut toy = Toy::new(tokens.len());
                toy.extend_tokens(&[1]).unwrap();
                toy.liked = vec![(vec![7, 8], vec![said])];
                let question = Question { prompt: &[7, 8], trie: Some(&trie), max_tokens: most, watch: &[] };
                let (mode, first) = (Mode::Exact, None);
                let plan = Plan { questions: &[question], ends: &[end], mode, draft: 64, through, first };
                let outcome = run(&mut toy, &plan, &|| false, &mut |_| {}).unwrap();
                let decoded = &outcome.answers[0];
                assert_eq!(&tokens.decode(&decoded.tokens).unwrap(), text);
                let in_grid = match name {
                    "crash_localization" => parse_interval(text).is_some_and(|(_, to)| to <= 6.0),
                    "pre_crash_localization" => parse_instant(text).is_some_and(|t| t <= 6.0),
                    _ => true,
                };
                if in_grid {
                    assert_eq!(known[decoded.answer.unwrap() as usize], *text);
                    total += count;
                    steps += count * outcome.stats.steps as usize;
                    plain += count * outcome.stats.plain_steps as usize;
                    sum.drafted += outcome.stats.drafted * *count as u32;
                    sum.accepted += outcome.stats.accepted * *count as u32;
                }
            }
            let mean = steps as f64 / total as f64;
            println!(
                "{name}: {} answers, drafts past {through} branch points: {mean:.2} steps instead of {:.1}, {:.1} tokens \
                 drafted of which {:.1} were right",
                list.len(),
                plain as f64 / total as f64,
                f64::from(sum.drafted) / total as f64,
                f64::from(sum.accepted) / total as f64
            );
            assert!(mean < most, "{name}, {through}: {mean}");
        }
    }
}
