//! The demo drive as its users see it.

use agent_sim::{DemoDrive, SimRecord};

#[test]
fn prints_truth() {
    let drive = DemoDrive::new(7);
    println!("{:#?}", drive.truth());
    for s in 0..40 {
        let (v, a) = drive.true_motion(agent_core::time::MonoTime::from_s(s as f64));
        println!("{s} {v:.2} {a:.2?}");
    }
}
