//! Collecting everything that is wrong with one file.

use std::ops::Range;
use std::path::Path;

use super::super::diagnostic::{Code, Diagnostic, Severity};
use super::source::SourceText;

/// Bytes of the file.
pub(super) type Span = Range<usize>;

/// A file with more findings than this is not meant to be a schedule file.
const MAX_FINDINGS: usize = 100;

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
    list: Vec<Finding>,
}

impl<'s> Findings<'s> {
    pub(super) fn new(file: &'s Path, source: &'s SourceText<'s>) -> Self {
        Self { file, source, list: Vec::new() }
    }

    pub(super) fn add(&mut self, finding: Finding) {
        self.list.push(finding);
    }

    pub(super) fn source(&self) -> &'s SourceText<'s> {
        self.source
    }

    pub(super) fn error_count(&self) -> usize {
        self.list.iter().filter(|finding| finding.severity == Severity::Error).count()
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

    /// In the order of the file, bounded.
    pub(super) fn into_diagnostics(mut self) -> Vec<Diagnostic> {
        self.list.sort_by_key(|finding| (finding.span.start, finding.span.end));
        let dropped = self.list.len().saturating_sub(MAX_FINDINGS);
        let (file, source) = (self.file, self.source);
        let shown = self.list.into_iter().take(MAX_FINDINGS);
        let mut diagnostics: Vec<Diagnostic> = shown
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
        if dropped > 0 {
            let message = format!("{dropped} more findings in this file are not shown");
            diagnostics.push(Diagnostic::about(file, Severity::Error, Code::TooMany, message));
        }
        diagnostics
    }
}
