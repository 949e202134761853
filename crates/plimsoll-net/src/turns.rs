//! Costly work of a worker, taken one piece at a time: between two pieces comes whoever else has
//! something to do, however many wait for a turn.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

/// Who waits for a turn, in the order in which they came.
#[derive(Debug, Default)]
pub struct Turns {
    /// Who has left has no place any more.
    line: RefCell<VecDeque<Weak<Place>>>,
    /// Whoever calls them, while there is nobody to call.
    caller: RefCell<Option<Waker>>,
}

#[derive(Debug)]
struct Place {
    is_called: Cell<bool>,
    waker: RefCell<Waker>,
}

/// One who takes a turn now and then.
#[derive(Debug, Default)]
pub struct Turn(Option<Rc<Place>>);

impl Turn {
    /// Ready when it is time for one piece of work, which then is to be done at once. The next piece
    /// has a turn of its own.
    pub fn poll(&mut self, turns: &Turns, context: &Context<'_>) -> Poll<()> {
        let Some(place) = &self.0 else {
            self.0 = Some(turns.line_up(context));
            return Poll::Pending;
        };
        if place.is_called.get() {
            self.0 = None;
            return Poll::Ready(());
        }
        place.waker.borrow_mut().clone_from(context.waker());
        Poll::Pending
    }

    /// Tells whether it waits.
    pub fn is_waiting(&self) -> bool {
        self.0.is_some()
    }
}

impl Turns {
    fn line_up(&self, context: &Context<'_>) -> Rc<Place> {
        let place = Rc::new(Place {
            is_called: Cell::new(false),
            waker: RefCell::new(context.waker().clone()),
        });
        self.line.borrow_mut().push_back(Rc::downgrade(&place));
        if let Some(caller) = self.caller.take() {
            caller.wake();
        }
        place
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        let line = self.line.borrow();
        line.iter().filter(|place| place.strong_count() > 0).count()
    }

    /// Calls one after the other for ever.
    pub(crate) async fn call(&self) {
        loop {
            let place = poll_fn(|context| self.poll_next(context)).await;
            place.is_called.set(true);
            place.waker.borrow().wake_by_ref();
            // It goes on when the runtime has looked at all sockets, behind those whom that woke.
            tokio::task::yield_now().await;
        }
    }

    fn poll_next(&self, context: &Context<'_>) -> Poll<Rc<Place>> {
        let mut line = self.line.borrow_mut();
        while let Some(place) = line.pop_front() {
            if let Some(place) = place.upgrade() {
                return Poll::Ready(place);
            }
        }
        self.caller.replace(Some(context.waker().clone()));
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn one_is_called_at_a_time_in_order_and_who_has_left_is_passed_over() {
        let turns = Turns::default();
        let (woken, own) = (Arc::<Count>::default(), Arc::<Count>::default());
        let (waker, caller) = (Waker::from(Arc::clone(&woken)), Waker::from(own.clone()));
        let context = Context::from_waker(&waker);
        let mut calling = Context::from_waker(&caller);
        let mut call = pin!(turns.call());
        assert!(call.as_mut().poll(&mut calling).is_pending());
        let mut all: Vec<Turn> = (0..4).map(|_| Turn::default()).collect();
        assert!(!all[0].is_waiting());
        let ready = |all: &mut [Turn]| {
            let polled = all.iter_mut().map(|turn| turn.poll(&turns, &context));
            polled.map(|turn| turn.is_ready()).collect::<Vec<_>>()
        };
        assert_eq!(ready(&mut all), [false; 4]);
        assert_eq!(own.0.load(Relaxed), 1, "nobody else has to wake it");
        all[1] = Turn::default();
        assert_eq!(turns.waiting(), 3);
        assert!(call.as_mut().poll(&mut calling).is_pending());
        assert_eq!((woken.0.load(Relaxed), turns.waiting()), (1, 2));
        assert_eq!(ready(&mut all[..1]), [true]);
        assert!(call.as_mut().poll(&mut calling).is_pending());
        assert_eq!(ready(&mut all[2..]), [true, false]);
        // Another piece of work has another turn, behind those who wait.
        assert_eq!(ready(&mut all[..1]), [false]);
        assert!(call.as_mut().poll(&mut calling).is_pending());
        assert_eq!(ready(&mut all[3..]), [true]);
        assert!(call.as_mut().poll(&mut calling).is_pending());
        assert_eq!(ready(&mut all[..1]), [true]);
        assert_eq!(turns.waiting(), 0);
    }

    #[test]
    fn whoever_has_something_to_do_comes_between_two_turns() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build_local(tokio::runtime::LocalOptions::default())
            .unwrap();
        let turns = Rc::new(Turns::default());
        let order = Rc::new(RefCell::new(String::new()));
        runtime.block_on(async {
            let caller = Rc::clone(&turns);
            tokio::task::spawn_local(async move { caller.call().await });
            let begun = (0..3).map(|_| {
                let (turns, order) = (Rc::clone(&turns), Rc::clone(&order));
                tokio::task::spawn_local(async move {
                    let mut turn = Turn::default();
                    poll_fn(|context| turn.poll(&turns, context)).await;
                    order.borrow_mut().push('t');
                })
            });
            let begun: Vec<_> = begun.collect();
            let other = Rc::clone(&order);
            let other = tokio::task::spawn_local(async move {
                for _ in 0..20 {
                    other.borrow_mut().push('.');
                    tokio::task::yield_now().await;
                }
            });
            for task in begun {
                task.await.unwrap();
            }
            other.await.unwrap();
        });
        let order = order.borrow();
        assert!(order.split('t').count() == 4, "{order}");
        let between = order.trim_start_matches('.').trim_end_matches('.');
        assert!(!between.contains("tt"), "{order}");
    }
}
