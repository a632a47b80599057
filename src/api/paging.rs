//! Pages of lists: newest first, with a cursor that is the last row's number.

use super::problem::Problem;
use super::wire::List;
use crate::store::history::Page;

/// Rows in a page when the request does not say.
pub(super) const DEFAULT_LIMIT: i64 = 100;

/// Rows in a page at the most.
pub(super) const MAX_LIMIT: i64 = 1000;

/// How many rows a page is to have, as far as a request says.
pub(super) fn limit(asked: Option<i64>, default: i64, most: i64) -> Result<i64, Problem> {
    let limit = asked.unwrap_or(default);
    if (1..=most).contains(&limit) {
        return Ok(limit);
    }
    Err(Problem::bad_request(format!("limit is {limit}; it must be from 1 to {most}")))
}

/// What a request says about the page it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paging {
    limit: i64,
    before: Option<i64>,
}

impl Paging {
    pub(super) fn new(limit: Option<i64>, cursor: Option<&str>) -> Result<Self, Problem> {
        let limit = self::limit(limit, DEFAULT_LIMIT, MAX_LIMIT)?;
        let before = match cursor.map(str::parse) {
            None => None,
            Some(Ok(id)) => Some(id),
            Some(Err(_not_ours)) => {
                return Err(Problem::bad_request(
                    "cursor must be a `next_cursor` of an earlier answer",
                ));
            }
        };
        Ok(Self { limit, before })
    }

    /// One row more than the page has, which tells whether there is another page.
    pub(super) fn page(self) -> Page {
        Page { limit: self.limit + 1, before: self.before }
    }

    pub(super) fn limit(self) -> usize {
        usize::try_from(self.limit).unwrap_or(usize::MAX)
    }
}

/// Makes a page of the rows that [`Paging::page`] asked for.
pub(super) fn list<R, T>(
    mut rows: Vec<R>,
    paging: Paging,
    id: impl Fn(&R) -> i64,
    convert: impl Fn(R) -> T,
) -> List<T> {
    let more = rows.len() > paging.limit();
    rows.truncate(paging.limit());
    let next_cursor = if more { rows.last().map(|row| id(row).to_string()) } else { None };
    List { items: rows.into_iter().map(convert).collect(), next_cursor }
}
