//! Decides what is due, and records the decision together with the job it makes.
