//! The checks of `gpu check` that compare ways of asking, on the processor: they hold there, and each notices when the
//! promise it is for is broken.

use agent_student::{
    convert::{Preset, shape_tiny, write_random},
    engine::{EngineLanguage, EngineVision},
    error::Result,
    file::ModelFile,
    llm::{Language, Piece, Room, Row, Seeing, candle::CandleLanguage},
    shape::TextShape,
    vision::Vision,
};
use candle_core::Device;

#[path = "../../examples/gpu/ways.rs"]
mod ways;

const ROOM: Room = Room { prefix: 128, branches: 6, branch: ways::BRANCH };

/// What a language half does wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Logits turn over when several branches are in a step.
    Company,
    /// All frames but the first are read otherwise when each comes by itself.
    Frames,
    /// Logits turn over when a branch has several marked rows.
    Drafts,
    /// A token of the job before stays in the prefix when that job ended with a refused step.
    Left,
    /// Logits are no numbers.
    Numbers,
}

struct Broken {
    inner: EngineLanguage,
    fault: Fault,
    left: bool,
}

impl Language for Broken {
    fn shape(&self) -> &TextShape {
        self.inner.shape()
    }

    fn reset(&mut self) {
        self.inner.reset();
    }

    fn prefix_len(&self) -> usize {
        self.inner.prefix_len()
    }

    fn extend_tokens(&mut self, ids: &[u32]) -> Result<()> {
        self.inner.extend_tokens(ids)
    }

    fn extend_embeddings(&mut self, x: &[f32], rows: usize) -> Result<()> {
        self.inner.extend_embeddings(x, rows)
    }

    fn extend_pieces(&mut self, pieces: &[Piece<'_>]) -> Result<()> {
        let later = self.inner.prefix_len() > 0;
        if self.left && !later {
            self.inner.extend_tokens(&[1])?;
        }
        for piece in pieces {
            match piece {
                Piece::Embeddings(x) if self.fault == Fault::Frames && later => {
                    let off: Vec<f32> = x.iter().map(|v| v + 0.5).collect();
                    self.inner.extend_pieces(&[Piece::Embeddings(&off)])?;
                }
                piece => self.inner.extend_pieces(&[*piece])?,
            }
        }
        Ok(())
    }

    fn open_branches(&mut self, n: usize) -> Result<()> {
        self.inner.open_branches(n)
    }

    fn branch_len(&self, branch: u8) -> usize {
        self.inner.branch_len(branch)
    }

    fn truncate(&mut self, branch: u8, len: usize) {
        self.inner.truncate(branch, len);
    }

    fn copy_branch(&mut self, from: u8, to: u8) -> Result<()> {
        self.inner.copy_branch(from, to)
    }

    fn step(&mut self, rows: &[Row], marks: &[bool], out: &mut Vec<f32>) -> Result<()> {
        let done = self.inner.step(rows, marks, out);
        self.left |= self.fault == Fault::Left && done.is_err();
        let marked = |branch: u8| rows.iter().zip(marks).filter(|(row, mark)| row.branch == branch && **mark).count();
        let hits = match self.fault {
            Fault::Frames | Fault::Left => false,
            Fault::Company => rows.iter().any(|row| row.branch != rows[0].branch),
            Fault::Drafts => rows.iter().any(|row| marked(row.branch) > 1),
            Fault::Numbers => true,
        };
        if hits {
            let factor = if self.fault == Fault::Numbers { f32::NAN } else { -1.0 };
            out.iter_mut().for_each(|logit| *logit *= factor);
        }
        done
    }
}

/// A tiny model's file and two scenes of so many frames for it.
fn scenes(preset: Preset, frames: usize) -> (tempfile::TempDir, ModelFile, [ways::Scene; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    write_random(&shape_tiny(), 5, preset, &path).unwrap();
    let scenes = [1, 2].map(|seed| ways::Scene::new(seed, &shape_tiny(), frames, (4, 6)));
    (folder, ModelFile::open(&path).unwrap(), scenes)
}

fn found(language: &mut dyn Language, seeing: &mut dyn Seeing, [scene, other]: &[ways::Scene; 2]) -> Vec<ways::Found> {
    ways::all(language, seeing, scene, other)
}

#[test]
fn all_ways_agree_on_the_processor() {
    let (_folder, file, scenes) = scenes(Preset::Q8_0, 4);
    let mut engine = EngineLanguage::load(&file, ROOM, 2).unwrap();
    let of_engine = found(&mut engine, &mut EngineVision::load(&file, 2).unwrap(), &scenes);
    let mut candle = CandleLanguage::load(&file, ROOM, &Device::Cpu).unwrap();
    let of_candle = found(&mut candle, &mut Vision::load(&file, &Device::Cpu).unwrap(), &scenes);
    for (found, exact) in of_engine.iter().map(|f| (f, true)).chain(of_candle.iter().map(|f| (f, false))) {
        println!("{found:?}");
        assert!(found.pass(), "{found:?}");
        // The engine gives the same bits however rows are put together.
        assert!(!exact || (found.ties == 0 && found.equal == found.asked && found.cosine > 0.999_999), "{found:?}");
    }
    assert_eq!((of_engine.len(), of_candle.len()), (4, 4));
}

#[test]
fn each_check_notices_what_it_is_for() {
    let (_folder, file, scenes) = scenes(Preset::Q8_0, 2);
    let mut seeing = EngineVision::load(&file, 2).unwrap();
    for (fault, way) in [
        (Fault::Company, "six passes"),
        (Fault::Frames, "frame by frame"),
        (Fault::Drafts, "drafted"),
        (Fault::Left, "after a cancelled job"),
        (Fault::Numbers, "six passes"),
    ] {
        let mut language = Broken { inner: EngineLanguage::load(&file, ROOM, 2).unwrap(), fault, left: false };
        let found = found(&mut language, &mut seeing, &scenes);
        assert!(found.iter().any(|f| f.way == way && !f.pass()), "{way}: {found:?}");
        // What breaks that promise alone leaves the other checks.
        let others = found.iter().filter(|f| !f.pass()).count() - 1;
        assert!(fault != Fault::Left || others == 0, "{found:?}");
    }
}
