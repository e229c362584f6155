//! From drives with truth and results to figures. The rules stand in docs/evaluation.md; nothing is read or written here.

use std::collections::BTreeMap;

use agent_core::config::VisionConfig;
use agent_score::classes::{Binary, Confusion};
use agent_score::text::{BleuCounts, Rouge, bleu, rouge};
use agent_score::{bounds, intervals, mean, ranking};
use serde::Serialize;

use super::choice::{Choice, choices};
use super::load::{Answers, Drive, Event};

/// How far before the first sign, and after the crash, an event may lie and still be of it, s.
const SLACK_S: f64 = 1.0;
/// The least that an event may lie from the contact and still be of it, s.
const NEAR_S: f64 = 2.0;
/// Precision at which the recall of the risk is read (AutoVideoTrack's).
const RISK_PRECISION: f64 = 0.94;
/// How far ahead of the contact the risk is judged, s: the last instant, and the first.
const AHEAD_S: [f64; 2] = [1.0, 4.0];
/// Horizon of the risk, s, and the step at which its calibration looks at it.
const HORIZON_S: f64 = 2.0;
const STEP_S: f64 = 1.0;
/// Seed of the bootstrap.
const SEED: u64 = 1;

/// One figure.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) group: &'static str,
    pub(crate) name: String,
    /// `None` where the drives do not define it.
    pub(crate) value: Option<f64>,
    /// How many cases it rests on.
    pub(crate) n: usize,
    /// 95 % interval.
    pub(crate) interval: Option<[f64; 2]>,
    /// How the interval was made.
    pub(crate) method: &'static str,
    /// Hits and cases, where the figure is a share; of a precision the cases are the answers of yes, so fewer than `n`.
    pub(crate) share: Option<[usize; 2]>,
    /// One-sided 95 % upper bound, of rates of events: what can be promised, also where none was seen.
    pub(crate) at_most: Option<f64>,
}

/// How often drives of a scenario were noticed.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Family {
    pub(crate) drives: usize,
    /// With an event of the agent that is of the true one; for normal drives: with a false event.
    pub(crate) fired: usize,
    pub(crate) severity: String,
}

/// All of an evaluation but its circumstances.
#[derive(Debug, Serialize)]
pub(crate) struct Judged {
    pub(crate) figures: Vec<Figure>,
    /// Rows truth, columns answer: collision, near collision, normal.
    pub(crate) confusion_agent: Vec<Vec<usize>>,
    pub(crate) confusion_student: Option<Vec<Vec<usize>>>,
    pub(crate) families: BTreeMap<String, Family>,
    /// Cases, mean probability, share that happened.
    pub(crate) reliability_risk: Vec<(usize, f64, f64)>,
    pub(crate) reliability_student: Vec<(usize, f64, f64)>,
    /// Recall and precision, falling threshold.
    pub(crate) curve_risk: Vec<(f64, f64)>,
    pub(crate) curve_student: Vec<(f64, f64)>,
}

/// A drive with what was worked out for it once.
struct Case<'a> {
    drive: &'a Drive,
    /// The first event that is of the true one.
    matched: Option<&'a Event>,
    /// Class that the agent's kinds say.
    said: usize,
    /// The event whose student's answers count.
    answered: Option<&'a Answers>,
    /// BLEU counts and ROUGE of description, cause and prevention.
    texts: Option<[(BleuCounts, Rouge, bool); 3]>,
    /// Risk ahead of the contact, or the highest of a drive without collision; and whether there is a collision.
    clip: Option<(f64, bool)>,
    /// The same of one window of each drive, as long for all.
    window: Option<(f64, bool)>,
    frames: Vec<(f64, bool)>,
    /// What its answers are worth in multiple choice, where a baseline is given.
    choice: Choice,
}

/// Kinds that claim a danger; the others are harsh driving.
fn claims(event: &Event) -> bool {
    !event.kind.starts_with("harsh_")
}

fn class(kind: &str) -> usize {
    match kind {
        "collision" => 0,
        "near_collision" => 1,
        _ => 2,
    }
}

impl<'a> Case<'a> {
    fn of(drive: &'a Drive) -> Self {
        let matched = matched(drive, &drive.events);
        let said = drive.events.iter().map(|e| class(&e.kind)).min().unwrap_or(2);
        let answered = answered(drive, &drive.events);
        let truth = &drive.truth;
        let pair = |answer: &str, reference: &str| {
            (BleuCounts::of(answer, reference), rouge(answer, reference), answer == reference)
        };
        let texts = answered.map(|a| {
            let [description, cause, prevention] = &a.words;
            [
                pair(description, &truth.description.text),
                pair(cause, &truth.cause.text),
                pair(prevention, &truth.prevention.text),
            ]
        });
        let Risk { clip, window, frames } = risk(drive);
        Self { drive, matched, said, answered, texts, clip, window, frames, choice: Choice::default() }
    }
}

/// The event that is of the true one; of several the worst kind.
fn matched<'a>(drive: &Drive, events: &'a [Event]) -> Option<&'a Event> {
    events.iter().filter(|e| is_of(drive, e)).min_by_key(|e| class(&e.kind))
}

/// The answers that count: of a normal drive any event's, of the others those about the true event.
pub(crate) fn answered<'a>(drive: &Drive, events: &'a [Event]) -> Option<&'a Answers> {
    let normal = drive.truth.class == 2;
    let event = if normal { events.iter().find(|e| e.answers.is_some()) } else { matched(drive, events) };
    event.and_then(|e| e.answers.as_ref())
}

/// Whether an event of the agent is of the drive's true event.
pub(crate) fn is_of(drive: &Drive, event: &Event) -> bool {
    let Some(truth) = &drive.truth.event else { return false };
    let end = truth.crash_interval_s.map_or(truth.contact_s, |i| i[1]);
    let from = (truth.first_sign_s - SLACK_S).min(truth.contact_s - NEAR_S);
    let to = (end + SLACK_S).max(truth.contact_s + NEAR_S);
    (from..=to).contains(&event.zero_s)
}

/// A probability, and whether it came true.
type Told = (f64, bool);

/// A drive's cases of the risk.
#[derive(Default)]
struct Risk {
    clip: Option<Told>,
    window: Option<Told>,
    frames: Vec<Told>,
}

/// None where the camera cannot have seen it coming.
fn risk(drive: &Drive) -> Risk {
    let collision = drive.truth.event.as_ref().filter(|_| drive.truth.class == 0);
    if collision.is_some_and(|e| !e.sign_in_view) {
        return Risk::default();
    }
    let within = |from: f64, to: f64| {
        let all = drive.risk.iter().filter(|(t, _)| (from..=to).contains(t)).map(|(_, r)| *r);
        all.max_by(f64::total_cmp)
    };
    let contact_s = collision.map(|e| e.contact_s);
    let clip = match contact_s {
        Some(t) => within(t - AHEAD_S[1], t - AHEAD_S[0]).map(|r| (r, true)),
        None => within(f64::MIN, f64::MAX).map(|r| (r, false)),
    };
    // Of a normal drive its middle; the event of a near collision is the moment of the least time to collision.
    let middle = drive.risk.last().map_or(0.0, |(t, _)| t / 2.0) + (AHEAD_S[0] + AHEAD_S[1]) / 2.0;
    let at = drive.truth.event.as_ref().filter(|_| drive.truth.class < 2).map_or(middle, |e| e.contact_s);
    let window = within(at - AHEAD_S[1], at - AHEAD_S[0]).map(|r| (r, contact_s.is_some()));
    let (mut frames, mut due) = (Vec::new(), f64::MIN);
    for (t, risk) in &drive.risk {
        if *t < due || contact_s.is_some_and(|c| *t >= c) {
            continue;
        }
        due = t + STEP_S;
        frames.push((*risk, contact_s.is_some_and(|c| c - t <= HORIZON_S)));
    }
    Risk { clip, window, frames }
}

/// Makes figures with a bootstrap over drives.
struct Maker<'a> {
    cases: Vec<Case<'a>>,
    figures: Vec<Figure>,
}

impl<'a> Maker<'a> {
    fn add(
        &mut self,
        group: &'static str,
        name: &str,
        n: impl Fn(&Case<'a>) -> usize,
        figure: impl Fn(&[&Case<'a>]) -> Option<f64>,
    ) {
        let with: Vec<&Case<'a>> = self.cases.iter().filter(|c| n(c) > 0).collect();
        let count = with.iter().map(|c| n(c)).sum();
        let interval = bounds::bootstrap(with.len(), SEED, |drawn| {
            figure(&drawn.iter().filter_map(|i| with.get(*i).copied()).collect::<Vec<_>>())
        });
        let value = figure(&with);
        let interval = interval.filter(|_| value.is_some());
        let method = "bootstrap over drives";
        self.figures.push(Figure {
            group,
            name: name.to_owned(),
            value,
            n: count,
            interval,
            method,
            share: None,
            at_most: None,
        });
    }

    /// A share of which each drive of `has` is at most one case: its bounds are exact, also at 0 % and 100 %, where a
    /// bootstrap's would have no width. `count` gives hits and cases.
    fn share(
        &mut self,
        group: &'static str,
        name: &str,
        has: impl Fn(&Case<'a>) -> bool,
        count: impl Fn(&[&Case<'a>]) -> [usize; 2],
    ) {
        let with: Vec<&Case<'a>> = self.cases.iter().filter(|c| has(c)).collect();
        let [hits, of] = count(&with);
        self.figures.push(Figure {
            group,
            name: name.to_owned(),
            value: (of > 0).then(|| hits as f64 / of as f64),
            n: with.len(),
            interval: bounds::share(hits, of),
            method: "exact Clopper-Pearson",
            share: Some([hits, of]),
            at_most: None,
        });
    }

    /// The share of drives with a yes among those with an answer.
    fn yes(&mut self, group: &'static str, name: &str, hit: impl Fn(&Case<'a>) -> Option<bool>) {
        self.share(
            group,
            name,
            |c| hit(c).is_some(),
            |cases| [cases.iter().filter(|c| hit(c) == Some(true)).count(), cases.len()],
        );
    }

    /// Accuracy, precision, recall and F1 of a yes-or-no judgement.
    fn binary(
        &mut self,
        group: &'static str,
        name: &str,
        has: impl Fn(&Case<'a>) -> bool + Copy,
        judged: impl Fn(&[&Case<'a>]) -> Binary + Copy,
    ) {
        self.share(group, &format!("{name}: accuracy"), has, |c| {
            let b = judged(c);
            [b.true_positives + b.true_negatives, b.n()]
        });
        self.share(group, &format!("{name}: precision"), has, |c| {
            let b = judged(c);
            [b.true_positives, b.true_positives + b.false_positives]
        });
        self.share(group, &format!("{name}: recall"), has, |c| {
            let b = judged(c);
            [b.true_positives, b.true_positives + b.false_negatives]
        });
        self.add(group, &format!("{name}: F1"), |c| usize::from(has(c)), |c| judged(c).f1());
    }

    /// Mean of a value of each drive that has it.
    fn mean(&mut self, group: &'static str, name: &str, value: impl Fn(&Case<'a>) -> Option<f64>) {
        self.add(group, name, |c| usize::from(value(c).is_some()), |cases| mean(cases.iter().filter_map(|c| value(c))));
    }

    fn trigger(&mut self) {
        let fired = |c: &Case<'_>| c.matched.is_some();
        let ego = |c: &Case<'_>| c.drive.truth.event.as_ref().is_some_and(|e| e.ego_takes_part);
        let class = |c: &Case<'_>| c.drive.truth.class;
        let group = "trigger";
        self.yes(group, "recall, collisions of the ego vehicle", |c| (class(c) == 0 && ego(c)).then(|| fired(c)));
        self.yes(group, "the same, called a collision", |c| {
            (class(c) == 0 && ego(c)).then(|| c.matched.is_some_and(|e| e.kind == "collision"))
        });
        self.yes(group, "recall, collisions of others", |c| (class(c) == 0 && !ego(c)).then(|| fired(c)));
        self.yes(group, "recall, near collisions", |c| (class(c) == 1).then(|| fired(c)));
        let normal: Vec<&Case<'_>> = self.cases.iter().filter(|c| class(c) == 2).collect();
        // An empty sum is -0.0.
        let km = normal.iter().map(|c| c.drive.truth.way_m / 1000.0).sum::<f64>() + 0.0;
        let count = |kept: fn(&Event) -> bool| -> u32 {
            let all = normal.iter().flat_map(|c| &c.drive.events).filter(|e| kept(e)).count();
            u32::try_from(all).unwrap_or(u32::MAX)
        };
        let rates = [
            ("false events per 1,000 km", count(claims)),
            ("harsh driving events per 1,000 km", count(|e| !claims(e))),
        ];
        for (name, events) in rates {
            let per = |n: f64| n / km * 1000.0;
            self.figures.push(Figure {
                group,
                name: format!("{name}, normal drives ({events} in {km:.1} km)"),
                value: (km > 0.0).then(|| per(f64::from(events))),
                n: normal.len(),
                interval: (km > 0.0).then(|| bounds::poisson(events).map(per)),
                method: "exact Poisson",
                share: None,
                at_most: (km > 0.0).then(|| per(bounds::poisson_at_most_95(events))),
            });
        }
    }

    fn severity(&mut self, group: &'static str, answer: impl Fn(&Case<'a>) -> Option<usize> + Copy) {
        let has = move |c: &Case<'a>| answer(c).is_some();
        let confusion = move |cases: &[&Case<'a>]| {
            Confusion::of(3, cases.iter().filter_map(|c| Some((c.drive.truth.class, answer(c)?))))
        };
        self.yes(group, "three classes: accuracy", |c| answer(c).map(|said| said == c.drive.truth.class));
        self.add(group, "three classes: macro F1", |c| usize::from(has(c)), |c| confusion(c).macro_f1());
        let binary = [("collision or not", 0), ("safety-critical or normal", 1)];
        for (name, last) in binary {
            self.binary(group, name, has, move |cases| {
                let yes = |c: &&Case<'a>| Some((c.drive.truth.class <= last, answer(c)? <= last));
                Binary::of(cases.iter().filter_map(yes))
            });
        }
    }

    fn tasks(&mut self) {
        let group = "six tasks";
        let has = |c: &Case<'a>| usize::from(c.answered.is_some());
        let cases =
            |drives: &[&Case<'a>]| -> Vec<(f64, bool)> { drives.iter().filter_map(|c| recognition(c)).collect() };
        self.binary(
            group,
            "recognition",
            |c| c.answered.is_some(),
            |c| Binary::of(cases(c).into_iter().map(|(p, y)| (y, p >= 0.5))),
        );
        self.add(group, "recognition: average precision", has, |c| ranking::average_precision(&cases(c)));
        self.add(group, "recognition: Brier", has, |c| ranking::brier(&cases(c)));
        self.add(group, "recognition: ECE", has, |c| ranking::calibration_error(&cases(c)));
        for (at, name) in ["description", "cause", "prevention"].into_iter().enumerate() {
            let text = move |c: &Case<'a>| c.texts.as_ref().and_then(|t| t.get(at).copied());
            self.yes(group, &format!("{name}: exact"), |c| text(c).map(|t| t.2));
            self.add(group, &format!("{name}: BLEU"), has, |c| {
                bleu(&c.iter().filter_map(|c| text(c)).map(|t| t.0).collect::<Vec<_>>())
            });
            self.mean(group, &format!("{name}: ROUGE-1"), |c| text(c).map(|t| t.1.one));
            self.mean(group, &format!("{name}: ROUGE-2"), |c| text(c).map(|t| t.1.two));
            self.mean(group, &format!("{name}: ROUGE-L"), |c| text(c).map(|t| t.1.l));
        }
        for (at, name) in ["description", "cause", "prevention"].into_iter().enumerate() {
            let choice = move |c: &Case<'a>| c.choice.get(at).copied().flatten();
            if self.cases.iter().any(|c| choice(c).is_some()) {
                self.mean(group, &format!("{name}: multiple choice"), |c| choice(c).map(|(credit, _)| credit));
                self.mean(group, &format!("{name}: distractors out of confusions"), |c| {
                    choice(c).map(|(_, confused)| confused as f64)
                });
            }
        }
        self.yes(group, "crash localization: part of it in the window", |c| crash(c).map(|t| t.is_some()));
        self.overlaps(group, "crash localization", |c| {
            let (said, truth) = (c.answered?.crash_s, crash(c)??);
            Some(said.map_or(0.0, |s| intervals::iou(s, truth)))
        });
        self.overlaps(group, "pre-crash", |c| sign(c).map(|s| s.map_or(0.0, |s| s.iou)));
        self.mean(group, "pre-crash: time to accident, s", |c| sign(c)?.map(|s| s.tta_s));
        self.mean(group, "pre-crash: error of it, s", |c| sign(c)?.map(|s| s.tta_error_s));
    }

    fn overlaps(&mut self, group: &'static str, name: &str, iou: impl Fn(&Case<'a>) -> Option<f64> + Copy) {
        self.mean(group, &format!("{name}: mIoU"), iou);
        for bound in intervals::SHARES {
            self.yes(group, &format!("{name}: IoU at least {bound}"), |c| iou(c).map(|iou| iou >= bound));
        }
    }

    fn risk(&mut self) {
        let group = "risk";
        let has = |c: &Case<'a>| usize::from(c.clip.is_some());
        let clips = |cases: &[&Case<'a>]| -> Vec<(f64, bool)> { cases.iter().filter_map(|c| c.clip).collect() };
        self.add(group, "1 s ahead, drives: average precision", has, |c| ranking::average_precision(&clips(c)));
        self.add(group, "1 s ahead, drives: ROC AUC", has, |c| ranking::roc_auc(&clips(c)));
        self.add(group, "1 s ahead, drives: recall at precision 0.94", has, |c| {
            ranking::recall_at_precision(&clips(c), RISK_PRECISION)
        });
        let windows = |cases: &[&Case<'a>]| -> Vec<(f64, bool)> { cases.iter().filter_map(|c| c.window).collect() };
        let has = |c: &Case<'a>| usize::from(c.window.is_some());
        self.add(group, "1 s ahead, a window each: average precision", has, |c| {
            ranking::average_precision(&windows(c))
        });
        self.add(group, "1 s ahead, a window each: ROC AUC", has, |c| ranking::roc_auc(&windows(c)));
        self.add(group, "1 s ahead, a window each: recall at precision 0.94", has, |c| {
            ranking::recall_at_precision(&windows(c), RISK_PRECISION)
        });
        let name = |what: &str| format!("1 s ahead, a window each: {what}");
        self.add(group, &name("Brier"), has, |c| ranking::brier(&windows(c)));
        self.add(group, &name("MAE"), has, |c| ranking::mean_absolute_error(&windows(c)));
        self.add(group, &name("ECE"), has, |c| ranking::calibration_error(&windows(c)));
        // As shipped, whatever the replays were told; a test holds the core's default to the file's. Compared as it does.
        let on = VisionConfig::default().ahead_on;
        let fired =
            |cases: &[&Case<'a>]| Binary::of(windows(cases).into_iter().map(|(risk, y)| (y, risk as f32 >= on)));
        let has = |c: &Case<'a>| c.window.is_some();
        self.share(group, &name(&format!("precision at ahead_on = {on:.2}")), has, |c| {
            let b = fired(c);
            [b.true_positives, b.true_positives + b.false_positives]
        });
        self.share(group, &name(&format!("recall at ahead_on = {on:.2}")), has, |c| {
            let b = fired(c);
            [b.true_positives, b.true_positives + b.false_negatives]
        });
        self.yes(group, "collisions whose sign shows 1 s before the contact", |c| {
            let event = c.drive.truth.event.as_ref().filter(|_| c.drive.truth.class == 0)?;
            Some(event.sign_in_view && event.contact_s - event.first_sign_s >= AHEAD_S[0])
        });
        let all: Vec<&Case<'a>> = self.cases.iter().collect();
        let threshold = ranking::point_at_precision(&clips(&all), RISK_PRECISION).map(|p| p.threshold);
        self.mean(group, "time to accident at that threshold, s", |c| {
            let contact_s = c.drive.truth.event.as_ref().filter(|_| c.clip.is_some_and(|c| c.1))?.contact_s;
            intervals::time_to_accident(&c.drive.risk, threshold?, contact_s)
        });
        let frames =
            |cases: &[&Case<'a>]| -> Vec<(f64, bool)> { cases.iter().flat_map(|c| c.frames.clone()).collect() };
        let has = |c: &Case<'a>| c.frames.len();
        self.add(group, "next 2 s, each second: Brier", has, |c| ranking::brier(&frames(c)));
        self.add(group, "next 2 s, each second: MAE", has, |c| ranking::mean_absolute_error(&frames(c)));
        self.add(group, "next 2 s, each second: ECE", has, |c| ranking::calibration_error(&frames(c)));
    }
}

fn recognition(case: &Case<'_>) -> Option<(f64, bool)> {
    Some((case.answered?.recognition, case.drive.truth.class == 0))
}

/// The true crash interval of a drive with an answer, cut to what the student was shown as its training does; inner `None`
/// where it was shown nothing of it. Whole where the window is not known.
fn crash(case: &Case<'_>) -> Option<Option<[f64; 2]>> {
    let (answers, truth) = (case.answered?, case.drive.truth.event.as_ref()?.crash_interval_s?);
    let [from, to] = answers.seen_s.unwrap_or(truth);
    let cut = [truth[0].max(from), truth[1].min(to)];
    Some((cut[0] < cut[1]).then_some(cut))
}

/// Of a drive that asks for the first sign: what the answer is worth, if there is one.
fn sign(case: &Case<'_>) -> Option<Option<intervals::PreCrash>> {
    let (answers, truth) = (case.answered?, case.drive.truth.event.as_ref()?);
    // CrashChat asks it of crashes that show.
    if case.drive.truth.class != 0 || !truth.sign_in_view {
        return None;
    }
    Some(answers.sign_s.map(|s| intervals::pre_crash(truth.contact_s, truth.first_sign_s, s)))
}

fn table(cases: &[(f64, bool)]) -> Vec<(usize, f64, f64)> {
    let bins = ranking::reliability(cases);
    bins.iter().filter(|b| b.n > 0).map(|b| (b.n, b.mean_probability, b.share_happened)).collect()
}

/// Scores drives whose results were read.
pub(crate) fn judge(drives: &[Drive]) -> Judged {
    let mut maker = Maker { cases: drives.iter().map(Case::of).collect(), figures: Vec::new() };
    for (case, choice) in maker.cases.iter_mut().zip(choices(drives).into_iter().flatten()) {
        case.choice = choice;
    }
    maker.trigger();
    maker.severity("severity, the agent's kind", |c| Some(c.said));
    let student = |c: &Case<'_>| c.answered.and_then(|a| a.severity);
    if maker.cases.iter().any(|c| c.answered.is_some()) {
        let with = |telemetry: bool| {
            move |c: &Case<'_>| student(c).filter(|_| c.answered.is_some_and(|a| a.telemetry == telemetry))
        };
        maker.severity("severity, the student with telemetry", with(true));
        maker.severity("severity, the student from video alone", with(false));
        maker.tasks();
    }
    if drives.iter().any(|d| !d.risk.is_empty()) {
        maker.risk();
    }
    let Maker { cases, figures } = maker;
    let matrix = |pairs: Vec<(usize, usize)>| Confusion::of(3, pairs).counts;
    let students: Vec<(usize, usize)> = cases.iter().filter_map(|c| Some((c.drive.truth.class, student(c)?))).collect();
    let clips: Vec<(f64, bool)> = cases.iter().filter_map(|c| c.clip).collect();
    let frames: Vec<(f64, bool)> = cases.iter().flat_map(|c| c.frames.clone()).collect();
    let told: Vec<(f64, bool)> = cases.iter().filter_map(recognition).collect();
    let line = |cases: &[(f64, bool)]| ranking::curve(cases).iter().map(|p| (p.recall, p.precision)).collect();
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for case in &cases {
        let truth = &case.drive.truth;
        let family = families.entry(truth.scenario.clone()).or_default();
        family.severity.clone_from(&truth.severity);
        family.drives += 1;
        let fired = if truth.class == 2 { case.drive.events.iter().any(claims) } else { case.matched.is_some() };
        family.fired += usize::from(fired);
    }
    Judged {
        figures,
        confusion_agent: matrix(cases.iter().map(|c| (c.drive.truth.class, c.said)).collect()),
        confusion_student: (!students.is_empty()).then(|| matrix(students)),
        families,
        reliability_risk: table(&frames),
        reliability_student: table(&told),
        curve_risk: line(&clips),
        curve_student: line(&told),
    }
}
