//! Looking back: jobs, attempts and occurrences, by filter and page.
