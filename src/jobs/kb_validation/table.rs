//! Tables: CSV and its relatives.

use std::collections::HashMap;

use csv::{ReaderBuilder, StringRecord};

use super::finding::{Findings, Position, Report};
use super::params::{CellType, Table};
use super::rule::Rule;

/// Checks a table against all the rules that hold for it.
pub(super) fn check(text: &str, delimiter: u8, rules: &[&Table], findings: &mut Findings<'_>) {
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter)
        .flexible(true)
        .has_headers(false)
        .from_reader(text.as_bytes());
    let mut record = StringRecord::new();
    if !read(&mut reader, &mut record) {
        findings.add(Report::new(Rule::TableSyntax, "the table has no header"));
        return;
    }
    let header: Vec<String> = record.iter().map(|name| name.trim().to_owned()).collect();
    check_header(&header, rules, findings);
    let mut checker = Rows::new(&header, rules);
    let mut last = 1;
    while read(&mut reader, &mut record) {
        last = start_line(text, &record);
        checker.row(&record, last, findings);
    }
    checker.finish(findings);
    broken_quote(text, last, findings);
}

/// Reads the next record. The text is UTF-8 and any number of cells will do, so there is nothing that can fail.
fn read(reader: &mut csv::Reader<&[u8]>, record: &mut StringRecord) -> bool {
    reader.read_record(record).unwrap_or(false)
}

/// The line a record starts on. The reader's own answer is where it began to look, before any empty lines.
fn start_line(text: &str, record: &StringRecord) -> u64 {
    let Some(place) = record.position() else { return 1 };
    let before = usize::try_from(place.byte()).unwrap_or(0).min(text.len());
    let rest = text.as_bytes().get(before..).unwrap_or_default();
    let skipped = rest.iter().take_while(|byte| matches!(byte, b'\n' | b'\r'));
    place.line() + skipped.filter(|byte| **byte == b'\n').count() as u64
}

/// An odd number of quotes means that one is never closed, and the reader has taken the rest of the file for a cell.
fn broken_quote(text: &str, line: u64, findings: &mut Findings<'_>) {
    let quotes = text.bytes().filter(|byte| *byte == b'"').count();
    let swallowed = text.lines().count() as u64 > line;
    if quotes % 2 == 1 && swallowed {
        let report = Report::new(Rule::TableSyntax, "a quote is opened and never closed");
        findings.add(
            report
                .at(Position { line, col: None })
                .hint("a quote inside a quoted cell is written twice"),
        );
    }
}

fn check_header(header: &[String], rules: &[&Table], findings: &mut Findings<'_>) {
    let place = Position { line: 1, col: None };
    for (index, name) in header.iter().enumerate() {
        if !name.is_empty() && header[..index].contains(name) {
            let report = Report::new(Rule::TableSyntax, format!("the column `{name}` comes twice"));
            findings.add(report.at(place));
        }
    }
    let named = rules
        .iter()
        .flat_map(|rules| rules.required.iter().chain(&rules.unique).chain(rules.types.keys()));
    let mut missing: Vec<&String> = named.filter(|name| !header.contains(name)).collect();
    missing.sort();
    missing.dedup();
    for name in missing {
        let report = Report::new(Rule::MissingColumn, format!("the column `{name}` is missing"));
        findings.add(report.at(place).hint(format!("the columns are: {}", header.join(", "))));
    }
}

/// Looks at one row after the other.
struct Rows<'a> {
    header: &'a [String],
    rules: &'a [&'a Table],
    types: Vec<(usize, CellType)>,
    unique: Vec<(usize, HashMap<String, u64>)>,
    /// Findings that the share of bad rows may yet excuse.
    bad: Vec<Report>,
    bad_unlisted: u64,
    bad_rows: u64,
    rows: u64,
}

/// A table with more bad cells than this lists the first ones only.
const MAX_BAD_LISTED: usize = 1000;

impl<'a> Rows<'a> {
    fn new(header: &'a [String], rules: &'a [&'a Table]) -> Self {
        let column = |name: &String| header.iter().position(|column| column == name);
        let types = rules.iter().flat_map(|rules| &rules.types);
        let mut unique: Vec<usize> =
            rules.iter().flat_map(|rules| &rules.unique).filter_map(column).collect();
        unique.sort_unstable();
        unique.dedup();
        Self {
            header,
            rules,
            types: types.filter_map(|(name, cell)| Some((column(name)?, *cell))).collect(),
            unique: unique.into_iter().map(|column| (column, HashMap::new())).collect(),
            bad: Vec::new(),
            bad_unlisted: 0,
            bad_rows: 0,
            rows: 0,
        }
    }

    fn row(&mut self, record: &StringRecord, line: u64, findings: &mut Findings<'_>) {
        self.rows += 1;
        let place = Position { line, col: None };
        let mut is_bad = false;
        if record.len() != self.header.len() {
            is_bad = true;
            let message =
                format!("the row has {} cells, the header has {}", record.len(), self.header.len());
            let start: String = record.iter().take(3).collect::<Vec<_>>().join(" ");
            self.bad(
                Report::new(Rule::TableSyntax, message).about(format!("cells {start}")).at(place),
            );
        }
        for (column, cell_type) in self.types.clone() {
            let cell = record.get(column).unwrap_or_default().trim();
            if !cell.is_empty() && !cell_type.fits(cell) {
                is_bad = true;
                let name = &self.header[column];
                let message =
                    format!("`{cell}` in column `{name}` is not {}", cell_type.described());
                self.bad(Report::new(Rule::CellType, message).at(place));
            }
        }
        self.bad_rows += u64::from(is_bad);
        for (column, first) in &mut self.unique {
            let Some(cell) = record.get(*column) else { continue };
            if let Some(line) = first.get(cell) {
                let message =
                    format!("`{cell}` in column `{}` is not unique", self.header[*column]);
                let report = Report::new(Rule::DuplicateRow, message).at(place);
                findings.add(report.hint(format!("first on line {line}")));
            } else {
                first.insert(cell.to_owned(), line);
            }
        }
    }

    fn bad(&mut self, report: Report) {
        if self.bad.len() < MAX_BAD_LISTED {
            self.bad.push(report);
        } else {
            self.bad_unlisted += 1;
        }
    }

    fn finish(self, findings: &mut Findings<'_>) {
        // Of several limits the strictest holds.
        let tolerated = self.rules.iter().map(|rules| rules.bad_rows_max).fold(1.0, f64::min);
        let tolerated = if self.rules.is_empty() { 0.0 } else { tolerated };
        #[expect(clippy::cast_precision_loss, reason = "a share needs no more than 52 bits")]
        let share = self.bad_rows as f64 / self.rows.max(1) as f64;
        if self.bad_rows > 0 && share <= tolerated {
            let message =
                format!("{} of {} rows are bad, which is tolerated", self.bad_rows, self.rows);
            findings.add(Report::new(Rule::BadRowsTolerated, message).about("rows"));
        } else {
            self.bad.into_iter().for_each(|report| findings.add(report));
            if self.bad_unlisted > 0 {
                let message = format!("{} more cells and rows are bad", self.bad_unlisted);
                findings.add(Report::new(Rule::TableSyntax, message).about("more"));
            }
        }
        for (fewest, most) in self.rules.iter().filter_map(|rules| rules.rows) {
            if !(fewest..=most).contains(&self.rows) {
                let message =
                    format!("the table has {} rows, expected {fewest} to {most}", self.rows);
                findings.add(Report::new(Rule::RowCount, message).about("rows"));
            }
        }
    }
}

impl CellType {
    fn fits(self, cell: &str) -> bool {
        match self {
            // Rust also reads `inf` and `nan`, which are words and not numbers to a table.
            Self::Number => {
                cell.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte))
                    && cell.parse::<f64>().is_ok()
            }
            Self::Integer => {
                let digits = cell.strip_prefix(['-', '+']).unwrap_or(cell);
                !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
            }
            Self::Date => cell.len() == 10 && cell.parse::<jiff::civil::Date>().is_ok(),
            Self::Bool => cell.eq_ignore_ascii_case("true") || cell.eq_ignore_ascii_case("false"),
        }
    }

    const fn described(self) -> &'static str {
        match self {
            Self::Number => "a number",
            Self::Integer => "a whole number",
            Self::Date => "a date such as 2026-12-31",
            Self::Bool => "true or false",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::finding::Levels;
    use super::*;

    fn places(text: &str, rules: &Value) -> Vec<(Rule, Option<u64>)> {
        let levels = Levels::default();
        let mut findings = Findings::new("a.csv", &levels, 99);
        let table: Table = serde_json::from_value(rules.clone()).unwrap();
        check(text, b',', &[&table], &mut findings);
        findings.finish().0.iter().map(|found| (found.rule, found.line)).collect()
    }

    #[test]
    fn columns_types_and_uniqueness_are_checked() {
        let rules = json!({
            "required": ["sku", "name"], "unique": ["sku"],
            "types": {"price": "number", "count": "integer", "since": "date", "live": "bool"},
        });
        let text = "sku,price,count,since,live\n\
                    a,1.5,3,2026-02-28,true\n\
                    b,,,,\n\
                    \"c\nd\",1e3,-4,2026-12-31,FALSE\n\
                    a,x,1.5,2026-02-30,yes\n";
        assert_eq!(
            places(text, &rules),
            [
                (Rule::MissingColumn, Some(1)),
                (Rule::DuplicateRow, Some(6)),
                (Rule::CellType, Some(6)),
                (Rule::CellType, Some(6)),
                (Rule::CellType, Some(6)),
                (Rule::CellType, Some(6)),
            ]
        );
    }

    #[test]
    fn rows_of_the_wrong_width_and_broken_quotes_are_found() {
        assert_eq!(
            places("a,b\n1\n\n1,2,3\n", &json!({})),
            [(Rule::TableSyntax, Some(2)), (Rule::TableSyntax, Some(4))]
        );
        assert_eq!(places("a,b\n1,\"2\n3,4\n", &json!({})), [(Rule::TableSyntax, Some(2))]);
        assert_eq!(places("", &json!({})), [(Rule::TableSyntax, None)]);
        assert_eq!(places("a,a\n", &json!({})), [(Rule::TableSyntax, Some(1))]);
    }

    #[test]
    fn a_small_share_of_bad_rows_is_tolerated() {
        let text = format!("n\n{}x\n", "1\n".repeat(99));
        let rules = |share: f64| json!({"types": {"n": "integer"}, "bad_rows_max": share});
        assert_eq!(places(&text, &rules(0.01)), [(Rule::BadRowsTolerated, None)]);
        assert_eq!(places(&text, &rules(0.009)), [(Rule::CellType, Some(101))]);
    }

    #[test]
    fn the_number_of_rows_is_held_to_its_bounds() {
        assert_eq!(places("a\n1\n", &json!({"rows": [2, 3]})), [(Rule::RowCount, None)]);
        assert_eq!(places("a\n1\n1\n", &json!({"rows": [2, 3]})), []);
    }

    proptest! {
        #[test]
        fn any_text_is_a_table_or_a_finding(text in "[a,\"\r\n;x1]*", other in "\\PC*") {
            let rules = json!({"types": {"a": "number"}, "unique": ["a"], "rows": [1, 2]});
            places(&text, &rules);
            places(&other, &rules);
        }
    }
}
