//! Retries stay within their budget in every run of seconds, however requests come.

use plimsoll_balance::budget::Budget;
use proptest::prelude::*;
use std::time::Duration;

/// Requests, attempts to retry, and the time to wait before, one step after the other.
fn steps() -> impl Strategy<Value = Vec<(u32, u32, u64)>> {
    let gap = prop_oneof![3 => 0_u64..700, 1 => 0_u64..15_000];
    proptest::collection::vec((0_u32..40, 0_u32..40, gap), 1..80)
}

proptest! {
    #[test]
    fn retries_never_pass_the_budget(share in 0_u32..1_500, reserve in 0_u32..4, steps in steps()) {
        let mut budget = Budget::new(share, reserve);
        let mut now = Duration::ZERO;
        let mut seconds: Vec<(u64, u64)> = Vec::new(); // requests and retries of each second
        for (requests, attempts, gap) in steps {
            now += Duration::from_millis(gap);
            while seconds.len() as u64 <= now.as_secs() {
                seconds.push((0, 0));
            }
            let second = seconds.last_mut().unwrap();
            for _ in 0..requests {
                budget.note_request(now);
                second.0 += 1;
            }
            second.1 += (0..attempts).filter(|_| budget.try_retry(now)).count() as u64;
        }
        for length in [1, 10, 11, 35, seconds.len()] {
            for (start, run) in seconds.windows(length).enumerate() {
                let before = &seconds[start.saturating_sub(9)..start];
                let requests: u64 = before.iter().chain(run).map(|second| second.0).sum();
                let retries: u64 = run.iter().map(|second| second.1).sum();
                let reserve = u64::from(reserve) * 10 * length.div_ceil(10) as u64;
                let bound = (requests * u64::from(share)) / 1_000 + reserve;
                prop_assert!(retries <= bound, "{retries} > {bound} in {length} s from {start}");
            }
        }
    }

    /// The budget is no stricter than it says, either: what ten seconds earned can be spent.
    #[test]
    fn a_window_gives_what_it_earned(
        share in 0_u32..1_500,
        reserve in 0_u32..4,
        requests in proptest::collection::vec(0_u64..20, 10),
    ) {
        let mut budget = Budget::new(share, reserve);
        for (second, &count) in (0..).zip(&requests) {
            (0..count).for_each(|_| budget.note_request(Duration::from_secs(second)));
        }
        let now = Duration::from_millis(9_999);
        let earned = requests.iter().sum::<u64>() * u64::from(share) / 1_000;
        let spent = (0..10_000).take_while(|_| budget.try_retry(now)).count() as u64;
        prop_assert_eq!(spent, earned + 10 * u64::from(reserve));
    }
}
