//! The same body in content codings: each is made once, for all who like it, and read while it is made.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use plimsoll_http::coding::Coding;

use crate::body::Body;

/// What was made of a body, or is being made.
#[derive(Debug, Default)]
pub struct Codings(Mutex<Vec<(Coding, Arc<Body>)>>);

/// A body in a coding.
#[derive(Clone, Debug)]
pub enum Coded {
    /// Somebody has made it, or does.
    There(Arc<Body>),
    /// Whoever asked has to make it.
    Begun(Arc<Body>),
}

impl Codings {
    /// The body in this coding, where somebody has made all of it.
    pub fn whole(&self, coding: Coding) -> Option<Arc<Body>> {
        let all = self.lock();
        let own = all.iter().find(|(own, _)| *own == coding);
        own.map(|(_, body)| body)
            .filter(|body| body.is_whole())
            .cloned()
    }

    /// The body in this coding, or an empty one of `begin`, which the caller fills; nothing where there is none.
    pub fn get(&self, coding: Coding, begin: impl FnOnce() -> Option<Body>) -> Option<Coded> {
        let mut all = self.lock();
        // One that was given up is made anew.
        all.retain(|(_, body)| !body.is_cut());
        if let Some((_, body)) = all.iter().find(|(own, _)| *own == coding) {
            return Some(Coded::There(Arc::clone(body)));
        }
        let body = Arc::new(begin()?);
        all.push((coding, Arc::clone(&body)));
        Some(Coded::Begun(body))
    }

    /// Bytes of those that are whole.
    pub fn size(&self) -> u64 {
        let all = self.lock();
        let whole = all.iter().filter(|(_, body)| body.is_whole());
        whole.map(|(_, body)| body.so_far()).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Coding, Arc<Body>)>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::Room;

    #[test]
    fn each_coding_is_made_once_unless_it_was_given_up() {
        let room = Room::default();
        let codings = Codings::default();
        let begin = || Some(Body::new(None, room.reserve(9, 100)?));
        let Some(Coded::Begun(body)) = codings.get(Coding::Gzip, begin) else {
            panic!("it is there");
        };
        assert!(codings.whole(Coding::Gzip).is_none());
        body.push(b"text");
        assert!(matches!(
            codings.get(Coding::Gzip, begin),
            Some(Coded::There(_))
        ));
        assert!(matches!(
            codings.get(Coding::Zstd, begin),
            Some(Coded::Begun(_))
        ));
        assert_eq!(codings.size(), 0);
        body.end();
        assert_eq!((codings.size(), room.taken()), (4, 13));
        assert!(codings.whole(Coding::Gzip).is_some());
        let Some(Coded::There(other)) = codings.get(Coding::Zstd, begin) else {
            panic!("it is gone");
        };
        other.cut();
        assert!(matches!(
            codings.get(Coding::Zstd, begin),
            Some(Coded::Begun(_))
        ));
        assert!(codings.get(Coding::Brotli, || None).is_none());
    }
}
