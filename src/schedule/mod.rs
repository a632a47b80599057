//! From the text of a schedule file to a checked schedule. Pure: no files, no clock, no database.
