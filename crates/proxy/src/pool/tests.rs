use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use tokio::net::UnixStream;
use tokio::task::{LocalSet, spawn_local, yield_now};

use super::*;

const DIALS_MAX: usize = 4;
const LONG: Duration = Duration::from_secs(5);

fn pool() -> Rc<Pool> {
    let bounds = Bounds {
        connections_max: 1000,
        idle_max: 100,
        pending_max: 100,
        dials_max: DIALS_MAX,
        idle_time_max: Duration::from_secs(60),
    };
    let quotas = crate::shared::Quotas::default();
    Pool::new(bounds, quotas.quota(80, crate::shared::Kind::Pooled, &bounds))
}

/// And its other end, with which it lives.
fn connection() -> (Connection, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (Connection::new(ours.into(), 1024), theirs)
}

async fn checkout(pool: &Rc<Pool>) -> Result<(Slot, Way), Failure> {
    let now = Instant::now();
    pool.checkout(now, now + LONG, false).await
}

async fn turn(pool: &Rc<Pool>) -> (Slot, Turn) {
    match checkout(pool).await.unwrap() {
        (slot, Way::Dial(turn)) => (slot, turn),
        (_, Way::Idle(_)) => panic!("nobody has made a connection"),
    }
}

/// Polls once; it is not ready.
async fn begin<F: Future>(mut waiting: Pin<&mut F>) {
    let is_ready = poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_ready())).await;
    assert!(!is_ready);
}

#[tokio::test(start_paused = true)]
async fn of_a_burst_few_dial_at_once_and_all_are_served() {
    let served = async {
        let pool = pool();
        let (dials, most, total) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let one = || {
            let (pool, dials, most, total) = (pool.clone(), dials.clone(), most.clone(), total.clone());
            spawn_local(async move {
                let (slot, way) = checkout(&pool).await.unwrap();
                let (connection, _peer) = match way {
                    Way::Idle(connection) => (connection, None),
                    Way::Dial(turn) => {
                        dials.set(dials.get() + 1);
                        total.set(total.get() + 1);
                        most.set(most.get().max(dials.get()));
                        turn.spend(async {
                            for _ in 0..8 {
                                yield_now().await
                            }
                        })
                        .await;
                        dials.set(dials.get() - 1);
                        let (connection, peer) = connection();
                        (connection, Some(peer))
                    }
                };
                yield_now().await;
                slot.put(connection, Instant::now());
                _peer
            })
        };
        let all: Vec<_> = (0..64).map(|_| one()).collect();
        let mut peers = Vec::new();
        for one in all {
            peers.push(one.await.unwrap());
        }
        assert_eq!(most.get(), DIALS_MAX);
        assert!(total.get() < 32, "{} of 64 made a connection of their own", total.get());
        assert_eq!(pool.line.counts(), (0, 0));
    };
    LocalSet::new().run_until(served).await;
}

#[tokio::test(start_paused = true)]
async fn those_that_hang_hold_nobody_up_for_long() {
    let served = async {
        let (pool, began) = (pool(), Instant::now());
        for _ in 0..DIALS_MAX {
            let (slot, turn) = turn(&pool).await;
            spawn_local(async move {
                turn.spend(pending::<()>()).await;
                drop(slot);
            });
        }
        for _ in 0..2 * DIALS_MAX {
            let (_, turn) = turn(&pool).await;
            turn.spend(yield_now()).await;
        }
        let waited = began.elapsed();
        assert!((TURN_TIME_MAX..2 * TURN_TIME_MAX).contains(&waited), "{waited:?}");
        assert_eq!(pool.line.counts(), (0, 0), "they do not count any more");
    };
    LocalSet::new().run_until(served).await;
}

#[tokio::test]
async fn a_connection_that_is_done_with_goes_to_who_waits_longest() {
    let pool = pool();
    let mut turns = Vec::new();
    for _ in 0..DIALS_MAX {
        turns.push(turn(&pool).await);
    }
    let (mut first, mut second, mut third) =
        (pin!(checkout(&pool)), pin!(checkout(&pool)), pin!(checkout(&pool)));
    begin(first.as_mut()).await;
    begin(second.as_mut()).await;
    begin(third.as_mut()).await;
    let (connection, _peer) = connection();
    let (slot, turn) = turns.pop().unwrap();
    slot.put(connection, Instant::now());
    begin(second.as_mut()).await;
    let Ok((slot, Way::Idle(connection))) = first.await else { panic!("it was given to the first") };
    drop(turn);
    begin(third.as_mut()).await;
    let Ok((_, Way::Dial(_second))) = second.await else { panic!("the turn is the second's") };
    slot.put(connection, Instant::now());
    let Ok((_, Way::Idle(_))) = third.await else { panic!("it goes on to the third") };
}

#[tokio::test(start_paused = true)]
async fn who_leaves_passes_on_what_it_was_given() {
    let pool = pool();
    let mut turns = Vec::new();
    for _ in 0..DIALS_MAX {
        turns.push(turn(&pool).await);
    }
    let mut next = pin!(checkout(&pool));
    {
        let (mut first, mut second) = (pin!(checkout(&pool)), pin!(checkout(&pool)));
        begin(first.as_mut()).await;
        begin(second.as_mut()).await;
        begin(next.as_mut()).await;
        turns.pop();
        let (connection, _peer) = connection();
        turns.pop().unwrap().0.put(connection, Instant::now());
        // Neither has looked.
    }
    let Ok((_, Way::Dial(last))) = next.await else { panic!("both came to the third, the turn first") };
    assert_eq!(pool.idle.borrow().len(), 1);
    drop((last, turns));
    assert_eq!(pool.line.counts(), (0, 0));

    // Nobody comes: it is kept.
    let mut turns = Vec::new();
    pool.close_idle();
    for _ in 0..DIALS_MAX {
        turns.push(turn(&pool).await);
    }
    let Err(Failure::ConnectTimeout) = checkout(&pool).await else { panic!("nothing came free in time") };
    assert_eq!(pool.line.counts(), (DIALS_MAX, 0));
}

#[tokio::test]
async fn who_is_given_a_connection_that_has_ended_stays_the_first() {
    let pool = pool();
    let mut turns = Vec::new();
    for _ in 0..DIALS_MAX {
        turns.push(turn(&pool).await);
    }
    let (mut first, mut second) = (pin!(checkout(&pool)), pin!(checkout(&pool)));
    begin(first.as_mut()).await;
    begin(second.as_mut()).await;
    let (ended, peer) = connection();
    drop(peer);
    let (slot, ending) = turns.pop().unwrap();
    slot.put(ended, Instant::now());
    begin(first.as_mut()).await;
    drop(ending);
    begin(second.as_mut()).await;
    let Ok((slot, Way::Dial(its))) = first.await else { panic!("the next turn is the first's") };
    // All turns end before the second one has looked: nobody would wake it.
    let (ended, peer) = connection();
    drop(peer);
    slot.put(ended, Instant::now());
    drop((its, turns));
    assert_eq!(pool.line.counts(), (0, 0));
    let Ok((_, Way::Dial(_))) = second.await else { panic!("a turn is free") };
    assert_eq!(pool.line.counts(), (0, 0));
}
