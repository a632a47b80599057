//! Looks back over jobs, attempts and occurrences.
