//! The routes of a site: the first in written order that takes a request, found without trying all.
//!
//! Routes with a literal path are found by it: the path of a request and each of its parents is looked
//! up once. What is found is merged with the routes that take any path, in written order, so that the
//! index changes nothing but the time: a test holds it to trying one after the other.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

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

/// Which routes may take a path, by number. Where sites are many, a lookup goes to cold memory: so
/// there is one small table, and the path of an entry is that of its first route.
#[derive(Debug)]
struct Index {
    hasher: DefaultHashBuilder,
    /// Those that may take any path.
    any: Numbers,
    table: HashTable<Entry>,
    /// The most slashes in a path that all below is taken of.
    depth: usize,
}

#[derive(Debug)]
struct Entry {
    /// Whether it is about what is below the path, or about the path itself.
    is_below: bool,
    numbers: Numbers,
}

/// Numbers of routes in written order; nearly always one, which stands in place.
#[derive(Debug)]
enum Numbers {
    One(u32),
    Several(Box<[u32]>),
}

impl Numbers {
    fn new(numbers: Vec<u32>) -> Self {
        match *numbers {
            [number] => Self::One(number),
            _ => Self::Several(numbers.into()),
        }
    }

    fn get(&self) -> &[u32] {
        match self {
            Self::One(number) => std::slice::from_ref(number),
            Self::Several(numbers) => numbers,
        }
    }
}

/// The route for a request.
#[derive(Clone, Copy, Debug)]
pub enum Found<'a> {
    /// This one.
    Route(&'a Route),
    /// That depends on the body, of which this much has to be read.
    Depends(u32),
    /// None takes it.
    Nothing,
}

impl Routes {
    /// Takes routes in written order.
    pub(crate) fn new(mut all: Vec<Route>) -> Self {
        for (number, route) in all.iter_mut().enumerate() {
            route.number = number;
        }
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
        let (mut any, mut depth) = (Vec::new(), 0);
        let mut paths = HashMap::<(bool, &[u8]), Vec<u32>>::new();
        for (number, route) in (0..).zip(routes) {
            match &route.path {
                PathMatch::Exact(path) => paths.entry((false, path)).or_default().push(number),
                PathMatch::Prefix(path) if slashes(path) <= DEPTH_MAX => {
                    depth = depth.max(slashes(path));
                    paths.entry((true, path)).or_default().push(number);
                    // `/static/*` takes `/static` too.
                    paths.entry((false, bare(path))).or_default().push(number);
                }
                PathMatch::Any | PathMatch::Prefix(_) | PathMatch::Pattern(_) => any.push(number),
            }
        }
        let hasher = DefaultHashBuilder::default();
        let mut table = HashTable::with_capacity(paths.len());
        for ((is_below, path), numbers) in paths {
            let numbers = Numbers::new(numbers);
            // There is room for all: nothing is hashed a second time.
            table.insert_unique(hasher.hash_one(path), Entry { is_below, numbers }, |_| 0);
        }
        Self {
            hasher,
            any: Numbers::new(any),
            table,
            depth,
        }
    }

    /// The numbers of the routes for `path`, or for what is below it.
    fn get(&self, path: &[u8], is_below: bool, routes: &[Route]) -> Option<&[u32]> {
        let found = self.table.find(self.hasher.hash_one(path), |entry| {
            let first = entry.numbers.get().first();
            let route = first.and_then(|first| routes.get(*first as usize));
            entry.is_below == is_below
                && match route.map(|route| &route.path) {
                    Some(PathMatch::Exact(exact)) => **exact == *path,
                    Some(PathMatch::Prefix(prefix)) if is_below => **prefix == *path,
                    Some(PathMatch::Prefix(prefix)) => bare(prefix) == path,
                    _ => false,
                }
        })?;
        Some(found.numbers.get())
    }

    /// The routes that may take `path`, in written order.
    fn candidates<'a>(
        &'a self,
        path: &[u8],
        routes: &'a [Route],
    ) -> impl Iterator<Item = &'a Route> {
        let mut lists: [&[u32]; DEPTH_MAX + 2] = [&[]; DEPTH_MAX + 2];
        let ends = memchr::memchr_iter(b'/', path).take(self.depth);
        let parents = ends.filter_map(|end| self.get(path.get(..=end)?, true, routes));
        let found = std::iter::once(self.any.get())
            .chain(self.get(path, false, routes))
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

/// The path itself, of all that is below it.
fn bare(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"/").unwrap_or_default()
}

fn slashes(path: &[u8]) -> usize {
    memchr::memchr_iter(b'/', path).count()
}
