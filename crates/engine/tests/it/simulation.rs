//! The engine under seeded chaos: arrivals, cancellations, tiny page pools and tiny steps, over a toy model.
//!
//! A failing run prints its seed; `simulate(seed, Flaw::None)` is that run again. The toy (`crate::support::toy`)
//! reads tokens back through the page tables, so the comparison with each request's run alone covers pages.

use std::ops::{AddAssign, Range};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use engine::backend::{PAGE, PageClass, Shape};
use engine::{Engine, FinishReason, Limits, Request, RequestId, Sampling, Usage};
use tokenizer::Tokenizer;

use crate::support::run::{Event, events, run};
use crate::support::toy::{Flaw, Manner, Toy, VOCAB_SIZE, mix};
use crate::support::{vocabulary, wishes};

const SEEDS: Range<u64> = 0..4000;

struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(1);
        (mix(mix(self.0)) % bound as u64) as usize
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn in_range(&mut self, range: Range<usize>) -> usize {
        range.start + self.below(range.len())
    }
}

/// Everything that happens from outside, by the step it happens before.
struct Scenario {
    limits: Limits,
    shape: Shape,
    manner: Manner,
    arrivals: Vec<Arrival>,
    drain_at: Option<usize>,
    /// Whether some answer waits for its constraint at times.
    has_late_constraints: bool,
}

struct Arrival {
    request: Request,
    at: usize,
    cancel_at: Option<usize>,
    is_late: bool,
}

impl Scenario {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed << 20);
        let limits = Limits {
            max_running: rng.in_range(1..7),
            step_tokens: rng.one_of(&[1, 2, 3, 5, 8, 13, 31, 32, 33, 64, 100]),
            prefix_cache: rng.below(4) > 0,
            speculation_tokens: rng.one_of(&[0, 1, 7]),
            speculative_rows: rng.one_of(&[2, 8, 20]),
            ..Limits::default()
        };
        let limits = limits.checked();
        let sequence_len = rng.one_of(&[33, 64, 96, 160, 250]);
        let mut windows = vec![sequence_len];
        for _ in 0..rng.below(3) {
            windows.push(rng.one_of(&[1, 5, 31, 32, 33, 63, 64, 90]).min(sequence_len));
        }
        let sequences = rng.in_range(1..4);
        // What many prompts begin with, in two scopes.
        let stem: Vec<u32> = (0..sequence_len).map(|_| rng.below(VOCAB_SIZE) as u32).collect();
        let shape = Toy::shape(sequence_len, &windows, limits.step_tokens, sequences);
        // From a crowd at the start to one at a time.
        let spread = rng.one_of(&[1, 20, 150, 600]);
        let mut arrivals: Vec<Arrival> =
            (0..rng.in_range(1..16)).map(|_| Arrival::new(&mut rng, &stem, spread)).collect();
        arrivals.sort_by_key(|arrival| arrival.at);
        let drain_at = (rng.below(8) == 0).then(|| rng.below(200));
        let manner = rng.one_of(&[Manner::Varied, Manner::Varied, Manner::Chant, Manner::Random]);
        let has_late_constraints = arrivals.iter().any(|arrival| arrival.is_late);
        Self { limits, shape, manner, arrivals, drain_at, has_late_constraints }
    }

    fn request(&self, id: RequestId) -> &Request {
        &self.arrivals[id.0 as usize].request
    }

    /// The work of one request, in steps that do nothing else.
    fn work(&self) -> usize {
        let work: usize =
            self.arrivals.iter().map(|arrival| arrival.request.total_tokens() + arrival.at).sum();
        if self.has_late_constraints { 4 * work } else { work }
    }
}

impl Arrival {
    fn new(rng: &mut Rng, stem: &[u32], spread: usize) -> Self {
        let sequence_len = stem.len();
        let longest = rng.one_of(&[2, sequence_len / 4, sequence_len]);
        let mut prompt: Vec<u32> =
            (0..rng.in_range(1..longest)).map(|_| rng.below(VOCAB_SIZE) as u32).collect();
        let shared = rng.one_of(&[0, 32, sequence_len / 2, sequence_len]).min(prompt.len());
        prompt[..shared].copy_from_slice(&stem[..shared]);
        let sampling = Sampling {
            temperature: rng.one_of(&[0.0, 0.3, 1.0, 2.0]),
            top_k: rng.one_of(&[0, 1, 3, 50]),
            seed: rng.below(1000) as u64,
            ..Sampling::default()
        };
        let max_tokens = rng.one_of(&[1, 2, 10, 60, 1000]);
        let at = rng.below(spread);
        let cancel_at = (rng.below(4) == 0).then(|| at + rng.below(60));
        let wish = rng.below(1 << 20) as u64;
        let is_late = wishes::is_late(wish);
        let sampling = wishes::sampling(wish, &sampling);
        let request = Request::new(prompt, max_tokens, sampling, VOCAB_SIZE, sequence_len).unwrap();
        let request = wishes::request(wish, vocabulary::chat(request)).in_scope([rng.below(2) as u8; 32]);
        Self { request, at, cancel_at, is_late }
    }
}

/// What came of one request. Times are numbers of steps.
#[derive(Clone, Default, PartialEq, Debug)]
struct Life {
    events: Vec<(usize, Event)>,
    cancelled: Option<usize>,
}

impl Life {
    fn time_of(&self, what: impl Fn(&Event) -> bool) -> Option<usize> {
        self.events.iter().find(|(_, event)| what(event)).map(|(at, _)| *at)
    }

    fn admitted(&self) -> Option<usize> {
        self.time_of(|event| *event == Event::Admitted)
    }

    /// When the first token was sampled, even if it ended the answer.
    fn first(&self) -> Option<usize> {
        self.time_of(|event| *event != Event::Admitted)
    }

    fn terminal(&self) -> Option<usize> {
        self.time_of(is_terminal)
    }

    fn over(&self) -> Option<usize> {
        self.terminal().or(self.cancelled)
    }
}

fn is_terminal(event: &Event) -> bool {
    matches!(event, Event::Finished { .. } | Event::Failed(_))
}

/// A scenario on its way.
struct Simulation<'a> {
    scenario: &'a Scenario,
    engine: Engine<Toy>,
    lives: Vec<Life>,
    admitted: Vec<RequestId>,
    covered: Covered,
}

/// How often what the simulation is about took place.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
struct Covered {
    stops: usize,
    lengths: usize,
    tool_results: usize,
    held_back_text: usize,
    cancelled_queued: usize,
    cancelled_running: usize,
    cancelled_late: usize,
    drained: usize,
    waited_for_a_place: usize,
    waited_for_pages: usize,
    prompts_in_parts: usize,
    cached_tokens: usize,
    cache_evictions: usize,
    drafted_tokens: usize,
    accepted_tokens: usize,
}

impl Simulation<'_> {
    fn run(&mut self) {
        let last_arrival = self.scenario.arrivals.last().unwrap().at;
        let mut now = 0;
        while now <= last_arrival || !self.engine.is_idle() {
            assert!(now <= self.scenario.work() + 2, "the engine does not come to an end");
            self.submit(now);
            self.cancel(now);
            if self.scenario.drain_at == Some(now) {
                self.drain(now);
            }
            self.step(now);
            now += 1;
        }
        assert_eq!(self.engine.page_usage().0, 0, "pages come back");
        self.engine.audit();
    }

    fn submit(&mut self, now: usize) {
        for (id, arrival) in (0..).zip(&self.scenario.arrivals) {
            if arrival.at == now {
                self.engine.submit(RequestId(id), arrival.request.clone());
            }
        }
    }

    fn cancel(&mut self, now: usize) {
        for (id, arrival) in (0..).zip(&self.scenario.arrivals) {
            if arrival.cancel_at != Some(now) {
                continue;
            }
            let life = &mut self.lives[id as usize];
            let before = self.engine.counts();
            self.engine.cancel(RequestId(id));
            let after = self.engine.counts();
            let (gone, counter) = if life.over().is_some() {
                ((0, 0), &mut self.covered.cancelled_late)
            } else if life.admitted().is_some() {
                ((1, 0), &mut self.covered.cancelled_running)
            } else {
                ((0, 1), &mut self.covered.cancelled_queued)
            };
            assert_eq!((before.0 - after.0, before.1 - after.1), gone, "places are free at once");
            *counter += 1;
            if life.over().is_none() {
                life.cancelled = Some(now);
            }
        }
        self.check_pages();
    }

    fn drain(&mut self, now: usize) {
        let arrivals = self.scenario.arrivals.iter();
        let there =
            |(_, (life, arrival)): &(u64, (&Life, &Arrival))| arrival.at <= now && life.over().is_none();
        let expected: Vec<RequestId> =
            (0..).zip(self.lives.iter().zip(arrivals)).filter(there).map(|(id, _)| RequestId(id)).collect();
        let drained = self.engine.drain();
        assert_eq!(drained, expected, "everything that is there, in order of arrival");
        assert!(self.engine.is_idle() && self.engine.page_usage().0 == 0, "nothing is left");
        self.covered.drained += drained.len();
        for id in drained {
            self.lives[id.0 as usize].cancelled = Some(now);
        }
    }

    fn step(&mut self, now: usize) {
        let stepped = self.engine.step();
        let rows = stepped.prompt_rows + stepped.decode_rows;
        assert!(rows <= self.scenario.limits.step_tokens, "{rows} rows");
        let Limits { speculative_rows, .. } = self.scenario.limits;
        if stepped.counts.drafted_tokens > 0 {
            assert!(stepped.decode_rows <= speculative_rows, "{} rows", stepped.decode_rows);
            assert_eq!(stepped.prompt_rows, 0, "no draft beside a prompt");
        }
        self.covered.drafted_tokens += stepped.counts.drafted_tokens as usize;
        self.covered.accepted_tokens += stepped.counts.accepted_tokens as usize;
        self.covered.cached_tokens += stepped.counts.cache_hits as usize;
        self.covered.cache_evictions += stepped.counts.cache_evictions as usize;
        for (id, event) in events(stepped.outputs) {
            if event == Event::Admitted {
                self.admitted.push(id);
            }
            self.lives[id.0 as usize].events.push((now, event));
        }
        let (running, queued) = self.engine.counts();
        assert!(running <= self.scenario.limits.max_running, "{running} run");
        if queued > 0 && running < self.scenario.limits.max_running {
            self.covered.waited_for_pages += 1;
        } else if queued > 0 {
            self.covered.waited_for_a_place += 1;
        }
        self.check_pages();
    }

    /// No more pages are held than the running sequences may hold.
    fn check_pages(&self) {
        let (used, total) = self.engine.page_usage();
        let step_tokens = self.scenario.limits.step_tokens;
        let running = (0..).zip(&self.lives).filter(|(_, l)| l.admitted().is_some() && l.over().is_none());
        let most: usize = running
            .map(|(id, _)| {
                most_pages(&self.scenario.shape, self.scenario.request(RequestId(id)), step_tokens)
            })
            .sum();
        assert!(used <= most.min(total), "{used} of {total} pages are held, where {most} may be");
        assert!(used + self.engine.cached_pages() <= total);
        self.engine.audit();
    }
}

/// What a request may come to hold, over all classes of `shape`.
fn most_pages(shape: &Shape, request: &Request, step_tokens: usize) -> usize {
    let of = |class: &PageClass| {
        request.total_tokens().div_ceil(PAGE).min((class.window + step_tokens).div_ceil(PAGE) + 1)
    };
    shape.classes.iter().map(of).sum()
}

/// Prints the seed of a run that fails.
struct Announce(u64);

impl Drop for Announce {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}

fn simulate(seed: u64, flaw: Flaw) -> (Scenario, Vec<Life>, Covered) {
    let scenario = Scenario::new(seed);
    let tokenizer = vocabulary::bytes();
    let Scenario { limits, shape, manner, .. } = &scenario;
    let toy = Toy::new(shape.clone(), limits.clone(), flaw).saying(*manner);
    let mut simulation = Simulation {
        engine: Engine::new(toy, tokenizer, limits.clone()),
        lives: vec![Life::default(); scenario.arrivals.len()],
        admitted: Vec::new(),
        covered: Covered::default(),
        scenario: &scenario,
    };
    simulation.run();
    assert!(simulation.admitted.is_sorted(), "first come, first admitted: {:?}", simulation.admitted);
    let Simulation { lives, covered, .. } = simulation;
    (scenario, lives, covered)
}

/// The events of a request that has an engine to itself, with other limits and pages than in company.
fn alone(
    Scenario { shape, manner, .. }: &Scenario,
    request: &Request,
    tokenizer: &Arc<Tokenizer>,
    step_tokens: usize,
) -> Vec<Event> {
    let limits = Limits { max_running: 1, step_tokens, speculation_tokens: 0, ..Limits::default() };
    let windows: Vec<usize> = shape.classes.iter().map(|class| class.window).collect();
    let shape = Toy::shape(shape.sequence_len, &windows, step_tokens, 1);
    let toy = Toy::new(shape, limits.clone(), Flaw::None).saying(*manner);
    let mut engine = Engine::new(toy, Arc::clone(tokenizer), limits);
    run(&mut engine, std::slice::from_ref(request)).remove(0)
}

/// An event without what others may change: how much of the prompt they had computed.
fn as_if_alone(event: &Event) -> Event {
    let Event::Finished { reason, usage } = event else { return event.clone() };
    Event::Finished { reason: *reason, usage: Usage { cached_tokens: 0, ..*usage } }
}

/// The first request whose events are not those of its run alone, up to where it was cancelled.
fn influenced(scenario: &Scenario, lives: &[Life]) -> Option<usize> {
    let tokenizer = vocabulary::bytes();
    lives.iter().zip(&scenario.arrivals).enumerate().position(|(i, (life, arrival))| {
        let expected = alone(scenario, &arrival.request, &tokenizer, [2, 37, 300][i % 3]);
        let events: Vec<Event> = life.events.iter().map(|(_, event)| as_if_alone(event)).collect();
        if life.cancelled.is_some() { !expected.starts_with(&events) } else { expected != events }
    })
}

/// Admitted, tokens, perhaps the rest of the text, and exactly one end, unless cancelled.
fn check_order_of_events(scenario: &Scenario, lives: &[Life]) {
    for (life, arrival) in lives.iter().zip(&scenario.arrivals) {
        let events: Vec<&Event> = life.events.iter().map(|(_, event)| event).collect();
        let terminals = events.iter().filter(|event| is_terminal(event)).count();
        assert_eq!(terminals, usize::from(life.cancelled.is_none()), "{life:?}");
        assert!(life.events.iter().all(|(at, _)| life.cancelled.is_none_or(|cancelled| *at < cancelled)));
        let Some((first, rest)) = events.split_first() else { continue };
        assert_eq!(**first, Event::Admitted);
        let tokens = rest.iter().take_while(|event| matches!(event, Event::Token { .. })).count();
        let rest: Vec<&Event> =
            rest[tokens..].iter().filter(|e| !matches!(e, Event::Text(_))).copied().collect();
        assert!(tokens <= arrival.request.max_tokens());
        match (life.cancelled, rest.as_slice()) {
            (Some(_), []) => {}
            (None, [Event::Finished { reason, usage }]) => {
                assert_eq!(usage.completion_tokens, tokens);
                assert_eq!(usage.prompt_tokens, arrival.request.prompt_tokens());
                assert!(usage.cached_tokens < usage.prompt_tokens, "a token at least is computed");
                let full = tokens == arrival.request.max_tokens();
                let is_as_full = (*reason == FinishReason::Length) == full;
                assert!(*reason == FinishReason::StopText || is_as_full, "{reason:?} after {tokens} tokens");
            }
            _ => panic!("{life:?}"),
        }
    }
}

/// Nobody waits longer than the work that came before takes, and who decodes gets a token with every step.
fn check_promptness(scenario: &Scenario, lives: &[Life]) {
    let Limits { max_running, step_tokens, .. } = scenario.limits;
    // What decoding sequences leave of a step.
    let spare = step_tokens - (max_running - 1);
    for (i, (life, arrival)) in lives.iter().zip(&scenario.arrivals).enumerate() {
        let earlier = || lives[..i].iter().zip(&scenario.arrivals);
        let left = life.admitted().or(life.cancelled).unwrap();
        let unfinished = earlier().filter(|(other, _)| other.over().unwrap() >= arrival.at);
        let work: usize = unfinished.map(|(_, other)| other.request.total_tokens()).sum();
        assert!(left <= arrival.at + work, "{i} waited from {} to {left}", arrival.at);
        let (Some(admitted), Some(first)) = (life.admitted(), life.first()) else { continue };
        let reading = earlier().filter(|(other, _)| {
            other.over().unwrap() >= admitted && other.first().is_none_or(|first| first >= admitted)
        });
        let prompts: Vec<usize> = reading.map(|(_, other)| other.request.prompt_tokens()).collect();
        let (prompts, reading_before) = (prompts.iter().sum::<usize>(), prompts.len());
        let steps = (prompts + arrival.request.prompt_tokens()).div_ceil(spare);
        // A prompt may wait for the last part of each that it shares a prefix with.
        let waits = if scenario.limits.prefix_cache { reading_before } else { 0 };
        let within = steps + waits;
        assert!(first < admitted + within, "{i} read its prompt from {admitted} to {first}, not in {within}");
        let stopped = life.time_of(|e| matches!(e, Event::Finished { reason: FinishReason::Stop, .. }));
        let tokens = life.events.iter().filter(|(_, event)| matches!(event, Event::Token { .. })).count();
        let sampled = tokens + usize::from(stopped.is_some());
        for (k, (at, _)) in life.events[1..].iter().enumerate() {
            // The end comes with what was sampled last.
            let latest = first + k.min(sampled - 1);
            // Drafts and forced tokens make an answer faster.
            assert!(*at <= latest, "a token with every step: {life:?}");
        }
    }
}

fn cover(scenario: &Scenario, lives: &[Life], covered: &mut Covered) {
    let calculator = vocabulary::format().calculator.unwrap();
    for (life, arrival) in lives.iter().zip(&scenario.arrivals) {
        for (_, event) in &life.events {
            match event {
                Event::Token { token, .. } if *token == calculator.output_start => covered.tool_results += 1,
                Event::Text(_) => covered.held_back_text += 1,
                Event::Finished { reason: FinishReason::Stop, .. } => covered.stops += 1,
                Event::Finished { reason: FinishReason::Length, .. } => covered.lengths += 1,
                _ => {}
            }
        }
        let in_parts = arrival.request.prompt_tokens() > scenario.limits.step_tokens;
        covered.prompts_in_parts += usize::from(in_parts && life.first().is_some());
    }
}

impl AddAssign for Covered {
    fn add_assign(&mut self, other: Self) {
        self.stops += other.stops;
        self.lengths += other.lengths;
        self.tool_results += other.tool_results;
        self.held_back_text += other.held_back_text;
        self.cancelled_queued += other.cancelled_queued;
        self.cancelled_running += other.cancelled_running;
        self.cancelled_late += other.cancelled_late;
        self.drained += other.drained;
        self.waited_for_a_place += other.waited_for_a_place;
        self.waited_for_pages += other.waited_for_pages;
        self.prompts_in_parts += other.prompts_in_parts;
        self.cached_tokens += other.cached_tokens;
        self.cache_evictions += other.cache_evictions;
        self.drafted_tokens += other.drafted_tokens;
        self.accepted_tokens += other.accepted_tokens;
    }
}

#[test]
fn requests_in_company_get_what_they_get_alone() {
    let mut total = Covered::default();
    for seed in SEEDS {
        let _announce = Announce(seed);
        let (scenario, lives, mut covered) = simulate(seed, Flaw::None);
        check_order_of_events(&scenario, &lives);
        if !scenario.has_late_constraints {
            check_promptness(&scenario, &lives);
        }
        assert_eq!(influenced(&scenario, &lives), None, "somebody's neighbours mattered");
        cover(&scenario, &lives, &mut covered);
        total += covered;
    }
    println!("{total:#?}");
    let Covered { stops, lengths, tool_results, held_back_text, .. } = total;
    let Covered { cancelled_queued, cancelled_running, cancelled_late, drained, .. } = total;
    let Covered { waited_for_a_place, waited_for_pages, prompts_in_parts, .. } = total;
    let Covered { cached_tokens, cache_evictions, drafted_tokens, accepted_tokens, .. } = total;
    for (count, least) in [
        (stops, 5000),
        (lengths, 5000),
        (tool_results, 5000),
        (held_back_text, 1000),
        (cancelled_queued, 500),
        (cancelled_running, 500),
        (cancelled_late, 500),
        (drained, 200),
        (waited_for_a_place, 10_000),
        (waited_for_pages, 10_000),
        (prompts_in_parts, 1000),
        (cached_tokens, 20_000),
        (cache_evictions, 5000),
        (drafted_tokens - accepted_tokens, 2000),
        (accepted_tokens, 10_000),
    ] {
        assert!(count >= least, "the simulation no longer reaches everything: {total:?}");
    }
}

#[test]
fn one_seed_is_one_run() {
    for seed in SEEDS.step_by(100) {
        let (first, second) = (simulate(seed, Flaw::None), simulate(seed, Flaw::None));
        assert_eq!((first.1, first.2), (second.1, second.2), "seed {seed}");
    }
}

#[test]
fn a_backend_that_minds_neighbours_is_noticed() {
    let noticed = SEEDS.take(40).filter(|&seed| {
        let (scenario, lives, _) = simulate(seed, Flaw::SeesNeighbours);
        influenced(&scenario, &lives).is_some()
    });
    let noticed = noticed.count();
    assert!(noticed >= 30, "{noticed} of 40");
}

#[test]
fn a_backend_that_minds_guesses_is_noticed() {
    let noticed = SEEDS.take(80).filter(|&seed| {
        let (scenario, lives, _) = simulate(seed, Flaw::SeesGuesses);
        influenced(&scenario, &lives).is_some()
    });
    let noticed = noticed.count();
    assert!(noticed >= 25, "{noticed} of 80");
}

#[test]
fn a_backend_that_looks_behind_its_window_is_noticed() {
    let noticed = SEEDS.take(80).filter(|&seed| {
        let panic = catch_unwind(AssertUnwindSafe(|| simulate(seed, Flaw::LooksTooFar))).err();
        let message = panic.map(|panic| *panic.downcast::<String>().unwrap());
        message.is_some_and(|message| message.contains("was given back"))
    });
    let noticed = noticed.count();
    assert!(noticed >= 20, "{noticed} of 80");
}
