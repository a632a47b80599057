//! Diagnostic logs and metrics.
