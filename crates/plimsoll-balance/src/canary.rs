//! A configuration that takes a part of what comes, beside the one that takes the rest: which part that is, and
//! whether it does worse.

/// How much of what comes it takes, in percent, 1 to 99.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u8);

/// How the fractional parts of multiples of the golden ratio begin: they lie evenly however many there are, and
/// never in step with clients that come in turn.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

impl Share {
    /// So many percent; nothing for what is no part.
    pub fn new(percent: u8) -> Option<Self> {
        (1..=99).contains(&percent).then_some(Self(percent))
    }

    /// In percent.
    pub fn percent(self) -> u8 {
        self.0
    }

    /// Tells whether it takes what comes as number `count`.
    pub fn takes(self, count: u64) -> bool {
        let place = count.wrapping_mul(GOLDEN) >> 32;
        place * 100 < u64::from(self.0) << 32
    }
}

/// How it went under one of two configurations, in the same time.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Connections that it got.
    pub connections: u64,
    /// Of the exchanges, those that a server failed, or that failed for want of one.
    pub failed: u64,
    /// All exchanges, by how long they took: one count for each bound, and one more for what took longer.
    pub by_duration: &'a [u64],
}

impl Seen<'_> {
    /// All exchanges.
    pub fn exchanges(&self) -> u64 {
        self.by_duration.iter().sum()
    }

    /// Those that took longer than the bound with this number.
    pub fn longer_than(&self, bound: usize) -> u64 {
        self.by_duration.iter().skip(bound + 1).sum()
    }
}

/// What is to be thought of the newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does no worse.
    Fit,
    /// There is too little to say so, nor the contrary.
    Unknown,
    /// Too many fail.
    Fails,
    /// More take longer than the later of two bounds than took longer than the earlier one, whose number this is,
    /// before.
    Slow(usize),
    /// Clients connect, and nothing comes of it.
    Silent,
}

/// So many exchanges are to be seen of each before any of the two is judged.
const EXCHANGES_MIN: u64 = 50;

/// So many have to have failed: one is an accident.
const FAILED_MIN: u64 = 3;

/// By how much the part of those that fail has to be larger.
const FAILED_MORE: f64 = 0.01;

/// By how much the part of those that are slow has to be larger.
const SLOW_MORE: f64 = 0.05;

/// So many connections without one exchange are no accident.
const SILENT_MIN: u64 = 20;

/// How many standard deviations are no accident any more.
const DEVIATIONS: f64 = 3.0;

/// Judges the newer one of two. `bounds_us` are those of the durations, in microseconds and growing; what is
/// shorter than `swift_us` is never slow.
pub fn judge(before: Seen<'_>, new: Seen<'_>, bounds_us: &[u64], swift_us: u64) -> Verdict {
    let (exchanges, exchanges_before) = (new.exchanges(), before.exchanges());
    // What connections from before still bring is no measure for new ones.
    let to_expect = exchanges_before.saturating_mul(new.connections) / before.connections.max(1);
    if exchanges == 0 && new.connections.min(to_expect) >= SILENT_MIN {
        return Verdict::Silent;
    }
    if exchanges < EXCHANGES_MIN || exchanges_before < EXCHANGES_MIN {
        return Verdict::Unknown;
    }
    let is_more =
        |new: u64, before: u64, by| is_more((new, exchanges), (before, exchanges_before), by);
    if new.failed >= FAILED_MIN && is_more(new.failed, before.failed, FAILED_MORE) {
        return Verdict::Fails;
    }
    let bounds = bounds_us.windows(2).enumerate();
    let mut bounds = bounds.filter(|(_, pair)| pair.last().is_some_and(|late| *late >= swift_us));
    let is_slow = |bound| {
        is_more(
            new.longer_than(bound + 1),
            before.longer_than(bound),
            SLOW_MORE,
        )
    };
    let slow = bounds.find(|(bound, _)| is_slow(*bound));
    slow.map_or(Verdict::Fit, |(bound, _)| Verdict::Slow(bound))
}

/// Tells whether a part of all is larger than another one by so much, and by more than chance explains.
fn is_more((some, all): (u64, u64), (some_before, all_before): (u64, u64), by: f64) -> bool {
    let part = |some: u64, all: u64| some as f64 / all as f64;
    let together = part(some + some_before, all + all_before);
    let spread = together * (1.0 - together) * (part(1, all) + part(1, all_before));
    let more = part(some, all) - part(some_before, all_before);
    more > by && more > DEVIATIONS * spread.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_all_that_come_is_taken_and_of_any_few_in_a_row() {
        for percent in [1, 5, 20, 50, 99] {
            let share = Share::new(percent).unwrap();
            for start in [0, 1_000, u64::MAX - 500] {
                let counts = (0..1000).map(|count| start.wrapping_add(count));
                let taken = counts.filter(|count| share.takes(*count)).count();
                let wanted = usize::from(percent) * 10;
                assert!(taken.abs_diff(wanted) <= 5, "{taken} at {percent}%");
            }
        }
        assert_eq!((Share::new(0), Share::new(100)), (None, None));
    }

    #[test]
    fn clients_that_come_in_turn_are_all_met() {
        let share = Share::new(10).unwrap();
        for clients in 2..20 {
            let taken = (0..2000).filter(|count| share.takes(*count));
            let mut met: Vec<u64> = taken.map(|count| count % clients).collect();
            met.sort_unstable();
            met.dedup();
            assert_eq!(met.len() as u64, clients);
        }
    }

    const BOUNDS: [u64; 4] = [1_000, 2_500, 5_000, 10_000];

    /// Connections, failures, and exchanges by duration.
    type Row = (u64, u64, [u64; 5]);

    #[test]
    fn what_does_worse_is_told_from_what_may_be_chance() {
        let usual: Row = (100, 0, [900, 50, 40, 5, 5]);
        let rows: &[(Row, Row, Verdict)] = &[
            (usual, (10, 0, [90, 5, 4, 1, 0]), Verdict::Fit),
            (usual, (10, 0, [40, 5, 4, 0, 0]), Verdict::Unknown),
            ((10, 0, [49, 0, 0, 0, 0]), usual, Verdict::Unknown),
            // Two that failed are an accident, three of a hundred are not, if none did before.
            (usual, (10, 2, [90, 5, 5, 0, 0]), Verdict::Fit),
            (usual, (10, 3, [90, 5, 5, 0, 0]), Verdict::Fails),
            // Where many failed before, as many may.
            (
                (100, 100, usual.2),
                (10, 12, [90, 5, 5, 0, 0]),
                Verdict::Fit,
            ),
            (
                (100, 100, usual.2),
                (10, 30, [90, 5, 5, 0, 0]),
                Verdict::Fails,
            ),
            // Less than one in a hundred more is let pass, however sure it is.
            (
                (9, 0, [90_000, 0, 0, 0, 0]),
                (9, 800, [90_000, 0, 0, 0, 0]),
                Verdict::Fit,
            ),
            // Less than twice as long is no matter, nor what is swift anyway.
            (usual, (10, 0, [0, 90, 10, 0, 0]), Verdict::Fit),
            (
                (9, 0, [0, 900, 0, 0, 0]),
                (9, 0, [0, 0, 900, 0, 0]),
                Verdict::Fit,
            ),
            (
                (9, 0, [0, 900, 0, 0, 0]),
                (9, 0, [0, 0, 0, 900, 0]),
                Verdict::Slow(1),
            ),
            (usual, (10, 0, [80, 0, 0, 0, 20]), Verdict::Slow(1)),
            (usual, (10, 0, [90, 5, 0, 0, 5]), Verdict::Fit),
            // Those that nobody hears from.
            (usual, (20, 0, [0; 5]), Verdict::Silent),
            (usual, (19, 0, [0; 5]), Verdict::Unknown),
            ((20, 0, [0; 5]), (20, 0, [0; 5]), Verdict::Unknown),
        ];
        for (number, (before, new, wanted)) in rows.iter().enumerate() {
            let verdict = judge(seen(before), seen(new), &BOUNDS, 5_000);
            assert_eq!(verdict, *wanted, "row {number}");
        }
    }

    fn seen((connections, failed, by_duration): &Row) -> Seen<'_> {
        Seen {
            connections: *connections,
            failed: *failed,
            by_duration,
        }
    }
}
