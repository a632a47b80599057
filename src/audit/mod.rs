//! The audit log: a chain of lines that cannot be changed without it showing.
