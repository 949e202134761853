//! Which of many servers a node uses.
//!
//! With rendezvous hashing (D. Thaler, C. Ravishankar, 1998) each node ranks all servers by itself: a
//! server that leaves changes the subset of those alone that used it, by one.

use crate::hash;

/// Tells for each server whether `node` uses it; of those of one group it uses `most`.
pub fn of_node<'a>(
    node: &str,
    servers: impl Iterator<Item = (&'a str, u8)>,
    most: usize,
) -> Vec<bool> {
    let seed = hash::of(node.as_bytes());
    let rank = |(name, group): (&str, u8)| (group, hash::with_seed(name.as_bytes(), seed));
    let ranks: Vec<_> = servers.map(rank).collect();
    let is_used = |&(group, rank): &(u8, u64)| {
        let before = ranks.iter().filter(|other| **other < (group, rank));
        before.filter(|(other, _)| *other == group).count() < most
    };
    ranks.iter().map(is_used).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|at| format!("10.0.0.{at}:80")).collect()
    }

    fn used(node: &str, names: &[String]) -> Vec<String> {
        let servers = names.iter().map(|name| (name.as_str(), 0));
        let picked = of_node(node, servers, 20);
        let both = names.iter().zip(picked);
        both.filter(|(_, is_used)| *is_used)
            .map(|(name, _)| name.clone())
            .collect()
    }

    #[test]
    fn each_node_uses_so_many_and_all_nodes_use_all() {
        let names = names(100);
        let mut all: Vec<String> = Vec::new();
        for node in 0..50 {
            let own = used(&format!("node{node}"), &names);
            assert_eq!(own.len(), 20);
            all.extend(own);
        }
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 100);
    }

    #[test]
    fn a_server_that_leaves_is_replaced_by_one_and_the_others_stay() {
        let names = names(100);
        let before = used("a", &names);
        let left: Vec<String> = names
            .iter()
            .filter(|name| **name != before[3])
            .cloned()
            .collect();
        let after = used("a", &left);
        let stayed = after.iter().filter(|name| before.contains(name));
        assert_eq!((after.len(), stayed.count()), (20, 19));
    }

    #[test]
    fn each_group_has_its_own_subset_and_a_small_one_is_used_whole() {
        let names = names(30);
        let servers = names.iter().enumerate();
        let servers = servers.map(|(at, name)| (name.as_str(), u8::from(at >= 25)));
        let picked = of_node("a", servers, 10);
        let count = |part: &[bool]| part.iter().filter(|is_used| **is_used).count();
        assert_eq!((count(&picked[..25]), count(&picked[25..])), (10, 5));
    }
}
