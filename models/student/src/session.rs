//! A loaded student and one job on it: frames in, answers out.
