use std::future::poll_fn;
use std::pin::pin;
use std::task::Waker;
use std::time::Duration;

use tokio::time::{advance, sleep_until};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn it_is_ready_at_the_deadline_wherever_it_stood() {
    let began = Instant::now();
    let sleep = pin!(sleep_until(began));
    let mut timer = Timer::new(sleep);
    for seconds in [10, 60, 5, 300] {
        let deadline = Instant::now() + seconds * SECOND;
        poll_fn(|cx| timer.poll(cx, deadline)).await;
        assert!(Instant::now() >= deadline, "too early for {seconds} s");
        assert!(Instant::now() < deadline + SECOND, "too late for {seconds} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_later_deadline_leaves_it_where_it_is() {
    let began = Instant::now();
    let sleep = pin!(sleep_until(began + 10 * SECOND));
    let mut timer = Timer::new(sleep);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(timer.poll(&mut cx, began + 60 * SECOND).is_pending());
    assert_eq!(timer.0.deadline(), began + 10 * SECOND);
    advance(11 * SECOND).await;
    assert!(timer.poll(&mut cx, began + 60 * SECOND).is_pending(), "it fired, but not for this");
    assert_eq!(timer.0.deadline(), began + 60 * SECOND);
    assert!(timer.poll(&mut cx, began + 20 * SECOND).is_pending());
    assert_eq!(timer.0.deadline(), began + 20 * SECOND, "an earlier deadline moves it");
}
