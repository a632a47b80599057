//! When a lost connection is opened again. Pure, but for the wait itself.

use std::thread;
use std::time::Duration;

/// How long to wait: between half of `about` and one and a half of it. Every node loses its connections when a server restarts, and not all of
/// them should be back at the same moment. `draw` is a random number from 0 up to 1.
pub(super) fn delay(about: Duration, draw: f64) -> Duration {
    about.mul_f64(0.5 + draw)
}

/// Waits for as long as that.
#[expect(
    clippy::disallowed_methods,
    reason = "the threads that wait here have nothing else to do until the server is back"
)]
pub(super) fn wait(about: Duration) {
    thread::sleep(delay(about, rand::random()));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of that place in a sequence that its seed alone decides, from 0 up to 1.
    fn draw(seed: u64, place: u64) -> f64 {
        let hash = blake3::hash(&[seed.to_le_bytes(), place.to_le_bytes()].concat());
        f64::from(u32::from_le_bytes(hash.as_bytes()[..4].try_into().unwrap()))
            / f64::from(u32::MAX)
    }

    #[test]
    fn m9_fifty_nodes_that_lose_their_connections_together_do_not_come_back_together() {
        let about = Duration::from_millis(500);
        for seed in 0..100 {
            let mut back: Vec<Duration> =
                (0..50).map(|node| delay(about, draw(seed, node))).collect();
            back.sort();
            assert!(back[0] >= about / 2 && back[49] <= about * 3 / 2, "{back:?}");
            // A tenth of the time would see all of them without the spread, and five with a perfect one.
            let tenth = about / 10;
            let most = back.iter().map(|first| {
                back.iter().filter(|at| (*first..*first + tenth).contains(*at)).count()
            });
            assert!(most.max().unwrap() <= 17, "seed {seed}: {back:?}");
            assert!(back[49] - back[0] > about * 3 / 4, "seed {seed}: {back:?}");
        }
    }
}
