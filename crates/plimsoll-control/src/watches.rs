//! Tasks that each look after one thing. Where a thing goes on in the next generation, so does its task; the
//! others end.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// What tells things apart that are shared: where they are, for as long as their task holds them.
pub(crate) type Key = usize;

pub(crate) fn key<T>(thing: &Arc<T>) -> Key {
    Arc::as_ptr(thing).addr()
}

/// How long the start waits for what new tasks find out first. Usually it is there when the first request is; what
/// is silent holds nothing up.
const FIRST: Duration = Duration::from_secs(3);

/// Held by a task for as long as its beginning is waited for. Nothing is ever sent.
pub(crate) type First = mpsc::Sender<Infallible>;

/// Tasks that have begun, by what they look after, and are to be looked after themselves.
pub(crate) type Begun<K> = Vec<(K, JoinSet<()>)>;

/// Tasks, by what they look after. They end with this.
#[derive(Debug)]
pub(crate) struct Watches<K>(Begun<K>);

impl<K> Default for Watches<K> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Ord> Watches<K> {
    /// Those of `wanted` that nobody looks after.
    pub(crate) fn missing<'a>(&self, wanted: &'a [K]) -> Vec<&'a K> {
        let mut known: Vec<&K> = self.0.iter().map(|(key, _)| key).collect();
        known.sort_unstable();
        let is_missing = |key: &&K| known.binary_search(key).is_err();
        wanted.iter().filter(is_missing).collect()
    }

    /// Goes on with those of `wanted`, and with `new` ones; ends the others.
    pub(crate) fn change(&mut self, wanted: &[K], new: impl IntoIterator<Item = (K, JoinSet<()>)>) {
        let mut sorted: Vec<&K> = wanted.iter().collect();
        sorted.sort_unstable();
        self.0.retain(|(key, _)| sorted.binary_search(&key).is_ok());
        self.0.extend(new);
    }
}

impl Watches<Key> {
    /// Begins to look after those of `things` that nobody looks after, each with the task that `task` makes of it;
    /// that lets go of what it is given when it has begun. Waits for that, but not for long.
    pub(crate) async fn start<'a, T: 'a, F>(
        &self,
        things: impl Iterator<Item = &'a Arc<T>>,
        mut task: impl FnMut(&Arc<T>, First) -> F,
    ) -> Begun<Key>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (first, mut all) = mpsc::channel(1);
        let things: Vec<_> = things.map(|thing| (key(thing), thing)).collect();
        let wanted: Vec<Key> = things.iter().map(|(own, _)| *own).collect();
        let missing = self.missing(&wanted);
        let missing = things.iter().filter(|(own, _)| missing.contains(&own));
        let begin = |(own, thing): &(Key, &Arc<T>)| {
            let mut set = JoinSet::new();
            set.spawn(task(thing, first.clone()));
            (*own, set)
        };
        let begun: Begun<Key> = missing.map(begin).collect();
        drop(first);
        // It ends when each has let go of its end.
        let _ = tokio::time::timeout(FIRST, all.recv()).await;
        begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_goes_on_is_not_begun_again_and_what_is_gone_ends() {
        let task = || {
            let (alive, ended) = tokio::sync::oneshot::channel::<()>();
            let mut set = JoinSet::new();
            set.spawn(async move {
                let _alive = alive;
                std::future::pending().await
            });
            (set, ended)
        };
        let mut watches = Watches::default();
        let ((one, one_ended), (two, mut two_ended)) = (task(), task());
        watches.change(&["a", "b"], [("a", one), ("b", two)]);
        assert_eq!(watches.missing(&["b", "c"]), [&"c"]);
        watches.change(&["b", "c"], []);
        assert!(one_ended.await.is_err(), "it has ended");
        assert!(
            two_ended
                .try_recv()
                .is_err_and(|error| error == tokio::sync::oneshot::error::TryRecvError::Empty)
        );
    }
}
