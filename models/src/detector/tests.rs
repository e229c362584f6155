//! The detector that ships, with tract and without.
#![allow(clippy::unwrap_used)]

use super::*;

/// Without tract.
#[cfg(not(feature = "tract"))]
mod alone {
    use super::*;

    #[test]
    fn the_detector_that_ships_needs_no_tract() {
        assert!(Detector::builtin().unwrap().is_lowered());
    }

    #[test]
    fn what_no_probe_file_vouches_for_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (manifest, onnx) = (folder.path().join("trigger.toml"), folder.path().join("trigger.onnx"));
        std::fs::write(&manifest, BUILTIN.0).unwrap();
        std::fs::write(&onnx, BUILTIN.1).unwrap();
        let refused = || Detector::load(&manifest).unwrap_err().to_string();
        let why = refused();
        assert!(why.contains("trigger.onnx: there is no ") && why.contains("models probe"), "{why}");
        assert!(why.ends_with("this program is built without tract"), "{why}");
        std::fs::write(probe::beside(&onnx), BUILTIN_PROBE).unwrap();
        assert!(Detector::load(&manifest).unwrap().is_lowered());
        std::fs::write(probe::beside(&onnx), BUILTIN_PROBE.replacen("sha256 1", "sha256 2", 1)).unwrap();
        assert!(refused().contains("trigger.probe.txt: line 1: it is about another network"), "{}", refused());
        let more = format!("{BUILTIN_PROBE}0\n");
        std::fs::write(probe::beside(&onnx), more).unwrap();
        assert!(refused().contains("another length"), "{}", refused());
        let tract = Detector::from_manifest(Manifest::read(&manifest).unwrap(), &onnx, Engine::Tract);
        assert!(matches!(tract, Err(DetectorError::Unproven { .. })));
        assert!(matches!(Detector::probe_file(&manifest), Err(DetectorError::Unproven { .. })));
    }
}

#[cfg(feature = "tract")]
mod with_tract {
    use super::*;

    fn manifest() -> Manifest {
        Manifest::parse(Path::new("builtin"), BUILTIN.0).unwrap()
    }

    fn known() -> Vec<f32> {
        probe::parse(BUILTIN_PROBE, &manifest().sha256).unwrap()
    }

    #[test]
    fn what_is_known_of_the_shipped_detector_is_tracts_word() {
        let folder = tempfile::tempdir().unwrap();
        let (file, onnx) = (folder.path().join("trigger.toml"), folder.path().join("trigger.onnx"));
        std::fs::write(&file, BUILTIN.0).unwrap();
        std::fs::write(&onnx, BUILTIN.1).unwrap();
        let (place, text) = Detector::probe_file(&file).unwrap();
        assert_eq!(place, folder.path().join("trigger.probe.txt"));
        if std::env::var_os("AGENT_UPDATE_PROBE").is_some() {
            std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/artifacts/trigger.probe.txt"), &text).unwrap();
        }
        let (known, theirs) = (known(), probe::parse(&text, &manifest().sha256).unwrap());
        let all: usize = manifest().output_shape().iter().product();
        assert!(known.len() == theirs.len() && known.len() > KNOWN / 2, "{} of {all}", known.len());
        assert!(known.iter().any(|v| v.abs() > 0.1), "it says something");
        for (known, theirs) in known.iter().zip(&theirs) {
            assert!((known - theirs).abs() <= 1e-4 * theirs.abs().max(1.0), "{known} {theirs}");
        }
        // Only our own network can be vouched for.
        assert!(Detector::from_manifest(manifest(), &onnx, Engine::Tract).is_ok());
        let missing = Manifest::parse(&file, &BUILTIN.0.replace("trigger.onnx", "other.onnx")).unwrap();
        assert!(Detector::from_manifest(missing, &folder.path().join("other.onnx"), Engine::Auto).is_err());
    }

    #[test]
    fn a_network_that_says_something_else_than_is_known_is_put_to_tract_itself() {
        let known = known();
        let m = manifest();
        let proto = pb::ModelProto::decode(BUILTIN.1).unwrap();
        let probe = probe_image(&m);
        let held = |known: &[f32]| lowered(&m, &proto, &probe, known).map(drop);
        assert_eq!(held(&known), Ok(()));
        let mut other = known.clone();
        other[100] += 0.01;
        assert!(held(&other).unwrap_err().contains("differs"));
        other[100] = f32::NAN;
        assert!(held(&other).unwrap_err().contains("differs"));
        assert!(held(&known[1..]).unwrap_err().contains("length"));
        assert!(held(&[]).unwrap_err().contains("length"));
        // Known wrongly or not at all, it is tract's own answer that counts.
        for known in [Ok(Some(other)), Ok(None), Err("broken".to_owned())] {
            let (net, why) = build(&m, Path::new("builtin"), BUILTIN.1, Engine::Auto, known).unwrap();
            assert!(matches!(net, Net::Lowered(_)) && why.is_none());
        }
    }
}
