//! Every figure against a public implementation (reference/cases.json, made by reference/make_cases.py), and the rules
//! that have none against cases by hand.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use agent_score::classes::{Binary, Confusion};
use agent_score::distractors::{Confusions, credit};
use agent_score::text::{BleuCounts, bleu, rouge};
use agent_score::{bounds, intervals, ranking};
use serde_json::Value;

fn cases() -> Value {
    serde_json::from_str(include_str!("../reference/cases.json")).unwrap()
}

#[track_caller]
fn near(got: Option<f64>, want: &Value) {
    let (got, want) = (got.unwrap(), want.as_f64().unwrap());
    assert!((got - want).abs() <= 1e-6 * want.abs().max(1.0), "{got} instead of {want}");
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

#[test]
fn texts_score_as_sacrebleu_and_rouge_score_do() {
    let all = cases();
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let pairs: Vec<(String, String)> = list(&all["pairs"]).iter().map(|p| (text(&p[0]), text(&p[1]))).collect();
    for ((answer, reference), want) in pairs.iter().zip(list(&all["rouge"])) {
        let got = rouge(answer, reference);
        near(Some(got.one), &want[0]);
        near(Some(got.two), &want[1]);
        near(Some(got.l), &want[2]);
    }
    let counts: Vec<BleuCounts> = pairs.iter().map(|(a, r)| BleuCounts::of(a, r)).collect();
    for corpus in list(&all["bleu"]) {
        near(bleu(list(&corpus["of"]).iter().map(|i| &counts[i.as_u64().unwrap() as usize])), &corpus["bleu"]);
    }
    assert_eq!(bleu([]), None);
}

#[test]
fn classes_score_as_scikit_learn_does() {
    let all = cases();
    let flag = |v: &Value| v.as_bool().unwrap();
    let want = &all["binary"];
    let got = Binary::of(list(&want["cases"]).iter().map(|c| (flag(&c[0]), flag(&c[1]))));
    near(got.accuracy(), &want["accuracy"]);
    near(got.precision(), &want["precision"]);
    near(got.recall(), &want["recall"]);
    near(got.f1(), &want["f1"]);
    let want = &all["three"];
    let class = |v: &Value| v.as_u64().unwrap() as usize;
    let got = Confusion::of(3, list(&want["cases"]).iter().map(|c| (class(&c[0]), class(&c[1]))));
    assert_eq!(serde_json::json!(got.counts), want["confusion"]);
    near(got.accuracy(), &want["accuracy"]);
    near(got.macro_f1(), &want["macro_f1"]);
    assert_eq!((Binary::default().recall(), Confusion::of(3, []).accuracy()), (None, None));
}

#[test]
fn probabilities_score_as_scikit_learn_does() {
    for want in list(&cases()["ranked"]) {
        let cases: Vec<(f64, bool)> =
            list(&want["cases"]).iter().map(|c| (c[0].as_f64().unwrap(), c[1].as_bool().unwrap())).collect();
        near(ranking::average_precision(&cases), &want["average_precision"]);
        near(ranking::roc_auc(&cases), &want["roc_auc"]);
        near(ranking::recall_at_precision(&cases, 0.6), &want["recall_at_0.6"]);
        near(ranking::brier(&cases), &want["brier"]);
        near(ranking::mean_absolute_error(&cases), &want["mae"]);
        near(ranking::calibration_error(&cases), &want["ece"]);
        let bins: Vec<_> = ranking::reliability(&cases).into_iter().filter(|b| b.n > 0).collect();
        assert_eq!(bins.len(), list(&want["reliability"]).len());
        for (bin, want) in bins.iter().zip(list(&want["reliability"])) {
            near(Some(bin.n as f64), &want[0]);
            near(Some(bin.mean_probability), &want[1]);
            near(Some(bin.share_happened), &want[2]);
        }
    }
    let one_sided = [(0.3, false), (0.9, false)];
    assert_eq!((ranking::average_precision(&one_sided), ranking::roc_auc(&one_sided)), (None, None));
}

#[test]
fn a_precision_that_is_never_reached_recalls_nothing_in_a_bootstrap_too() {
    assert_eq!(ranking::recall_at_precision(&[(0.9, false), (0.2, true)], 0.94), Some(0.0));
    assert_eq!(ranking::point_at_precision(&[(0.9, false), (0.2, true)], 0.94), None);
    assert_eq!(ranking::recall_at_precision(&[(0.9, false)], 0.94), None);
    // Rounds that draw the highest negative (two of three) never reach the precision; those without it recall everything.
    let cases = [(0.9, false), (0.8, true), (0.7, true), (0.6, true), (0.5, true), (0.4, true)];
    let at = |drawn: &[usize]| ranking::recall_at_precision(&drawn.iter().map(|i| cases[*i]).collect::<Vec<_>>(), 0.94);
    assert_eq!(bounds::bootstrap(cases.len(), 1, at), Some([0.0, 1.0]));
}

#[test]
fn bounds_of_a_rate_are_exact() {
    for want in list(&cases()["poisson"]) {
        let [low, high] = bounds::poisson(want[0].as_u64().unwrap() as u32);
        near(Some(low), &want[1]);
        near(Some(high), &want[2]);
    }
    for want in list(&cases()["poisson_upper"]) {
        near(Some(bounds::poisson_at_most_95(want[0].as_u64().unwrap() as u32)), &want[1]);
    }
}

#[test]
fn bounds_of_a_share_are_exact_and_have_a_width_at_both_ends() {
    for want in list(&cases()["shares"]) {
        let [hits, of] = [0, 1].map(|at| want[at].as_u64().unwrap() as usize);
        let [low, high] = bounds::share(hits, of).unwrap();
        near(Some(low), &want[2]);
        near(Some(high), &want[3]);
        assert!(low < high && (0.0..=1.0).contains(&low) && high <= 1.0, "{low} {high}");
    }
    assert_eq!((bounds::share(0, 0), bounds::share(3, 2)), (None, None));
}

#[test]
fn pre_crash_follows_crashchats_rule() {
    let iou = |t: f64| intervals::pre_crash(10.0, 8.0, t).iou;
    // At the accident, after it, too early, within half a second early, at the truth, half way.
    assert_eq!([10.0, 11.0, 7.4, 7.5, 7.9, 8.0, 9.0].map(iou), [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.5]);
    let late = intervals::pre_crash(10.0, 8.0, 9.5);
    assert_eq!((late.tta_s, late.tta_error_s), (0.5, 1.5));
    // Exactly half a second early, in seconds that binary fractions round either way.
    for tenths in 10..300 {
        let truth_s = f64::from(tenths) / 10.0;
        let half_early_s = f64::from(tenths - 5) / 10.0;
        assert_eq!(intervals::pre_crash(40.0, truth_s, half_early_s).iou, 1.0, "{truth_s}");
        assert_eq!(intervals::pre_crash(40.0, truth_s, (truth_s - 0.4) - 0.1).iou, 1.0, "{truth_s}");
    }
    // A truth at the accident itself leaves no time to be right in but before it.
    assert_eq!(intervals::pre_crash(10.0, 10.0, 9.8).iou, 1.0);
}

#[test]
fn intervals_overlap() {
    assert_eq!(intervals::iou([0.0, 2.0], [1.0, 3.0]), 1.0 / 3.0);
    assert_eq!(intervals::iou([0.0, 1.0], [2.0, 3.0]), 0.0);
    assert_eq!(intervals::iou([2.0, 1.0], [0.0, 3.0]), 0.0);
    assert_eq!(intervals::iou([f64::NAN, 1.0], [0.0, 3.0]), 0.0);
    assert_eq!(intervals::share_at(&[0.3, 0.5, 0.0, 1.0], 0.5), Some(0.5));
    let risk = [(1.0, 0.1), (2.0, 0.8), (3.0, 0.9)];
    assert_eq!(intervals::time_to_accident(&risk, 0.5, 4.0), Some(2.0));
    assert_eq!(intervals::time_to_accident(&risk, 0.5, 2.0), None);
    // A warning of more than 5 s before is none of this accident; exactly 5 s is, however the seconds round.
    assert_eq!(intervals::time_to_accident(&risk, 0.5, 7.5), Some(4.5));
    assert_eq!(intervals::time_to_accident(&risk, 0.5, 8.5), None);
    assert!(intervals::time_to_accident(&[(3.3, 0.9)], 0.5, 8.3).is_some());
    assert!(intervals::time_to_accident(&[(1.1, 0.9)], 0.5, 6.1).is_some());
}

#[test]
fn a_bootstrap_holds_the_figure_and_is_the_same_each_time() {
    let values: Vec<f64> = (0..100).map(|i| f64::from(i % 10)).collect();
    let figure = |drawn: &[usize]| agent_score::mean(drawn.iter().map(|i| values[*i]));
    let [low, high] = bounds::bootstrap(values.len(), 1, figure).unwrap();
    // The mean is 4.5 with a standard error of 0.287.
    assert!((3.8..4.1).contains(&low) && (4.9..5.2).contains(&high), "{low} {high}");
    assert_eq!(bounds::bootstrap(values.len(), 1, figure), Some([low, high]));
    assert_eq!(bounds::bootstrap(1, 1, figure), None);
    assert_eq!(bounds::bootstrap(5, 1, |_| None), None);
}

#[test]
fn hard_distractors_are_what_was_confused_then_what_is_close_in_words() {
    let options = ["a car hits a car", "a car hits a truck", "fire", "ice", "rain", "snow", "wind"];
    let options: std::collections::BTreeSet<String> = options.map(str::to_owned).into();
    let truth = "a car hits a car";
    let mut confusions = Confusions::default();
    for given in ["", truth] {
        confusions.add(truth, given);
    }
    assert!(confusions.is_empty());
    for (truth, given) in [(truth, "snow"), ("ice", truth), (truth, "ice"), ("rain", "wind"), (truth, "not an option")]
    {
        confusions.add(truth, given);
    }
    // Ice twice, in both directions; snow once; then the truck for its words; then the order.
    assert_eq!(confusions.hard(truth, &options), (vec!["ice", "snow", "a car hits a truck", "fire"], 2));
    assert_eq!(confusions.hard("rain", &options).0[0], "wind");
    let few = ["a", "b"].map(str::to_owned).into();
    assert_eq!(confusions.hard("a", &few), (vec!["b"], 0));
}

#[test]
fn an_answer_that_is_no_option_counts_as_a_blind_choice() {
    let distractors = ["b", "c", "d", "e"];
    assert_eq!(["a", "c", "x"].map(|given| credit(given, "a", &distractors)), [1.0, 0.0, 0.2]);
}
