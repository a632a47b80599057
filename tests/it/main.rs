//! Integration tests.
mod packaging;
