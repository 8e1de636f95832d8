//! The engine's thread: queue, times, cancellation, panics and its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use engine::{Failure, Handle, Limits, Output, Refusal, Request, Timeline};

use crate::support::alphabet::{
    Alphabet, Asked, Fixture, POISON, Setup, WHILE, complete, ending_with, request, wait_until,
};
use crate::support::vocabulary;

const FAILED: [Output; 1] = [Output::Failed(Failure::Internal)];
const ABORTED: [Output; 1] = [Output::Failed(Failure::Aborted)];

#[test]
fn events_come_in_order() {
    let fixture = Fixture::free(Setup::default(), "order");
    let asked: Vec<Asked> = (1..9).map(|i| fixture.ask(request(i, 2 * i))).collect();
    for (asked, i) in asked.iter().zip(1..9) {
        asked.assert_complete(i, 2 * i);
    }
    fixture.assert_idle();
    assert_eq!(fixture.snapshot().prompt_tokens, (1..9).sum::<usize>() as u64);
    assert_eq!(fixture.snapshot().generated_tokens, (1..9).map(|i| 2 * i).sum::<usize>() as u64);
}

#[test]
fn times_are_those_of_the_stages() {
    let fixture = Setup { max_running: 1, ..Setup::default() }.start("times");
    let (first, second) = (fixture.ask(request(3, 2)), fixture.ask(request(3, 1)));
    for step in 1..4 {
        fixture.wait_for_step(step);
        thread::sleep(WHILE);
        fixture.allow(1);
    }
    let times = |asked: &Asked| match asked.rest_with_times().last() {
        Some((Output::Finished { .. }, times)) => *times,
        other => panic!("{other:?}"),
    };
    let (first, second) = (times(&first), times(&second));
    assert!(first.prefill() >= WHILE && first.decode() >= WHILE, "{first:?}");
    assert!(second.queue() >= 2 * WHILE, "behind two steps: {second:?}");
    assert!(
        second.prefill() >= WHILE && second.decode().is_zero(),
        "one token needs no decoding: {second:?}"
    );
    assert!(first.queue() < first.prefill() + first.decode() + WHILE, "{first:?}");
    assert!(first.first_token < first.last_token && first.last_token == first.finished, "{first:?}");
}

#[test]
fn whoever_hears_of_the_end_finds_its_place_free() {
    let fixture = Fixture::free(Setup::default(), "end");
    let (sender, receiver) = sync_channel(8);
    let watch = fixture.watch.clone();
    // Looks on the engine's thread, so that nothing can happen in between.
    let sink = move |output, _: &Timeline| sender.send((output, watch.snapshot())).is_ok();
    fixture.handle.submit(request(40, 2), Box::new(sink)).unwrap();
    let held: Vec<(usize, usize, usize)> =
        receiver.iter().map(|(_, seen)| (seen.queued, seen.running, seen.pages_used)).collect();
    assert_eq!(held, [(0, 1, 2), (0, 1, 2), (0, 0, 0), (0, 0, 0)], "admitted, a token, a token, the end");
    assert_eq!(fixture.snapshot().pages_total, 128);
    assert_eq!(fixture.snapshot().stuck_for, Duration::ZERO);
}

#[test]
fn a_full_queue_refuses_and_a_freed_place_is_given_again() {
    let mut fixture = Setup { max_running: 1, max_queued: 2, ..Setup::default() }.start("full");
    let running = fixture.ask(request(3, 5));
    fixture.allow(1);
    assert_eq!(running.next(), Output::Admitted);
    let waiting = [fixture.ask(request(2, 2)), fixture.ask(request(2, 3))];
    assert_eq!(fixture.try_ask(request(1, 1)).err(), Some(Refusal::QueueFull));
    assert_eq!((fixture.snapshot().queued, fixture.snapshot().queued_tokens), (2, 9));
    fixture.let_run();
    waiting[0].assert_complete(2, 2);
    waiting[1].assert_complete(2, 3);
    fixture.ask(request(1, 1)).assert_complete(1, 1);
    fixture.assert_idle();
}

#[test]
fn what_may_run_at_once_needs_no_queue() {
    let mut fixture = Setup { max_running: 2, max_queued: 0, ..Setup::default() }.start("no-queue");
    let asked = [fixture.ask(request(3, 5)), fixture.ask(request(3, 5))];
    assert_eq!(fixture.try_ask(request(1, 1)).err(), Some(Refusal::QueueFull), "before the first step");
    fixture.wait_for_step(1);
    fixture.allow(2);
    fixture.wait_for_step(3);
    assert_eq!(fixture.snapshot().running, 2);
    assert_eq!(fixture.try_ask(request(1, 1)).err(), Some(Refusal::QueueFull), "while both run");
    fixture.let_run();
    for asked in asked {
        asked.assert_complete(3, 5);
    }
    fixture.assert_idle();
}

#[test]
fn a_lone_request_is_taken_however_large() {
    let mut fixture = Setup { max_queued_tokens: 10, ..Setup::default() }.start("large");
    // It counts as waiting until its first step is over.
    let large = fixture.ask(request(100, 20));
    assert_eq!(fixture.try_ask(request(1, 1)).err(), Some(Refusal::QueueTokens));
    assert_eq!(fixture.snapshot().queued_tokens, 120, "a refused one leaves nothing behind");
    fixture.allow(1);
    assert_eq!(large.next(), Output::Admitted);
    let small = fixture.ask(request(4, 6));
    assert_eq!(fixture.try_ask(request(1, 1)).err(), Some(Refusal::QueueTokens), "ten tokens wait");
    fixture.let_run();
    small.assert_complete(4, 6);
    assert_eq!(large.rest().len(), 21);
    fixture.assert_idle();
}

#[test]
fn who_waited_as_long_as_any_may_is_told_so_and_the_next_one_goes_on() {
    let mut fixture = Setup { max_running: 1, queue_timeout: 2 * WHILE, ..Setup::default() }.start("waited");
    let running = fixture.ask(request(3, 5));
    fixture.allow(1);
    assert_eq!(running.next(), Output::Admitted);
    let waits = fixture.ask(request(2, 2));
    thread::sleep(3 * WHILE);
    let next = fixture.ask(request(4, 4));
    // The driver looks between two steps.
    fixture.allow(1);
    assert_eq!(waits.rest(), [Output::Failed(Failure::QueueTimeout)]);
    fixture.let_run();
    next.assert_complete(4, 4);
    assert_eq!(running.rest().len(), 6, "who runs has left the queue");
    fixture.assert_idle();
}

#[test]
fn who_took_as_long_as_any_may_is_ended_and_its_place_is_free() {
    let mut fixture = Setup { request_timeout: 2 * WHILE, ..Setup::default() }.start("overtime");
    let long = fixture.ask(request(40, 900));
    fixture.allow(2);
    fixture.wait_for_step(3);
    thread::sleep(3 * WHILE);
    fixture.allow(1);
    let heard = long.rest();
    assert_eq!(heard.last(), Some(&Output::Failed(Failure::Deadline)), "{heard:?}");
    assert!(heard.len() < 8, "{heard:?}");
    fixture.let_run();
    fixture.ask(request(5, 5)).assert_complete(5, 5);
    fixture.assert_idle();
}

#[test]
fn a_wait_that_can_be_foretold_is_refused_at_once() {
    let setup = Setup { max_running: 1, queue_timeout: 4 * WHILE, ..Setup::default() };
    let fixture = setup.start("foretold");
    // Each takes one step, which takes a while; two wait for it.
    let mut asked: Vec<Asked> = (0..3).map(|_| fixture.ask(request(3, 1))).collect();
    for step in 1..14 {
        fixture.wait_for_step(step);
        thread::sleep(WHILE);
        asked.push(fixture.ask(request(3, 1)));
        fixture.allow(1);
    }
    let refusal = (0..9).find_map(|_| fixture.try_ask(request(3, 1)).err()).unwrap();
    let Refusal::QueueTime { wait } = refusal else { panic!("{refusal:?}") };
    assert!(wait > 4 * WHILE && wait < 9 * WHILE, "{wait:?} behind some five others");
    assert!(fixture.snapshot().queue_wait.unwrap() > 4 * WHILE);
}

#[test]
fn a_slow_pace_of_the_past_refuses_nobody_who_finds_a_place() {
    let setup = Setup { max_running: 3, queue_timeout: 20 * WHILE, ..Setup::default() };
    let fixture = setup.start("past");
    // Three at a time, each for one step, which takes a while; others wait for them.
    let mut asked = vec![fixture.ask(request(3, 1))];
    fixture.wait_for_step(1);
    asked.extend((0..15).map(|_| fixture.ask(request(3, 1))));
    for step in 1..7 {
        fixture.wait_for_step(step);
        thread::sleep(WHILE);
        fixture.allow(1);
    }
    for asked in &asked {
        asked.rest();
    }
    fixture.assert_idle();
    let first = fixture.ask(request(3, 2));
    fixture.wait_for_step(7);
    // These two come within a step, and are admitted with the next one.
    let (second, third) = (fixture.ask(request(3, 1000)), fixture.try_ask(request(3, 1)));
    fixture.allow(2);
    assert_eq!(third.map(|third| third.rest().len()).ok(), Some(3), "a place is free");
    assert_eq!((first.rest().len(), second.next()), (4, Output::Admitted));
}

#[test]
fn an_abort_frees_the_place_of_a_queued_and_of_a_running_request() {
    let mut fixture = Setup { max_running: 1, max_queued: 1, ..Setup::default() }.start("abort");
    let running = fixture.ask(request(40, 900));
    fixture.allow(1);
    assert_eq!(running.next(), Output::Admitted);
    let queued = fixture.ask(request(3, 3));
    queued.abort.abort();
    fixture.allow(1);
    assert_eq!(queued.rest(), [], "not a word, and the sink is let go");
    // The driver heard of it before the step that now waits.
    fixture.wait_for_step(3);
    let next = fixture.ask(request(5, 5));
    running.abort.abort();
    fixture.let_run();
    next.assert_complete(5, 5);
    let heard = running.rest();
    assert!(heard.len() <= 3 && heard.iter().all(|e| matches!(e, Output::Tokens(_))), "{heard:?}");
    fixture.assert_idle();
    assert!(fixture.steps() < 20, "{} steps", fixture.steps());
}

#[test]
fn a_sink_that_nobody_listens_to_ends_its_request_with_the_step() {
    // At admission, at the first token, at the third.
    for events in [1, 2, 4] {
        let fixture = Fixture::free(Setup::default(), "gone");
        let asked = fixture.ask_with(request(3, 900), events).unwrap();
        let heard = asked.rest();
        assert_eq!(heard, complete(3, 900)[..events], "nothing after the refusal");
        fixture.assert_idle();
        assert_eq!(fixture.steps(), (events - 1).max(1), "not another step");
    }
}

#[test]
fn a_sink_that_nobody_listens_to_is_nobody_elses_concern() {
    let mut fixture = Setup { max_running: 2, ..Setup::default() }.start("neighbour");
    let gone = fixture.ask_with(request(3, 900), 2).unwrap();
    let (stays, waits) = (fixture.ask(request(4, 30)), fixture.ask(request(5, 5)));
    fixture.let_run();
    stays.assert_complete(4, 30);
    waits.assert_complete(5, 5);
    assert_eq!(gone.rest().len(), 2);
    fixture.assert_idle();
}

#[test]
fn abort_all_fails_everything_once() {
    let mut fixture = Setup { max_running: 2, ..Setup::default() }.start("abort-all");
    let asked = fixture.ask_together(5, &request(3, 900));
    fixture.allow(1);
    fixture.wait_for_step(3);
    fixture.handle.abort_all();
    fixture.let_run();
    for (i, asked) in asked.iter().enumerate() {
        let events = asked.rest();
        let (last, before) = events.split_last().unwrap();
        assert_eq!(std::slice::from_ref(last), ABORTED, "request {i}");
        // The step that waited was under way.
        assert_eq!(before, &complete(3, 2)[..if i < 2 { 3 } else { 0 }], "request {i}");
    }
    fixture.assert_idle();
    assert_eq!(fixture.steps(), 3);
}

#[test]
fn watching_is_enough_to_abort() {
    let mut fixture = Setup::default().start("watch");
    let asked = fixture.ask(request(3, 900));
    fixture.wait_for_step(1);
    fixture.watch.abort_all();
    fixture.let_run();
    assert_eq!(asked.rest()[2..], ABORTED);
}

#[test]
fn after_a_panic_each_request_fails_once_and_the_next_is_served() {
    let mut fixture = Setup { max_running: 2, panic_at: 4, ..Setup::default() }.start("panic");
    let asked = fixture.ask_together(5, &request(30, 900));
    fixture.allow(2);
    fixture.wait_for_step(4);
    assert!(fixture.snapshot().healthy);
    fixture.let_run();
    for (i, asked) in asked.iter().enumerate() {
        let events = asked.rest();
        let (last, before) = events.split_last().unwrap();
        assert_eq!(std::slice::from_ref(last), FAILED, "request {i}");
        assert_eq!(before, &complete(30, 2)[..if i < 2 { 3 } else { 0 }], "request {i}");
    }
    fixture.ask(request(2, 7)).assert_complete(2, 7);
    fixture.assert_idle();
    assert!(fixture.snapshot().healthy);
    assert_eq!(fixture.control.built.load(Ordering::SeqCst), 2, "the engine was rebuilt");
    assert_eq!(Arc::strong_count(&fixture.weights), 3, "this test, the closure and one backend");
}

#[test]
fn an_engine_that_cannot_be_rebuilt_ends() {
    let mut fixture = Setup { panic_at: 1, may_be_built: 1, ..Setup::default() }.start("broken");
    let asked = fixture.ask(request(3, 3));
    fixture.let_run();
    assert_eq!(asked.rest(), FAILED);
    assert!(!fixture.snapshot().healthy);
    wait_until("a refusal", || fixture.try_ask(request(1, 1)).err() == Some(Refusal::Gone));
    wait_until("the weights", || Arc::strong_count(&fixture.weights) == 1);
    wait_until("the engine's end", || fixture.watch.ended());
}

#[test]
fn an_engine_that_has_ended_runs_nothing_and_is_not_stuck() {
    let mut fixture = Setup { panic_at: 4, may_be_built: 1, ..Setup::default() }.start("ended");
    let asked = fixture.ask(request(3, 900));
    fixture.allow(1);
    fixture.wait_for_step(2);
    assert_eq!(fixture.snapshot().running, 1);
    fixture.let_run();
    assert_eq!(asked.rest().last(), FAILED.last());
    wait_until("the engine's end", || fixture.watch.ended());
    let snapshot = fixture.watch.snapshot();
    assert_eq!((snapshot.running, snapshot.pages_used, snapshot.stuck_for), (0, 0, Duration::ZERO));
}

#[test]
fn what_waits_for_an_engine_that_cannot_be_rebuilt_fails() {
    let mut fixture = Setup { panic_at: 1, may_be_built: 1, ..Setup::default() }.start("waiting");
    let asked = fixture.ask(request(3, 3));
    fixture.wait_for_step(1);
    // It is still in the mailbox when the step panics.
    let waiting = fixture.ask(request(3, 3));
    fixture.let_run();
    assert_eq!(asked.rest(), FAILED);
    assert_eq!(waiting.rest(), FAILED);
    assert_eq!((fixture.snapshot().queued, fixture.snapshot().queued_tokens), (0, 0));
}

#[test]
fn an_engine_that_cannot_be_built_does_not_start() {
    let build = || -> Alphabet { panic!("as the test wants it") };
    assert!(Handle::start("unbuilt", vocabulary::bytes(), Limits::default(), build).is_err());
}

#[test]
fn the_last_handle_lets_running_requests_finish_and_gives_the_weights_back() {
    let fixture = Setup { max_running: 1, ..Setup::default() }.start("last");
    let asked = [fixture.ask(request(3, 6)), fixture.ask(request(4, 7))];
    fixture.allow(1);
    fixture.wait_for_step(2);
    let Fixture { handle, watch, control, permits, weights } = fixture;
    drop(handle);
    thread::sleep(WHILE);
    assert!(!watch.ended(), "two requests are not done");
    assert!(Arc::strong_count(&weights) > 1);
    drop(permits);
    asked[0].assert_complete(3, 6);
    asked[1].assert_complete(4, 7);
    wait_until("the engine's end", || watch.ended());
    assert_eq!(Arc::strong_count(&weights), 1, "nobody holds the weights when `ended` says so");
    assert_eq!(control.steps.load(Ordering::SeqCst), 13);
}

#[test]
fn an_idle_engine_ends_with_its_last_handle() {
    let Fixture { handle, watch, weights, .. } = Fixture::free(Setup::default(), "unused");
    assert!(!watch.ended());
    drop(handle);
    wait_until("the engine's end", || watch.ended());
    assert_eq!(Arc::strong_count(&weights), 1);
}

#[test]
fn an_idle_engine_sleeps() {
    let fixture = Fixture::free(Setup::default(), "sleeper");
    for _ in 0..2 {
        fixture.ask(request(3, 3)).assert_complete(3, 3);
        fixture.assert_idle();
        let (steps, ticks) = (fixture.steps(), cpu_ticks("sleeper"));
        thread::sleep(4 * WHILE);
        assert_eq!(fixture.steps(), steps, "no step without a request");
        let spent = cpu_ticks("sleeper") - ticks;
        assert!(spent <= 2, "{spent} ticks of 10 ms in an idle engine");
        assert_eq!(fixture.snapshot().stuck_for, Duration::ZERO);
    }
}

/// User and system time of the thread `name` of this process; 0 where the system does not say.
fn cpu_ticks(name: &str) -> u64 {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return 0 };
    let stats = threads.filter_map(|entry| std::fs::read_to_string(entry.unwrap().path().join("stat")).ok());
    let of = |stat: &str| -> u64 {
        // After the name: state is field 3, user and system time are fields 14 and 15.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        [11, 12].map(|field| fields[field].parse::<u64>().unwrap()).iter().sum()
    };
    let named = format!("({name})");
    let found: Vec<u64> = stats.filter(|stat| stat.contains(&named)).map(|stat| of(&stat)).collect();
    assert_eq!(found.len(), 1, "one thread of that name");
    found[0]
}

#[test]
fn a_step_that_hangs_shows() {
    let mut fixture = Setup::default().start("hangs");
    thread::sleep(4 * WHILE);
    let asked = fixture.ask(request(3, 2));
    assert!(fixture.snapshot().stuck_for < 4 * WHILE, "idling is not counted");
    fixture.wait_for_step(1);
    thread::sleep(2 * WHILE);
    assert!(fixture.snapshot().stuck_for >= WHILE);
    let waiting = fixture.ask(request(3, 2));
    assert!(fixture.snapshot().stuck_for >= WHILE, "others that come do not change that");
    fixture.let_run();
    asked.assert_complete(3, 2);
    waiting.assert_complete(3, 2);
    assert_eq!(fixture.snapshot().stuck_for, Duration::ZERO);
}

#[test]
fn the_age_of_the_last_token_counts_while_there_is_work() {
    let mut fixture = Setup::default().start("age");
    thread::sleep(4 * WHILE);
    assert_eq!(fixture.snapshot().last_token_age, Duration::ZERO);
    let asked = fixture.ask(request(3, 3));
    assert!(fixture.snapshot().last_token_age < 4 * WHILE, "idling is not counted");
    fixture.allow(1);
    assert_eq!(asked.next(), Output::Admitted);
    thread::sleep(2 * WHILE);
    assert!(fixture.snapshot().last_token_age >= WHILE, "the second step hangs");
    fixture.let_run();
    asked.rest();
    fixture.assert_idle();
    assert_eq!(fixture.snapshot().last_token_age, Duration::ZERO);
    assert_eq!(fixture.snapshot().pace.rows.counts().find(|(_, steps)| *steps > 0), Some((1.0, 2)));
    assert_eq!(
        fixture.snapshot().pace.rows.sum(),
        5.0,
        "three of the prompt, and one for each further token"
    );
}

#[test]
fn logits_that_are_no_numbers_fail_their_request_only() {
    let mut fixture = Setup::default().start("nan");
    let neighbours = [fixture.ask(request(3, 20)), fixture.ask(request(5, 20))];
    let poisoned = fixture.ask(ending_with(POISON, 4, 20));
    let later = fixture.ask(request(6, 20));
    fixture.let_run();
    assert_eq!(poisoned.rest(), [Output::Admitted, Output::Failed(Failure::NotFinite)]);
    neighbours[0].assert_complete(3, 20);
    neighbours[1].assert_complete(5, 20);
    later.assert_complete(6, 20);
    fixture.assert_idle();
    assert_eq!(fixture.control.built.load(Ordering::SeqCst), 1, "nothing was rebuilt");
}

#[test]
fn many_callers_leave_nothing_behind() {
    let fixture = Fixture::free(Setup { max_queued: 4, ..Setup::default() }, "crowd");
    let submit = |request: &Request| {
        for _ in 0..10_000 {
            match fixture.try_ask(request.clone()) {
                Ok(asked) => return asked,
                Err(refusal) => assert_eq!(refusal, Refusal::QueueFull),
            }
            thread::sleep(Duration::from_millis(1));
        }
        panic!("refused for ever");
    };
    let one_caller = |caller: usize| {
        for i in 0..60 {
            let (prompt_tokens, max_tokens) = (1 + (caller * 7 + i) % 40, 1 + i % 9);
            let asked = submit(&request(prompt_tokens, max_tokens));
            match i % 4 {
                0 => asked.abort.abort(),
                1 => drop(asked),
                _ => asked.assert_complete(prompt_tokens, max_tokens),
            }
        }
    };
    thread::scope(|scope| {
        for caller in 0..8 {
            scope.spawn(move || one_caller(caller));
        }
    });
    fixture.assert_idle();
    fixture.ask(request(3, 3)).assert_complete(3, 3);
}
