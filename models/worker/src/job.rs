//! What is asked of a student and what it answers.
