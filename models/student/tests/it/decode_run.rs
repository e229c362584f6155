//! Decoding: drafted answers are those of plain greedy decoding, in any company, and nothing stays behind.

use std::cell::Cell;

use agent_student::decode::limits::MAX_LOGIT_BYTES;
use agent_student::decode::{Decoded, End, First, Mode, Outcome, Plan, Question, Trie, run, score};
use agent_student::error::StudentError;
use agent_student::llm::{Language, Row};

use crate::decode_toy::{Toy, mix};

const END: u32 = 0;
const OTHER_END: u32 = 1;
const ENDS: [u32; 2] = [END, OTHER_END];
const OPENER: u32 = 2;
const VOCAB: usize = 50;

/// Known answers of question `q`: lists that share beginnings, most frequent first.
fn known(q: u64, seed: u64) -> Vec<Vec<u32>> {
    let count = 1 + mix([seed, q, 1]) % 12;
    (0..count)
        .map(|a| {
            let length = 1 + mix([seed, q, a, 2]) % 20;
            // The first places depend on few bits of the answer's number, so that answers part late.
            (0..length).map(|i| 3 + (mix([seed, q, i, a >> (4 - i.min(4))]) % 40) as u32).collect()
        })
        .collect()
}

struct Case {
    prompts: Vec<Vec<u32>>,
    tries: Vec<Trie>,
    toy: Toy,
}

fn case(seed: u64, stray: u64) -> Case {
    let count = 1 + mix([seed, 3]) % 7;
    let mut toy = Toy::new(VOCAB);
    toy.stray = stray;
    toy.extend_tokens(&[9, (seed % 40) as u32, 11]).unwrap();
    let (mut prompts, mut tries) = (Vec::new(), Vec::new());
    for q in 0..count {
        let mut prompt = vec![43 + q as u32];
        prompt.extend((0..mix([seed, q, 4]) % 5).map(|i| 3 + i as u32));
        prompt.push(OPENER);
        let answers = known(q, seed);
        tries.push(Trie::new(END, &answers).unwrap());
        let end = if mix([seed, q, 5]).is_multiple_of(4) { OTHER_END } else { END };
        let ended = answers.into_iter().map(|a| [a, vec![end]].concat()).collect();
        toy.liked.push((prompt.clone(), ended));
        prompts.push(prompt);
    }
    Case { prompts, tries, toy }
}

impl Case {
    fn questions(&self, with_trie: bool) -> Vec<Question<'_>> {
        let of = |(prompt, trie)| Question {
            prompt,
            trie: Some(trie).filter(|_| with_trie),
            max_tokens: 15,
            watch: &[5, 6],
        };
        self.prompts.iter().map(Vec::as_slice).zip(&self.tries).map(of).collect()
    }
}

fn plan<'a>(questions: &'a [Question<'a>]) -> Plan<'a> {
    Plan { questions, ends: &[END, OTHER_END], mode: Mode::Exact, draft: 64, through: 1, first: None }
}

fn go(toy: &mut Toy, plan: &Plan<'_>) -> Outcome {
    run(toy, plan, &|| false, &mut |_| {}).unwrap()
}

/// Plain greedy decoding of one question, one token a step, written without any of the code under test.
fn greedy(toy: &mut Toy, prompt: &[u32], most: usize) -> (Vec<u32>, End) {
    toy.open_branches(1).unwrap();
    let (mut feed, mut answer) = (prompt.to_vec(), Vec::new());
    loop {
        let rows: Vec<Row> = feed.iter().map(|t| Row { branch: 0, token: *t }).collect();
        let marks: Vec<bool> = (1..=rows.len()).map(|i| i == rows.len()).collect();
        let mut logits = Vec::new();
        toy.step(&rows, &marks, &mut logits).unwrap();
        let best = (0..logits.len()).fold(0, |b, i| if logits[i] > logits[b] { i } else { b }) as u32;
        if best == END || best == OTHER_END {
            return (answer, End::Token);
        }
        answer.push(best);
        if answer.len() == most {
            return (answer, End::Limit);
        }
        feed = vec![best];
    }
}

#[test]
fn drafted_answers_are_the_greedy_ones_token_for_token() {
    let (mut saved, mut known, mut off, mut cut, mut rejected) = (0, 0, 0, 0, 0);
    for seed in 0..300 {
        for stray in [0, 5, 40] {
            let mut case = case(seed, stray);
            let wanted: Vec<_> = case.prompts.clone().iter().map(|prompt| greedy(&mut case.toy, prompt, 15)).collect();
            for (draft, through) in [(64, 0), (64, 3), (3, 1), (0, 0)] {
                let mut toy = std::mem::replace(&mut case.toy, Toy::new(VOCAB));
                let questions = case.questions(true);
                let first = (seed % 2 == 0).then_some(questions.len() - 1);
                let plan = Plan { draft, through, first, ..plan(&questions) };
                let outcome = go(&mut toy, &plan);
                let got: Vec<_> = outcome.answers.iter().map(|a| (a.tokens.clone(), a.end)).collect();
                assert_eq!(got, wanted, "seed {seed}, stray {stray}, draft {draft}");
                let stats = outcome.stats;
                assert_eq!(stats.rows as usize, toy.log.iter().rev().take(stats.steps as usize).sum::<usize>());
                if draft == 0 {
                    let alone = u32::from(first.is_some());
                    assert_eq!(stats.drafted, 0);
                    assert!((stats.plain_steps..=stats.plain_steps + alone).contains(&stats.steps));
                }
                saved += stats.plain_steps.saturating_sub(stats.steps);
                rejected += stats.drafted - stats.accepted;
                for answer in &outcome.answers {
                    known += usize::from(answer.answer.is_some());
                    off += usize::from(answer.answer.is_none() && answer.end == End::Token);
                    cut += usize::from(answer.end == End::Limit);
                }
                case.toy = toy;
            }
        }
    }
    // Every way that an answer can go was gone.
    assert!(saved > 1_000 && known > 1_000 && off > 100 && cut > 100 && rejected > 1_000);
}

#[test]
fn six_in_one_equal_six_alone() {
    for seed in 0..50 {
        let mut case = case(seed, 5);
        let mut toy = std::mem::replace(&mut case.toy, Toy::new(VOCAB));
        let questions = case.questions(true);
        let together = go(&mut toy, &plan(&questions));
        for (i, question) in questions.iter().enumerate() {
            let alone = go(&mut toy, &plan(std::slice::from_ref(question)));
            assert_eq!(alone.answers[0], together.answers[i], "seed {seed}");
        }
    }
}

#[test]
fn constrained_answers_are_known_ones_in_fewer_steps() {
    let (mut forced, mut differ) = (0, 0);
    for seed in 0..200 {
        let mut case = case(seed, 30);
        let mut toy = std::mem::replace(&mut case.toy, Toy::new(VOCAB));
        let questions: Vec<_> = case.questions(true).iter().map(|q| Question { max_tokens: 40, ..*q }).collect();
        let exact = go(&mut toy, &plan(&questions));
        let only = go(&mut toy, &Plan { mode: Mode::Constrained, ..plan(&questions) });
        for (q, (free, answer)) in exact.answers.iter().zip(&only.answers).enumerate() {
            let number = answer.answer.expect("a known answer");
            let list = known(q as u64, seed);
            assert_eq!(list.iter().position(|a| *a == list[number as usize]), Some(number as usize));
            assert_eq!(answer.tokens, list[number as usize]);
            if free.answer.is_some() {
                assert_eq!((&free.tokens, free.probability), (&answer.tokens, answer.probability), "seed {seed}");
            } else {
                differ += 1;
            }
        }
        let points = only.answers.iter().map(|a| a.choices.len() as u32).max().unwrap();
        assert!(only.stats.steps <= points + 1, "{} steps for {points} branch points", only.stats.steps);
        forced += only.stats.forced;
    }
    assert!(forced > 500 && differ > 50);
}

/// Probability of each known answer by walking the trie with the toy's own logits.
fn by_hand(toy: &mut Toy, prompt: &[u32], trie: &Trie, node: u32, said: &[u32]) -> Vec<(u32, f64)> {
    if let Some(answer) = trie.answer(node) {
        return vec![(answer, 1.0)];
    }
    let tokens: Vec<u32> = prompt.iter().chain(said).copied().collect();
    let rows: Vec<Row> = tokens.iter().map(|t| Row { branch: 0, token: *t }).collect();
    let marks: Vec<bool> = (1..=rows.len()).map(|i| i == rows.len()).collect();
    let mut logits = Vec::new();
    toy.open_branches(1).unwrap();
    toy.step(&rows, &marks, &mut logits).unwrap();
    // Either end token ends an answer.
    logits[END as usize] = logits[END as usize].max(logits[OTHER_END as usize]);
    let sum: f64 = trie.children(node).iter().map(|(t, _)| f64::from(logits[*t as usize]).exp()).sum();
    let mut all = Vec::new();
    for (token, child) in trie.children(node) {
        let share = f64::from(logits[*token as usize]).exp() / sum;
        let deeper = by_hand(toy, prompt, trie, *child, &[said, &[*token]].concat());
        all.extend(deeper.into_iter().map(|(answer, p)| (answer, p * share)));
    }
    all
}

#[test]
fn probabilities_are_those_of_the_trie_and_sum_to_one() {
    let mut compared = 0;
    for seed in 0..60 {
        let mut case = case(seed, 0);
        let mut toy = std::mem::replace(&mut case.toy, Toy::new(VOCAB));
        let questions: Vec<_> = case.questions(true).iter().map(|q| Question { max_tokens: 40, ..*q }).collect();
        let outcome = go(&mut toy, &plan(&questions));
        for (question, decoded) in questions.iter().zip(&outcome.answers) {
            let all = by_hand(&mut toy, question.prompt, question.trie.unwrap(), 0, &[]);
            assert!((all.iter().map(|(_, p)| p).sum::<f64>() - 1.0).abs() < 1e-9);
            let Some(answer) = decoded.answer else { continue };
            let (_, p) = all.iter().find(|(a, _)| *a == answer).unwrap();
            assert!((f64::from(decoded.probability) - p).abs() < 1e-4, "seed {seed}: {} {p}", decoded.probability);
            compared += usize::from(*p < 0.99);
            for choice in &decoded.choices {
                assert!((choice.ways.iter().map(|w| w.1).sum::<f32>() - 1.0).abs() < 1e-5);
                assert!(choice.known > 0.0 && choice.known <= 1.0);
            }
        }
    }
    assert!(compared > 50);
}

#[test]
fn text_off_the_trie_has_the_geometric_mean_of_its_tokens() {
    let mut case = case(4, 100);
    let mut toy = std::mem::replace(&mut case.toy, Toy::new(VOCAB));
    let questions = case.questions(false);
    let one = go(&mut toy, &plan(&questions[..1])).answers.remove(0);
    assert!(one.answer.is_none() && one.choices.is_empty());
    let tokens: Vec<u32> = questions[0].prompt.iter().chain(&one.tokens).copied().collect();
    let rows: Vec<Row> = tokens.iter().map(|t| Row { branch: 0, token: *t }).collect();
    let mut logits = Vec::new();
    toy.open_branches(1).unwrap();
    toy.step(&rows, &vec![true; rows.len()], &mut logits).unwrap();
    let mut logs = Vec::new();
    for (i, token) in one.tokens.iter().enumerate() {
        let row = &logits[(questions[0].prompt.len() - 1 + i) * VOCAB..][..VOCAB];
        let lse = row.iter().map(|v| f64::from(*v).exp()).sum::<f64>().ln();
        logs.push(f64::from(row[*token as usize]) - lse);
    }
    if one.end == End::Token {
        let row = &logits[logits.len() - VOCAB..];
        let lse = row.iter().map(|v| f64::from(*v).exp()).sum::<f64>().ln();
        logs.push(f64::from(row.iter().copied().fold(f32::MIN, f32::max)) - lse);
    }
    let mean = (logs.iter().sum::<f64>() / logs.len() as f64).exp();
    assert!((f64::from(one.probability) - mean).abs() < 1e-5, "{} {mean}", one.probability);
}

#[test]
fn the_first_token_is_told_before_the_other_questions_are_read() {
    let mut case = case(1, 0);
    let mut toy = std::mem::replace(&mut case.toy, Toy::new(VOCAB));
    let questions = case.questions(true);
    assert!(questions.len() > 2);
    let last = questions.len() - 1;
    let heard = std::cell::RefCell::new(Vec::<First>::new());
    let asked = Cell::new(0);
    let cancel = || {
        asked.set(asked.get() + 1);
        // By the second step the first question's token must have been told, and no other.
        if asked.get() == 2 {
            assert_eq!(heard.borrow().iter().map(|f| f.question).collect::<Vec<_>>(), [last]);
        }
        false
    };
    let plan = Plan { first: Some(last), draft: 0, ..plan(&questions) };
    let outcome = run(&mut toy, &plan, &cancel, &mut |f| heard.borrow_mut().push(f)).unwrap();
    let heard = heard.into_inner();
    assert_eq!(heard.len(), questions.len());
    for first in heard {
        assert_eq!(outcome.answers[first.question].tokens.first(), Some(&first.token));
        assert_eq!(first.watched.len(), 2);
    }
    assert_eq!(toy.log[toy.log.len() - outcome.stats.steps as usize], questions[last].prompt.len());
}

#[test]
fn a_cancelled_or_failed_run_leaves_nothing_behind() {
    for stop in 0..6 {
        let mut fresh = case(2, 5);
        let mut toy = std::mem::replace(&mut fresh.toy, Toy::new(VOCAB));
        let mut used = case(2, 5).toy;
        let questions = fresh.questions(true);
        let wanted = go(&mut toy, &plan(&questions));
        let asked = Cell::new(0);
        let cancel = || {
            asked.set(asked.get() + 1);
            asked.get() > stop
        };
        match run(&mut used, &plan(&questions), &cancel, &mut |_| {}) {
            Err(StudentError::Cancelled) => assert!(stop < wanted.stats.steps),
            other => assert_eq!(other.unwrap(), wanted),
        }
        used.fail_at = Some(used.log.len() + 1);
        assert!(matches!(run(&mut used, &plan(&questions), &|| false, &mut |_| {}), Err(StudentError::Call { .. })));
        used.fail_at = None;
        assert_eq!(go(&mut used, &plan(&questions)), wanted);
    }
}

#[test]
fn rows_with_logits_stay_within_their_capacity() {
    // A vocabulary so large that few rows fit: drafts are cut, answers stay the same.
    let vocab = 200_000;
    let long: Vec<u32> = (0..60).map(|i| 3 + i).collect();
    let trie = Trie::new(END, [&long]).unwrap();
    let mut toy = Toy::new(vocab);
    toy.liked = (0..4).map(|q| (vec![190_000 + q, OPENER], vec![[long.clone(), vec![END]].concat()])).collect();
    toy.extend_tokens(&[9]).unwrap();
    let prompts: Vec<Vec<u32>> = (0..4).map(|q| vec![190_000 + q, OPENER]).collect();
    let questions: Vec<_> =
        prompts.iter().map(|prompt| Question { prompt, trie: Some(&trie), max_tokens: 80, watch: &[] }).collect();
    let outcome = go(&mut toy, &plan(&questions));
    assert!(outcome.answers.iter().all(|a: &Decoded| a.tokens == long && a.answer == Some(0) && a.probability == 1.0));
    let cap = MAX_LOGIT_BYTES / (4 * vocab);
    assert!(toy.log.iter().all(|rows| *rows <= cap + 4), "{:?} above {cap}", toy.log);
    assert!(outcome.stats.steps < 10, "{:?}", outcome.stats);
}

#[test]
fn plans_that_cannot_be_are_refused() {
    let trie = Trie::new(33, [vec![4]]).unwrap();
    let mut toy = Toy::new(VOCAB);
    toy.extend_tokens(&[9]).unwrap();
    let good = Question { prompt: &[5, OPENER], trie: None, max_tokens: 3, watch: &[] };
    let mut refused = |questions: &[Question<'_>], first| {
        let plan = Plan { questions, ends: &[END], mode: Mode::Exact, draft: 1, through: 0, first };
        run(&mut toy, &plan, &|| false, &mut |_| {}).is_err()
    };
    assert!(!refused(&[good], None));
    assert!(refused(&[], None) && refused(&[good; 17], None) && refused(&[good], Some(1)));
    assert!(refused(&[Question { prompt: &[], ..good }], None) && refused(&[Question { max_tokens: 0, ..good }], None));
    assert!(refused(&[Question { trie: Some(&trie), ..good }], None));
}

#[test]
fn options_are_scored_as_the_trie_of_them_says_in_any_number_of_branches() {
    let mut compared = 0;
    for seed in 0..40 {
        let mut case = case(seed, 5);
        let mut toy = std::mem::replace(&mut case.toy, Toy::new(VOCAB));
        let options = known(0, seed);
        let prompt = &case.prompts[0];
        let all = by_hand(&mut toy, prompt, &case.tries[0], 0, &[]);
        let few = score(&mut toy, prompt, &options, &ENDS, 2, &|| false).unwrap();
        let many = score(&mut toy, prompt, &options, &ENDS, 16, &|| false).unwrap();
        assert_eq!(few, many, "seed {seed}");
        for (answer, p) in &all {
            assert!((f64::from(few[*answer as usize].share) - p).abs() < 1e-6, "seed {seed}");
            assert!(few[*answer as usize].log_likelihood <= p.ln() + 1e-6);
            compared += 1;
        }
    }
    assert!(compared > 100);
    let mut toy = Toy::new(VOCAB);
    toy.extend_tokens(&[9]).unwrap();
    let refused =
        |toy: &mut Toy, options: &[Vec<u32>], branches| score(toy, &[5], options, &ENDS, branches, &|| false).is_err();
    assert!(refused(&mut toy, &[], 4) && refused(&mut toy, &[vec![]], 4) && refused(&mut toy, &[vec![3]], 1));
    assert!(refused(&mut toy, &vec![vec![3]; 2_000], 4));
    assert!(matches!(score(&mut toy, &[5], &[vec![3]], &ENDS, 4, &|| true), Err(StudentError::Cancelled)));
}
