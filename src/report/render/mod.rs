//! From numbers to text. Every format is rendered from [`Numbers`] alone and escapes whatever is in them: names, reasons and
//! error messages come from files and programs and may hold anything.

mod charts;
mod spreadsheet;
mod templates;
mod view;
mod words;

use serde::{Deserialize, Serialize};

use super::Numbers;

/// What a report is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One file for a browser or a mail, with charts.
    Html,
    /// For chats, tickets and terminals.
    Markdown,
    /// Everything, for programs.
    Json,
    /// One row for the period, each kind, each schedule and each bar of the chart, for spreadsheets.
    Csv,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 4] = [Self::Html, Self::Markdown, Self::Json, Self::Csv];

    /// The extension of its files, without a dot.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Markdown => "md",
            Self::Json => "json",
            Self::Csv => "csv",
        }
    }
}

/// A report could not be rendered.
#[derive(Debug, thiserror::Error)]
#[error("cannot render the report as {}", .format.extension())]
pub struct RenderError {
    format: Format,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// Renders numbers as a whole file.
///
/// # Errors
/// When the zone of the numbers is not known here, which means they were made elsewhere.
pub fn render(numbers: &Numbers, format: Format) -> Result<String, RenderError> {
    let text = match format {
        Format::Html => templates::html(numbers),
        Format::Markdown => templates::markdown(numbers),
        Format::Json => json(numbers),
        Format::Csv => spreadsheet::csv(numbers),
    };
    text.map_err(|source| RenderError { format, source })
}

type Rendered = Result<String, Box<dyn std::error::Error + Send + Sync>>;

fn json(numbers: &Numbers) -> Rendered {
    let mut text = serde_json::to_string_pretty(numbers)?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests;
