//! Futures that do one piece of work after the other, in memory that is made once.
//!
//! The future that serves a busy connection is large: a connection that waits must not hold it,
//! and a request must not allocate or even copy it. So a runner is a future that never ends. It
//! takes a piece of work from its desk, does it, puts the result there, and is free again.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Free runners that are kept.
const KEPT_MAX: usize = 1024;

/// Where a runner finds its work and leaves the result.
pub struct Desk<W, R> {
    work: Cell<Option<W>>,
    result: Cell<Option<R>>,
}

impl<W, R> Desk<W, R> {
    /// Waits for the next piece of work.
    pub async fn next(&self) -> W {
        poll_fn(|_| self.work.take().map_or(Poll::Pending, Poll::Ready)).await
    }

    /// Leaves the result of the last piece of work.
    pub fn done(&self, result: R) {
        self.result.set(Some(result));
    }
}

struct Runner<W, R, F> {
    desk: Rc<Desk<W, R>>,
    future: Pin<Box<F>>,
}

type Hire<W, R, F> = Box<dyn Fn(Rc<Desk<W, R>>) -> F>;

/// Runners of one kind.
pub struct Runners<W, R, F> {
    hire: Hire<W, R, F>,
    free: RefCell<Vec<Runner<W, R, F>>>,
}

impl<W, R, F: Future<Output = ()>> Runners<W, R, F> {
    /// Runners that `hire` makes: each must take work from the desk for ever.
    pub fn new(hire: impl Fn(Rc<Desk<W, R>>) -> F + 'static) -> Self {
        Self {
            hire: Box::new(hire),
            free: RefCell::default(),
        }
    }

    /// Gives `work` to a free runner, or a new one.
    pub fn run(&self, work: W) -> Run<'_, W, R, F> {
        let free = self.free.borrow_mut().pop();
        let runner = free.unwrap_or_else(|| {
            let desk = Rc::new(Desk {
                work: Cell::new(None),
                result: Cell::new(None),
            });
            Runner {
                future: Box::pin((self.hire)(Rc::clone(&desk))),
                desk,
            }
        });
        runner.desk.work.set(Some(work));
        Run {
            runners: self,
            runner: Some(runner),
        }
    }
}

/// A piece of work being done. Dropped in the middle, it takes its runner with it.
pub struct Run<'a, W, R, F> {
    runners: &'a Runners<W, R, F>,
    runner: Option<Runner<W, R, F>>,
}

impl<W, R, F: Future<Output = ()>> Future for Run<'_, W, R, F> {
    type Output = R;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<R> {
        let Some(mut runner) = self.runner.take() else {
            return Poll::Pending;
        };
        let ended = runner.future.as_mut().poll(context).is_ready();
        let Some(result) = runner.desk.result.take() else {
            self.runner = Some(runner);
            return Poll::Pending;
        };
        let mut free = self.runners.free.borrow_mut();
        if !ended && free.len() < KEPT_MAX {
            free.push(runner);
        }
        Poll::Ready(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runner_works_again_and_again() {
        let runners = Runners::new(|desk: Rc<Desk<u32, u32>>| async move {
            loop {
                let n = desk.next().await;
                tokio::task::yield_now().await;
                desk.done(n + 1);
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        assert_eq!(runtime.block_on(runners.run(1)), 2);
        assert_eq!(runtime.block_on(runners.run(2)), 3);
        assert_eq!(runners.free.borrow().len(), 1);
    }

    #[test]
    fn an_abandoned_runner_is_not_used_again() {
        let runners = Runners::new(|desk: Rc<Desk<u32, u32>>| async move {
            loop {
                let n = desk.next().await;
                std::future::pending::<()>().await;
                desk.done(n);
            }
        });
        let mut run = Box::pin(runners.run(1));
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(run.as_mut().poll(&mut context).is_pending());
        drop(run);
        assert!(runners.free.borrow().is_empty());
    }
}
