//! The routes of a site: the first in written order that takes a request, found without trying all.
//!
//! Routes with a literal path are found by it: the path of a request and each of its parents is looked
//! up once. What is found is merged with the routes that take any path, in written order, so that the
//! index changes nothing but the time: a test holds it to trying one after the other.

use hashbrown::HashMap;

use crate::condition::{Body, Verdict};
use crate::generation::{PathMatch, Route};
use crate::seen::Seen;

/// Up to this many routes, trying one after the other is faster.
const SCANNED_MAX: usize = 8;

/// Prefixes with more slashes are tried with the routes that take any path.
const DEPTH_MAX: usize = 16;

/// Routes in written order.
#[derive(Debug, Default)]
pub struct Routes {
    all: Vec<Route>,
    index: Option<Index>,
    has_internal: bool,
}

/// Which routes may take a path, by number.
#[derive(Debug, Default)]
struct Index {
    /// Those that may take any path.
    any: Vec<u32>,
    exact: HashMap<Box<[u8]>, Vec<u32>>,
    /// By the path with its last slash.
    below: HashMap<Box<[u8]>, Vec<u32>>,
    /// The most slashes in a key of `below`.
    depth: usize,
}

/// The route for a request.
#[derive(Clone, Copy, Debug)]
pub enum Found<'a> {
    /// This one.
    Route(&'a Route),
    /// That depends on the body, of which this much has to be read.
    Depends(usize),
    /// None takes it.
    Nothing,
}

impl Routes {
    /// Takes routes in written order.
    pub(crate) fn new(all: Vec<Route>) -> Self {
        let index = (all.len() > SCANNED_MAX).then(|| Index::new(&all));
        let has_internal = all.iter().any(|route| route.is_internal);
        Self {
            all,
            index,
            has_internal,
        }
    }

    /// Tells whether servers may send requests here.
    pub(crate) fn has_internal(&self) -> bool {
        self.has_internal
    }

    /// The routes in written order.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.all.iter()
    }

    /// The first route that takes the request.
    pub fn find(&self, seen: &Seen<'_>, body: Body<'_>) -> Found<'_> {
        match &self.index {
            None => first(self.all.iter(), seen, body),
            Some(index) => first(index.candidates(seen.path(), &self.all), seen, body),
        }
    }
}

fn first<'a>(
    routes: impl Iterator<Item = &'a Route>,
    seen: &Seen<'_>,
    body: Body<'_>,
) -> Found<'a> {
    for route in routes {
        match route.judge(seen, body) {
            Verdict::Takes => return Found::Route(route),
            Verdict::Depends(most) => return Found::Depends(most),
            Verdict::Passes => {}
        }
    }
    Found::Nothing
}

impl Index {
    fn new(routes: &[Route]) -> Self {
        let mut index = Self::default();
        for (number, route) in (0..).zip(routes) {
            match &route.path {
                PathMatch::Exact(path) => index.exact.entry(path.clone()).or_default().push(number),
                PathMatch::Prefix(path) if slashes(path) <= DEPTH_MAX => {
                    index.depth = index.depth.max(slashes(path));
                    index.below.entry(path.clone()).or_default().push(number);
                    // `/static/*` takes `/static` too.
                    let bare = path.strip_suffix(b"/").unwrap_or_default();
                    index.exact.entry(bare.into()).or_default().push(number);
                }
                PathMatch::Any | PathMatch::Prefix(_) | PathMatch::Pattern(_) => {
                    index.any.push(number);
                }
            }
        }
        index
    }

    /// The routes that may take `path`, in written order.
    fn candidates<'a>(
        &'a self,
        path: &[u8],
        routes: &'a [Route],
    ) -> impl Iterator<Item = &'a Route> {
        let mut lists: [&[u32]; DEPTH_MAX + 2] = [&[]; DEPTH_MAX + 2];
        let ends = memchr::memchr_iter(b'/', path).take(self.depth);
        let parents = ends.filter_map(|end| self.below.get(path.get(..=end)?));
        let found = std::iter::once(&self.any)
            .chain(self.exact.get(path))
            .chain(parents);
        for (place, list) in lists.iter_mut().zip(found) {
            *place = list;
        }
        std::iter::from_fn(move || {
            // The list whose first number is the smallest: there are few of them.
            let next = lists.iter_mut().filter(|list| !list.is_empty());
            let list = next.min_by_key(|list| list.first().copied())?;
            let (number, rest) = list.split_first()?;
            *list = rest;
            routes.get(*number as usize)
        })
    }
}

fn slashes(path: &[u8]) -> usize {
    memchr::memchr_iter(b'/', path).count()
}
