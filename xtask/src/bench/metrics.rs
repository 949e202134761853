//! What Plimsoll counts of itself and the kernel cannot know.

use super::contender::Running;
use plimsoll_e2e::raw::Raw;

/// Returns how often the proxy has asked for memory, if it counts that: the feature
/// `count-allocations`.
pub(crate) fn allocations(proxy: &Running) -> Option<f64> {
    let mut client = Raw::try_connect(proxy.admin?).ok()?;
    client
        .send("GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
        .ok()?;
    let page = client.try_response("GET").ok()?.text();
    value(&page, "plimsoll_allocations_total")
}

/// Returns the value of a metric without labels.
fn value(page: &str, name: &str) -> Option<f64> {
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::value;

    #[test]
    fn finds_a_metric_by_its_whole_name() {
        let page = "# HELP a_total x\na_total_b 3\na_total 12\na_total{x=\"y\"} 4\n";
        assert_eq!(value(page, "a_total"), Some(12.0));
        assert_eq!(value(page, "b_total"), None);
    }
}
