//! What a fleet meets: each fault of a real process ends in an answer from a lower step or in a reason, and the
//! supervisor can be asked again afterwards.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use agent_wire::{EventId, LadderReason, StudentRefusal, UnitId};
use agent_worker::client::Launch;
use agent_worker::job::{Answers, FrameInput, TelemetryRow, Window};
use agent_worker::ladder::{Step, Thermal, refusal};
use agent_worker::limits::PING_EVERY;
use agent_worker::supervisor::{Begin, Outcome, Reply, Supervisor, SupervisorConfig};

use crate::process::{launch, nowhere};

fn steps(launches: Vec<Launch>) -> Vec<Step> {
    let number = |i: usize| u8::try_from(i).unwrap();
    let step = |(i, launch)| Step { number: number(i), launch, max_frames: None, token_budget: None };
    launches.into_iter().enumerate().map(step).collect()
}

fn supervisor(modes: &[&str]) -> Supervisor {
    Supervisor::new(supervised(modes.iter().map(|m| launch(m)).collect()))
}

fn begin(within_s: f32) -> Begin {
    Begin {
        event: EventId { unit: UnitId::new("unit-1").unwrap(), boot: 1, seq: 1 },
        window: Window { width: 42, height: 24, ..Window::default() },
        zero_s: 4.0,
        question: None,
        within: Duration::from_secs_f32(within_s),
    }
}

fn never() -> bool {
    false
}

fn push(student: &mut Supervisor, range: std::ops::Range<usize>) {
    for i in range {
        let rgb = vec![i as u8; 42 * 24 * 3];
        let telemetry = Some(TelemetryRow { acc_mps2: [0.0; 3], heading_change_deg: 0.0, speed_mps: None });
        let t_s = i as f32 / 3.0;
        student.push(&FrameInput { t_s, width: 42, height: 24, rgb: &rgb, telemetry, objects: &[] }, &never);
    }
}

fn job(student: &mut Supervisor, within_s: f32) -> Outcome {
    student.begin(begin(within_s), &never);
    push(student, 0..18);
    student.finish(&never)
}

fn answers(outcome: &Outcome) -> &Answers {
    match &outcome.reply {
        Some(Reply::Answers(answers)) => answers,
        other => panic!("{other:?}, falls {:?}", outcome.falls),
    }
}

fn reasons(outcome: &Outcome) -> Vec<(u8, LadderReason)> {
    outcome.falls.iter().map(|f| (f.step, f.reason)).collect()
}

/// Sum of all bytes of frames 0 to 17.
fn whole_sum() -> String {
    format!("sum {} ", 153 * 42 * 24 * 3)
}

#[test]
fn a_sound_worker_answers_job_after_job_and_its_codes_are_held_against_its_codebook() {
    let mut student = supervisor(&["ok"]);
    assert_eq!(student.prepare(&never), []);
    for _ in 0..3 {
        let outcome = job(&mut student, 20.0);
        let a = answers(&outcome);
        assert_eq!((a.frames, a.ladder_step, reasons(&outcome)), (18, 0, vec![]));
        assert!(a.prevention.as_ref().unwrap().text.starts_with(&whole_sum()));
        assert_eq!(a.description.as_ref().unwrap().code, Some(0));
        let cause = a.cause.as_ref().unwrap();
        assert_eq!((cause.code, cause.text.as_str()), (None, "unknown road"));
        assert_eq!(outcome.facts.as_ref().unwrap().codebook.version, 3);
        // The model was not trained on telemetry: it is not given any.
        assert!(!a.telemetry);
    }
    assert_eq!(student.idle(&never), []);
    student.stop();
}

#[test]
fn a_free_question_is_answered_about_the_same_frames() {
    let mut student = supervisor(&["telemetry"]);
    student.begin(Begin { question: Some(("who?".to_owned(), 64)), ..begin(20.0) }, &never);
    push(&mut student, 0..18);
    assert_eq!(student.finish(&never).reply, Some(Reply::Text("who? 18 frames".to_owned())));
    assert!(answers(&job(&mut student, 20.0)).telemetry);
}

#[test]
fn a_worker_killed_in_the_middle_of_a_job_leaves_the_job_to_the_next_step() {
    let mut student = supervisor(&["ok", "lower"]);
    student.begin(begin(20.0), &never);
    push(&mut student, 0..9);
    let pid = student.pid().unwrap();
    assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
    // It may be noticed at a frame or only at the question.
    push(&mut student, 9..18);
    let outcome = student.finish(&never);
    let a = answers(&outcome);
    assert_eq!((a.ladder_step, a.frames, reasons(&outcome)), (1, 18, vec![(0, LadderReason::WorkerDied)]));
    assert!(a.prevention.as_ref().unwrap().text.starts_with(&whole_sum()), "frames from before the kill are missing");
    assert!(outcome.falls[0].detail.contains("signal: 9"), "{:?}", outcome.falls);
    // The first step waits for its time; the second is asked meanwhile.
    let outcome = job(&mut student, 20.0);
    assert_eq!((answers(&outcome).ladder_step, reasons(&outcome)), (1, vec![(0, LadderReason::WorkerDied)]));
    // And is tried again after it.
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(answers(&job(&mut student, 20.0)).ladder_step, 0);
}

#[test]
fn a_stopped_process_is_a_hang_and_is_killed() {
    let mut student = supervisor(&["ok", "lower"]);
    student.begin(begin(6.0), &never);
    push(&mut student, 0..18);
    let pid = student.pid().unwrap().to_string();
    assert!(Command::new("kill").args(["-STOP", &pid]).status().unwrap().success());
    let outcome = student.finish(&never);
    assert_eq!((answers(&outcome).ladder_step, reasons(&outcome)), (1, vec![(0, LadderReason::Deadline)]));
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "the hung worker still runs");
}

#[test]
fn every_fault_of_the_first_step_is_named_and_the_second_answers() {
    for (mode, reason) in [
        ("dies", LadderReason::WorkerDied),
        ("panics", LadderReason::WorkerDied),
        ("frame-oom", LadderReason::OutOfMemory),
        ("frame-hang", LadderReason::Deadline),
        ("oom", LadderReason::OutOfMemory),
        ("corrupt", LadderReason::CorruptModel),
        ("garbage", LadderReason::Protocol),
        ("version", LadderReason::Protocol),
        ("oversized", LadderReason::Protocol),
        ("nan", LadderReason::Failed),
        ("hang", LadderReason::Deadline),
        ("slow", LadderReason::Deadline),
    ] {
        let mut student = supervisor(&[mode, "lower"]);
        let outcome = job(&mut student, 5.0);
        assert_eq!(reasons(&outcome), [(0, reason)], "{mode}: {:?}", outcome.falls);
        assert_eq!(answers(&outcome).ladder_step, 1, "{mode}");
    }
}

#[test]
fn a_model_that_never_loads_is_given_up() {
    let launches = vec![launch("load-hang"), launch("ok")];
    let config = SupervisorConfig { load_within: Duration::from_millis(700), ..supervised(launches) };
    // Loading takes the other process some time too: it has as much.
    let outcome = job(&mut Supervisor::new(config), 10.0);
    assert_eq!(outcome.falls.first().map(|f| f.reason), Some(LadderReason::Deadline));
}

#[test]
fn a_job_is_tried_twice_and_not_a_third_time() {
    let mut student = supervisor(&["dies", "panics", "ok"]);
    let outcome = job(&mut student, 20.0);
    assert_eq!(outcome.reply, None);
    assert_eq!(reasons(&outcome), [(0, LadderReason::WorkerDied), (1, LadderReason::WorkerDied)]);
    assert_eq!(refusal(&outcome.falls), StudentRefusal::Failed);
    // A step whose worker never came up cost the job nothing: all three are walked.
    let mut student = supervisor(&["corrupt", "dies", "ok"]);
    let outcome = job(&mut student, 20.0);
    assert_eq!(reasons(&outcome), [(0, LadderReason::CorruptModel), (1, LadderReason::WorkerDied)]);
    assert_eq!(answers(&outcome).ladder_step, 2);
}

#[test]
fn a_smaller_budget_and_a_smaller_window_get_their_share_and_tell_times_of_the_first_frame() {
    let mut config = supervised(vec![launch("oom"), launch("ok")]);
    (config.steps[1].max_frames, config.steps[1].token_budget) = (Some(9), Some(640));
    let outcome = job(&mut Supervisor::new(config), 20.0);
    let a = answers(&outcome);
    assert_eq!((a.frames, a.ladder_step), (9, 1));
    assert!(a.prevention.as_ref().unwrap().text.ends_with("budget Some(640)"));

    let outcome = job(&mut supervisor(&["corrupt", "small"]), 20.0);
    let a = answers(&outcome);
    let crash = a.crash.unwrap();
    assert!((1..=4).contains(&a.frames));
    // Its window begins 1 s before time zero, which stands at 4 s of what was collected.
    assert!(crash.from_s >= 2.8 && crash.to_s <= 5.2 && crash.from_s < crash.to_s, "{crash:?}");
}

fn supervised(launches: Vec<Launch>) -> SupervisorConfig {
    let (load_within, ping_every) = (Duration::from_secs(20), PING_EVERY);
    SupervisorConfig { steps: steps(launches), load_within, thermal: None, ping_every }
}

fn thermal(zone: Option<&Path>, throttled: Option<&Path>) -> Option<Thermal> {
    let owned = |path: Option<&Path>| path.map(Path::to_owned);
    Some(Thermal { zone: owned(zone), warm_c: 85.0, hot_c: 95.0, throttled: owned(throttled) })
}

#[test]
fn a_warm_or_throttled_board_takes_the_next_step_and_a_cool_one_the_first_again() {
    let folder = tempfile::tempdir().unwrap();
    let (zone, throttled) = (folder.path().join("temp"), folder.path().join("cur_state"));
    let launches = vec![launch("ok"), launch("ok")];
    let config = SupervisorConfig { thermal: thermal(Some(&zone), Some(&throttled)), ..supervised(launches) };
    let mut student = Supervisor::new(config);
    for (degrees, state, falls, step) in [
        ("", "", vec![], 0),
        ("84900", "0", vec![], 0),
        ("85000", "0", vec![(0, LadderReason::Hot)], 1),
        ("60000", "2", vec![(0, LadderReason::Hot)], 1),
        ("60000", "no number", vec![], 0),
    ] {
        std::fs::write(&zone, degrees).unwrap();
        std::fs::write(&throttled, state).unwrap();
        let outcome = job(&mut student, 20.0);
        assert_eq!((reasons(&outcome), answers(&outcome).ladder_step), (falls, step), "{degrees} {state}");
    }
    // With one step alone warmth is no reason to be silent.
    std::fs::write(&zone, "94900").unwrap();
    let config = SupervisorConfig { thermal: thermal(Some(&zone), None), ..supervised(vec![launch("ok")]) };
    assert_eq!(answers(&job(&mut Supervisor::new(config), 20.0)).ladder_step, 0);
}

#[test]
fn nothing_installed_too_hot_and_too_many_frames_are_said() {
    let outcome = job(&mut Supervisor::new(supervised(vec![nowhere()])), 5.0);
    assert_eq!(reasons(&outcome), [(0, LadderReason::NotInstalled)]);
    assert_eq!(refusal(&outcome.falls), StudentRefusal::NotInstalled);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("temp");
    std::fs::write(&file, "97500\n").unwrap();
    let config = SupervisorConfig { thermal: thermal(Some(&file), None), ..supervised(vec![launch("ok")]) };
    let mut student = Supervisor::new(config);
    let outcome = job(&mut student, 5.0);
    assert_eq!((reasons(&outcome), refusal(&outcome.falls)), (vec![(0, LadderReason::Hot)], StudentRefusal::Hot));
    std::fs::write(&file, "60000\n").unwrap();
    assert_eq!(answers(&job(&mut student, 20.0)).frames, 18);

    student.begin(begin(5.0), &never);
    push(&mut student, 0..97);
    let outcome = student.finish(&never);
    assert_eq!((outcome.reply.clone(), reasons(&outcome)), (None, vec![(0, LadderReason::Overload)]));
    assert_eq!(answers(&job(&mut student, 20.0)).frames, 18, "the next job is not harmed");
}

#[test]
fn a_dropped_job_leaves_nothing_in_the_next_one() {
    let mut student = supervisor(&["ok"]);
    student.begin(begin(20.0), &never);
    push(&mut student, 0..7);
    let outcome = job(&mut student, 20.0);
    assert_eq!(answers(&outcome).frames, 18);
    student.begin(begin(20.0), &never);
    push(&mut student, 0..5);
    student.drop_job();
    let empty = student.finish(&never);
    assert_eq!((empty.reply, empty.falls), (None, vec![]));
    assert_eq!(answers(&job(&mut student, 20.0)).frames, 18);
}

#[test]
fn a_caller_that_ends_is_not_kept_and_a_cancelled_worker_stays_sound() {
    let mut student = supervisor(&["slow", "ok"]);
    student.begin(begin(20.0), &never);
    push(&mut student, 0..18);
    let pid = student.pid();
    let outcome = student.finish(&|| true);
    assert_eq!(outcome.reply, None);
    assert_eq!(student.pid(), pid, "it gave the job back and need not be killed");
    assert_eq!(student.idle(&never), []);
}

#[test]
fn an_idle_worker_that_dies_is_started_again() {
    let mut student = supervisor(&["ok"]);
    assert_eq!(student.prepare(&never), []);
    let pid = student.pid().unwrap();
    assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
    // The job that comes finds it dead, and there is no other step.
    let outcome = job(&mut student, 20.0);
    assert_eq!(reasons(&outcome), [(0, LadderReason::WorkerDied)]);
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(student.idle(&never), []);
    assert_ne!(student.pid().unwrap(), pid);
    assert_eq!(answers(&job(&mut student, 20.0)).frames, 18);
}

#[test]
fn an_idle_worker_is_asked_whether_it_lives_and_one_that_hangs_is_replaced() {
    let config = SupervisorConfig { ping_every: Duration::ZERO, ..supervised(vec![launch("ok")]) };
    let mut student = Supervisor::new(config);
    assert_eq!(student.prepare(&never), []);
    let pid = student.pid().unwrap();
    for _ in 0..3 {
        assert_eq!(student.idle(&never), []);
    }
    assert_eq!(student.pid(), Some(pid));
    assert!(Command::new("kill").args(["-STOP", &pid.to_string()]).status().unwrap().success());
    // The signal takes its time where processors are busy, and until then it would answer.
    let stopped = || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| s.contains(") T "));
    for _ in 0..500 {
        if stopped() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(stopped());
    let falls = student.idle(&never);
    assert_eq!(falls.iter().map(|f| (f.step, f.reason)).collect::<Vec<_>>(), [(0, LadderReason::Deadline)]);
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "the hung worker still runs");
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(student.idle(&never), []);
    assert_ne!(student.pid().unwrap(), pid);
    assert_eq!(answers(&job(&mut student, 20.0)).frames, 18);
}

#[test]
fn a_worker_that_others_run_is_reached_by_path() {
    use std::os::unix::net::UnixListener;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("student.sock");
    let config = || supervised(vec![Launch::Connect(path.clone())]);
    let outcome = job(&mut Supervisor::new(config()), 5.0);
    assert_eq!(reasons(&outcome), [(0, LadderReason::Unreachable)]);
    let listener = UnixListener::bind(&path).unwrap();
    // The other end is a real worker process all the same: its standard input is the accepted connection.
    let served = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let Launch::Child { program, args, .. } = launch("ok") else { return };
        let stdin = std::process::Stdio::from(std::os::fd::OwnedFd::from(stream));
        Command::new(program).args(args).stdin(stdin).stdout(std::process::Stdio::null()).status().unwrap();
    });
    let mut student = Supervisor::new(config());
    assert_eq!(answers(&job(&mut student, 20.0)).frames, 18);
    student.stop();
    served.join().unwrap();
}
