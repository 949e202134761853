//! Generations before the current one in which something is under way. A connection that lasts for days keeps
//! its generation for as long, and a configuration that changes all the time must not fill the memory with them.
//! They are held here until nobody else holds them: taking a large one apart would hold a worker up.

use std::sync::Arc;

use plimsoll_proxy::generation::Generation;

/// So many may always be in use.
const ALWAYS: usize = 8;

/// So many may be at most, if they are small: each also takes some work now and then.
const MOST: usize = 256;

/// How large those beyond [`ALWAYS`] may be together, in routes and servers; each is some kilobytes.
const SIZE_MAX: usize = 50_000;

/// Those that are in use, oldest first, and how large they are.
#[derive(Debug, Default)]
pub(crate) struct Former {
    all: Vec<(Arc<Generation>, usize)>,
    /// The newest one that was to end.
    ended: u64,
}

impl Former {
    /// Takes note of one that has just been left. Returns the newest of those that are to end, if there are more
    /// than before.
    pub(crate) fn add(&mut self, left: &Arc<Generation>) -> Option<u64> {
        self.sweep();
        self.all.push((Arc::clone(left), size(left)));
        let sizes: Vec<usize> = self.all.iter().map(|(_, size)| *size).collect();
        let newest = count_over(&sizes).checked_sub(1)?;
        let number = self.all.get(newest)?.0.number;
        (std::mem::replace(&mut self.ended, number) < number).then_some(number)
    }

    /// Lets go of those that nobody uses any more.
    pub(crate) fn sweep(&mut self) {
        let is_used = |generation: &Arc<Generation>| Arc::strong_count(generation) > 1;
        self.all.retain(|(generation, _)| is_used(generation));
    }
}

/// How many of the oldest are too many, of generations with these sizes, oldest first.
fn count_over(sizes: &[usize]) -> usize {
    let mut together = 0;
    let newest_first = sizes.iter().rev().enumerate();
    let fit = newest_first.take_while(|(count, size)| {
        together += **size;
        *count < ALWAYS || (*count < MOST && together <= SIZE_MAX)
    });
    sizes.len() - fit.count()
}

fn size(generation: &Generation) -> usize {
    let config = &generation.config;
    let routes = config.sites.iter().map(|site| 1 + site.routes.len());
    let servers = config.pools.iter().map(|pool| 1 + pool.servers.len());
    routes.chain(servers).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_kept_whatever_their_size_and_many_if_they_are_small() {
        assert_eq!(count_over(&[]), 0);
        assert_eq!(count_over(&[SIZE_MAX; ALWAYS]), 0);
        assert_eq!(count_over(&[SIZE_MAX; ALWAYS + 3]), 3);
        assert_eq!(count_over(&[10; MOST]), 0);
        assert_eq!(count_over(&[10; MOST + 2]), 2);
        assert_eq!(count_over(&[SIZE_MAX / 20; 30]), 10);
    }
}
