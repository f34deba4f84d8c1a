//! Pages of lists: where one begins, how long it is, and where the next one begins.

use serde::Deserialize;
use utoipa::IntoParams;

use crate::base::error::Refusal;

/// Items on a page, if nobody says how many.
const DEFAULT: u32 = 50;

/// Which page of a list that goes by numbers.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// `nextCursor` of the page before
    #[param(minimum = 0)]
    pub(super) after: Option<i64>,
    /// Items in one answer
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub(super) limit: Option<u32>,
}

/// Which page of a list that goes by ids.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CursorQuery {
    /// Items on the page
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub(super) limit: Option<u32>,
    /// `nextCursor` of the page before
    pub(super) cursor: Option<String>,
}

/// How long a page is.
///
/// # Errors
/// [`Refusal::Invalid`] for none, or more than `max`.
pub(super) fn page_size(asked: Option<u32>, max: u32) -> Result<u32, Refusal> {
    match asked {
        None => Ok(DEFAULT.min(max)),
        Some(limit) if (1..=max).contains(&limit) => Ok(limit),
        Some(_) => Err(Refusal::invalid("limit", format!("must be from 1 to {max}"))),
    }
}

/// After what a page begins, and how long it is.
///
/// # Errors
/// [`Refusal::Invalid`].
pub(super) fn page(after: Option<i64>, limit: Option<u32>, max: u32) -> Result<(i64, u32), Refusal> {
    let after = after.unwrap_or(0);
    if after < 0 {
        return Err(Refusal::invalid("after", "must not be negative"));
    }
    Ok((after, page_size(limit, max)?))
}

/// The last item of a full page, after which the next page begins.
pub(super) fn last_of<T>(items: &[T], limit: u32) -> Option<&T> {
    items.last().filter(|_| items.len() >= limit as usize)
}
