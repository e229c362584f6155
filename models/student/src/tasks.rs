//! The six tasks: questions, answers and how they are read.
