//! `student`: the worker process. Its options are those of the worker program; what it does stands in
//! [`agent_student::serve`].

use crate::cli::StudentArgs;
use crate::exit::{Outcome, usage};

pub(crate) fn student(args: &StudentArgs) -> anyhow::Result<Outcome> {
    match agent_student::serve::worker(&args.worker) {
        Ok(()) => Ok(Outcome::Done),
        Err(error @ agent_student::serve::ServeError::Stdin(_)) => Err(usage(error)),
        Err(error) => Err(error.into()),
    }
}
