//! The projector from vision to language.
