//! The two formats made from templates. Whatever a template prints is escaped for its format: a template cannot forget to.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, HtmlEscape, UndefinedBehavior};

use super::view::View;
use super::{Rendered, words};
use crate::report::Numbers;

pub(super) fn html(numbers: &Numbers) -> Rendered {
    render(numbers, escape_html, include_str!("report.html.j2"))
}

pub(super) fn markdown(numbers: &Numbers) -> Rendered {
    render(numbers, escape_markdown, include_str!("report.md.j2"))
}

fn render(numbers: &Numbers, escape: fn(&str) -> String, template: &str) -> Rendered {
    let mut environment = Environment::new();
    environment.set_syntax(
        SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .keep_trailing_newline(true)
            .build()?,
    );
    // A misspelt name in a template is an error, not an empty cell.
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // Anything but `None` makes the result of a macro, which has been escaped inside, a safe string.
    environment.set_auto_escape_callback(|_name| AutoEscape::Html);
    environment.set_formatter(move |out, _state, value| match value.as_str() {
        Some(text) if !value.is_safe() => Ok(out.write_str(&escape(&words::visible(text)))?),
        _ => Ok(write!(out, "{value}")?),
    });
    let view = Value::from(Serde(View::of(numbers)?));
    Ok(environment.render_str(template, view)?)
}

fn escape_html(text: &str) -> String {
    HtmlEscape(text).to_string()
}

/// Backslashes before everything that means something inside a line or a table cell, and no line breaks.
fn escape_markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.trim().chars() {
        match letter {
            '\n' | '\r' | '\t' => escaped.push(' '),
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '|' | '~' | '&' | '!' => {
                escaped.push('\\');
                escaped.push(letter);
            }
            _ => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_of_a_table_cannot_end_early_or_become_markup() {
        assert_eq!(
            escape_markdown("a|b\\|c\n<script> [x](javascript:1) `d` **e** &amp;"),
            "a\\|b\\\\\\|c \\<script\\> \\[x\\](javascript:1) \\`d\\` \\*\\*e\\*\\* \\&amp;"
        );
    }
}
