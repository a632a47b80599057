//! Narrow traits to the world outside, with their real implementations: files, processes, HTTP.

pub mod files;
pub mod http;
pub mod process;
