//! Findings as people read them: rustc's look, with the line and a caret.

use annotate_snippets::normalize_untrusted_str;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::{Diagnostic, Severity};

/// Where the text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Into a file or a pipe.
    Plain,
    /// To a terminal that shows colours.
    Colour,
}

/// One finding, over several lines, without a final newline.
#[must_use]
pub fn render(diagnostic: &Diagnostic, look: Look) -> String {
    let renderer = match look {
        Look::Plain => Renderer::plain(),
        Look::Colour => Renderer::styled(),
    };
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let path = diagnostic.file.display().to_string();
    let title = level.primary_title(diagnostic.message.as_str()).id(diagnostic.code.as_str());
    let mut group: Group<'_> = match &diagnostic.excerpt {
        Some(excerpt) => title.element(
            Snippet::source(excerpt.text.as_str())
                .line_start(usize::try_from(excerpt.first_line).unwrap_or(1))
                .path(path.as_str())
                .annotation(AnnotationKind::Primary.span(excerpt.marked.clone())),
        ),
        None => title.element(match diagnostic.place {
            Some(place) => Origin::path(path.as_str())
                .line(usize::try_from(place.line).unwrap_or(1))
                .char_column(usize::try_from(place.col).unwrap_or(1)),
            None => Origin::path(path.as_str()),
        }),
    };
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(normalize_untrusted_str(help)));
    }
    renderer.render(&[group])
}

/// All findings, an empty line between them, and a count at the end.
#[must_use]
pub fn render_all(diagnostics: &[Diagnostic], look: Look) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics {
        text.push_str(&render(diagnostic, look));
        text.push_str("\n\n");
    }
    let errors = diagnostics.iter().filter(|found| found.is_error()).count();
    let warnings = diagnostics.len() - errors;
    let count = |number: usize, word: &str| {
        format!("{number} {word}{}", if number == 1 { "" } else { "s" })
    };
    if !diagnostics.is_empty() {
        text.push_str(&format!("{}, {}\n", count(errors, "error"), count(warnings, "warning")));
    }
    text
}
