//! "Did you mean": the known word nearest to a wrong one.

/// The distance costs the product of the lengths.
const WORD_CHARS_MAX: usize = 40;
/// Words of about the same length that are looked at.
const CANDIDATES_MAX: usize = 1000;

/// The word in `known` that is nearest to `word`, if one is near enough to be meant.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = word.chars().count();
    if length > WORD_CHARS_MAX {
        return None;
    }
    let most = (length / 3).max(1);
    let ranked = known
        .into_iter()
        .filter(|candidate| candidate.chars().count().abs_diff(length) <= most)
        .take(CANDIDATES_MAX)
        .map(|candidate| (distance(word, candidate), candidate));
    let best = ranked.min_by_key(|(distance, _)| *distance)?;
    (best.0 <= most).then_some(best.1)
}

/// How many letters must be inserted, removed, replaced or swapped (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let get = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX / 2);
            let mut best = get(&row, j) + usize::from(x != y);
            best = best.min(get(&row, j + 1) + 1).min(get(&next, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                best = best.min(get(&before, j - 1) + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let known = ["route", "listen", "timeout", "proxy"];
        assert_eq!(nearest("lisen", known), Some("listen"));
        assert_eq!(nearest("ruote", known), Some("route"));
        assert_eq!(nearest("timeouts", known), Some("timeout"));
        assert_eq!(nearest("banana", known), None);
    }
}
