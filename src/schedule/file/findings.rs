//! Collecting everything that is wrong with one file.

use std::ops::Range;
use std::path::Path;

use super::super::diagnostic::{Code, Diagnostic, Severity};
use super::source::SourceText;

/// Bytes of the file.
pub(super) type Span = Range<usize>;

/// A file with more findings than this is not meant to be a schedule file.
const MAX_SHOWN: usize = 100;
/// More are kept than shown, because they are not found in the order of the file. Past this, nobody looks any further.
const MAX_KEPT: usize = 1000;
/// The share of warnings in it, which must not crowd out the errors.
const MAX_WARNINGS: usize = 500;

/// One finding on its way into the list.
#[derive(Debug)]
#[must_use]
pub(super) struct Finding {
    severity: Severity,
    code: Code,
    span: Span,
    message: String,
    help: Option<String>,
}

impl Finding {
    pub(super) fn error(code: Code, span: &Span, message: impl Into<String>) -> Self {
        let (span, message) = (span.clone(), message.into());
        Self { severity: Severity::Error, code, span, message, help: None }
    }

    pub(super) fn warning(code: Code, span: &Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, span, message) }
    }

    pub(super) fn help(mut self, help: impl Into<Option<String>>) -> Self {
        self.help = help.into();
        self
    }
}

/// All findings of one file.
#[derive(Debug)]
pub(super) struct Findings<'s> {
    file: &'s Path,
    source: &'s SourceText<'s>,
    /// At most [`MAX_KEPT`].
    list: Vec<Finding>,
    errors: usize,
    warnings: usize,
}

impl<'s> Findings<'s> {
    pub(super) fn new(file: &'s Path, source: &'s SourceText<'s>) -> Self {
        Self { file, source, list: Vec::new(), errors: 0, warnings: 0 }
    }

    pub(super) fn add(&mut self, finding: Finding) {
        let has_room = match finding.severity {
            Severity::Error => {
                self.errors += 1;
                !self.is_full()
            }
            Severity::Warning => {
                self.warnings += 1;
                self.warnings <= MAX_WARNINGS && !self.is_full()
            }
        };
        if has_room {
            self.list.push(finding);
        }
    }

    /// Whether there is so much wrong already that explaining more of it is wasted.
    pub(super) fn is_full(&self) -> bool {
        self.list.len() >= MAX_KEPT
    }

    pub(super) fn source(&self) -> &'s SourceText<'s> {
        self.source
    }

    pub(super) fn error_count(&self) -> usize {
        self.errors
    }

    /// Keeps only what was found in the lines before the one that holds `offset`, and of that nothing about what is absent:
    /// behind a syntax error the parser guesses, and what it missed there is not the author's mistake.
    pub(super) fn trust_only_before(&mut self, offset: usize) {
        let about_absence = [Code::MissingKey, Code::KindTable, Code::NoTrigger, Code::BadParams];
        let (source, line) = (self.source, self.source.line(offset));
        self.list.retain(|finding| {
            source.line(finding.span.end) < line && !about_absence.contains(&finding.code)
        });
    }

    /// In the order of the file, bounded; where not all can be shown, errors before warnings.
    pub(super) fn into_diagnostics(mut self) -> Vec<Diagnostic> {
        let has_more = self.list.len() > MAX_SHOWN;
        if has_more {
            self.list.sort_by_key(|finding| (finding.severity, finding.span.start));
            self.list.truncate(MAX_SHOWN);
        }
        self.list.sort_by_key(|finding| (finding.span.start, finding.span.end));
        let severity = if self.errors > 0 { Severity::Error } else { Severity::Warning };
        let (file, source) = (self.file, self.source);
        let mut diagnostics: Vec<Diagnostic> = self
            .list
            .into_iter()
            .map(|finding| Diagnostic {
                severity: finding.severity,
                code: finding.code,
                file: file.to_owned(),
                place: Some(source.place(&finding.span)),
                message: finding.message,
                help: finding.help,
                excerpt: source.excerpt(&finding.span),
            })
            .collect();
        if has_more {
            let message =
                format!("there is more wrong with this file than these {MAX_SHOWN} findings");
            diagnostics.push(Diagnostic::about(file, severity, Code::TooMany, message));
        }
        diagnostics
    }
}
