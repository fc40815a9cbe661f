//! Lists come in pages: `?after=` is where the page before said `next`.

use super::id::Id;
use super::problem::Problem;
use crate::limits;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which page.
#[derive(Clone, Copy, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// Go on after this one: the `next` of the page before.
    #[param(value_type = Option<Id>)]
    after: Option<Id>,
    /// How many at the most: 1 to 200, by itself 50.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
}

impl Which {
    /// Where to go on (0: from the first) and how many.
    pub(super) fn read(self) -> Result<(u64, u32), Problem> {
        Ok((self.after.map_or(0, Id::number), limit(self.limit)?))
    }
}

/// How many items were asked for.
pub(super) fn limit(asked: Option<u32>) -> Result<u32, Problem> {
    let limit = asked.unwrap_or(limits::API_PAGE);
    if !(1..=limits::API_PAGE_MAX).contains(&limit) {
        let most = limits::API_PAGE_MAX;
        return Err(Problem::invalid(format!("limit is {limit}, but must be from 1 to {most}.")));
    }
    Ok(limit)
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Page<T> {
    /// In the order of their ids.
    items: Vec<T>,
    /// There are further ones: ask with `after` set to this. Null: this was the last page.
    next: Option<Id>,
}

impl<T> Page<T> {
    /// A page; `id` says where the next one begins if there are `more`.
    pub(super) fn new(items: Vec<T>, more: bool, id: impl FnOnce(&T) -> Id) -> Self {
        let next = if more { items.last().map(id) } else { None };
        Self { items, next }
    }

    /// A page whose last item may have gone meanwhile.
    pub(super) fn up_to(items: Vec<T>, next: Option<Id>) -> Self {
        Self { items, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_beyond_the_bounds_is_refused() {
        assert_eq!(limit(None).unwrap(), limits::API_PAGE);
        assert_eq!(limit(Some(limits::API_PAGE_MAX)).unwrap(), limits::API_PAGE_MAX);
        limit(Some(0)).unwrap_err();
        limit(Some(limits::API_PAGE_MAX + 1)).unwrap_err();
    }

    #[test]
    fn the_documented_bounds_are_those_in_force() {
        assert_eq!((limits::API_PAGE, limits::API_PAGE_MAX), (50, 200));
    }

    #[test]
    fn the_last_page_has_no_next() {
        let page = Page::new(vec![Id::from(1), Id::from(2)], true, |id| *id);
        assert_eq!(page.next, Some(Id::from(2)));
        assert_eq!(Page::new(vec![Id::from(1)], false, |id| *id).next, None);
    }
}
