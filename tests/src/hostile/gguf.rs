//! The student's model file: any bytes give a student or an error that names what is wrong, and every tensor of a file that was
//! opened can be read.

use std::cell::RefCell;

use agent_student::convert::{Preset, shape_tiny, write_random};
use agent_student::file::ModelFile;
use agent_student::session::{Backend, Options, Student};

use super::memory_file::MemoryFile;

pub fn judge(bytes: &[u8]) {
    thread_local! {
        static FILE: RefCell<MemoryFile> = RefCell::new(MemoryFile::new());
    }
    FILE.with_borrow_mut(|memory| {
        memory.put(bytes);
        let file = match ModelFile::open(&memory.path()) {
            Ok(file) => file,
            Err(error) => return assert!(!error.to_string().is_empty()),
        };
        for name in file.names() {
            let info = file.info(name).expect("what is listed is there");
            let read = file.bytes(name).expect("what was placed in the file can be read");
            assert_eq!(read.len() as u64, info.bytes);
            // A value that is no number is the model's own affair; one that cannot be unpacked is an error.
            let _ = file.values(name, &info.dims);
        }
        let options = Options { threads: 1, backend: Backend::Engine, ..Options::default() };
        if let Err(error) = Student::open(&memory.path(), &options) {
            assert!(!error.to_string().is_empty());
        }
    });
}

/// The smallest students that can be, in two types of weights.
pub fn seeds() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("room for a small file");
    let path = folder.path().join("seed.gguf");
    let mut shape = shape_tiny();
    (shape.text.hidden, shape.text.ffn, shape.text.layers) = (4, 4, 1);
    (shape.text.heads, shape.text.kv_heads, shape.text.vocab) = (2, 1, 262);
    (shape.vision.hidden, shape.vision.ffn, shape.vision.layers, shape.vision.heads) = (4, 4, 1, 1);
    (shape.vision.patch, shape.image.token_id) = (2, 259);
    let written = |preset| {
        write_random(&shape, 1, preset, &path).expect("a sound shape");
        std::fs::read(&path).expect("a readable file")
    };
    [Preset::F16, Preset::F32].map(written).into()
}
