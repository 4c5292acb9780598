//! A system that is given other thresholds while it works: no call fails, and what it had counted it still knows.

#[path = "reload/kept.rs"]
mod kept;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress::{
    Config, Error, ReloadError, System, config,
    core::{Reason, Rejectable},
    postgres::Query,
};
use buttress_testkit::{Reply, TestDatabase, Upstream};
use tokio::time::{Instant, sleep};

const CALLERS: usize = 64;
const RELOADS: usize = 200;

/// Why a layer refused.
fn reason<T: std::fmt::Debug>(result: Result<T, Error>) -> Reason {
    result.unwrap_err().rejected().expect("a layer's").reason()
}

/// The `x` of a configuration.
fn x(config: &mut Config) -> &mut config::Http {
    config.http.get_mut("x").unwrap()
}

fn of_x(http: config::Http) -> Config {
    let mut config = Config::default();
    config.http.insert("x".into(), http);
    config
}

/// A caller whose every call must bring what it asks for. How many did.
async fn call(system: System, number: usize, stop: Arc<AtomicBool>) -> usize {
    let mut calls = 0;
    while !stop.load(Relaxed) {
        let answer: i64 = if (number + calls).is_multiple_of(2) {
            let query = Query::new("select 7::bigint as n");
            system.query(query).await.unwrap().one().unwrap().get("n").unwrap()
        } else {
            let answer = system.http("x").unwrap().get("/seven").send().await.unwrap();
            assert_eq!(answer.status(), 200);
            answer.json().await.unwrap()
        };
        assert_eq!(answer, 7);
        calls += 1;
    }
    calls
}

/// The thresholds of that turn. They differ, and none of them is so tight that a call would fail.
fn turn(config: &mut Config, turn: usize, upstreams: &[Upstream]) {
    let seconds = |least: usize| Duration::from_secs((least + turn % 7) as u64);
    let few = 1 + u32::try_from(turn % 9).unwrap();
    let retry = |retry: &mut config::Retry| {
        retry.retries = few - 1;
        retry.delay = Duration::from_millis(few.into());
    };
    let breaker = |breaker: &mut config::CircuitBreaker| {
        breaker.enabled = !turn.is_multiple_of(4);
        breaker.failures = few;
        breaker.open_for = seconds(1);
        breaker.failure_rate = turn.is_multiple_of(2).then_some(0.5);
        breaker.window = seconds(1);
    };
    let rate_limit = (!turn.is_multiple_of(3)).then(|| {
        let mut limit = config::RateLimit::default();
        limit.limit = 1_000_000 + few;
        limit.per = seconds(1);
        limit
    });
    let bulkhead = match turn % 5 {
        0 => None,
        1 => Some(config::Bulkhead::new(1000 * few)),
        _ => {
            let mut bulkhead = config::Bulkhead::new(4 + few);
            (bulkhead.queue, bulkhead.max_wait) = (1000, Duration::from_secs(30));
            Some(bulkhead)
        }
    };
    let database = config.database.as_mut().unwrap();
    (database.timeout, database.attempt_timeout) = (seconds(20), turn.is_multiple_of(2).then(|| seconds(15)));
    (database.pool_size, database.slow_query) = (4 + turn % 9, seconds(1));
    (database.rate_limit, database.bulkhead) = (rate_limit.clone(), bulkhead.clone());
    retry(&mut database.retry);
    breaker(&mut database.circuit_breaker);

    let to = turn % upstreams.len();
    let x = x(config);
    x.base_url = upstreams[to].url();
    x.bearer = Some(format!("token-of-{to}").as_str().into());
    x.headers.insert("x-turn".into(), turn.to_string().as_str().into());
    (x.timeout, x.attempt_timeout) = (seconds(20), (turn % 2 == 1).then(|| seconds(15)));
    (x.rate_limit, x.bulkhead) = (rate_limit, bulkhead);
    (x.max_connections, x.redirects) = (64 + turn % 9, turn % 3);
    retry(&mut x.retry);
    breaker(&mut x.circuit_breaker);

    if turn.is_multiple_of(3) {
        config.http.insert("y".into(), config::Http::new(upstreams[to].url()));
    }
    config.http.insert(format!("z{}", turn % 2), config::Http::new(upstreams[to].url()));
    config.telemetry.slow_call = seconds(1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_while_everything_changes() {
    let database = TestDatabase::new().await;
    let upstreams = [Upstream::start().await, Upstream::start().await];
    for upstream in &upstreams {
        upstream.on("/seven", Reply::ok("7"));
    }
    let mut first = of_x(config::Http::new(upstreams[0].url()));
    first.database = Some(config::Database::new(database.url()));
    let system = System::start(first.clone()).await.unwrap();
    let names = || -> Vec<String> {
        let snapshot = system.registry().snapshot();
        let layers = snapshot.layers.iter().map(|it| format!("{} {}", it.layer, it.name));
        let mut names: Vec<_> = layers.chain(snapshot.stacks.into_iter().map(|it| it.name)).collect();
        names.sort();
        names
    };
    let at_first = names();
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> =
        (0..CALLERS).map(|number| tokio::spawn(call(system.clone(), number, Arc::clone(&stop)))).collect();

    for number in 0..RELOADS {
        let mut new = first.clone();
        turn(&mut new, number, &upstreams);
        let before = (system.explain().to_string(), system.http("y").is_ok());
        match number % 5 {
            3 => {
                x(&mut new).circuit_breaker.failures = 0;
                let refused = system.reload(new);
                assert!(matches!(refused, Err(ReloadError::Config(_))), "{number}: {refused:?}");
            }
            4 => {
                new.database.as_mut().unwrap().url = "postgres://elsewhere@127.0.0.1:1/x".into();
                x(&mut new).connect_timeout = Duration::from_secs(1);
                let refused = system.reload(new);
                let Err(ReloadError::NeedsRestart(keys)) = refused else { panic!("{number}: {refused:?}") };
                assert_eq!(keys, ["`database.url`", "`http.x.connect_timeout`"]);
            }
            _ => {
                let has_y = new.http.contains_key("y");
                system.reload(new).unwrap();
                assert_eq!(system.http("y").is_ok(), has_y, "{number}");
                sleep(Duration::from_millis(5)).await;
                continue;
            }
        }
        let after = (system.explain().to_string(), system.http("y").is_ok());
        assert_eq!(after, before, "{number}: what is wrong changes nothing");
        assert!(!callers.iter().any(tokio::task::JoinHandle::is_finished), "a call failed at {number}");
    }

    // Nothing of what went by is left.
    system.reload(first).unwrap();
    assert!(system.http("y").is_err() && system.http("z0").is_err() && system.http("z1").is_err());
    stop.store(true, Relaxed);
    let mut calls = 0;
    for caller in callers {
        calls += caller.await.unwrap();
    }
    assert!(calls > 10 * CALLERS, "{calls}");
    assert_eq!(names(), at_first);
    let report = system.shutdown(Duration::from_secs(10)).await;
    assert!(report.is_clean(), "{report}");

    // Each went where its credentials belong.
    for (number, upstream) in upstreams.iter().enumerate() {
        let token = format!("Bearer token-of-{number}");
        let requests = upstream.requests();
        assert!(requests.len() > CALLERS, "{}", requests.len());
        let strange =
            requests.iter().find(|it| it.headers.get("authorization").is_some_and(|it| *it != *token));
        assert!(strange.is_none(), "{strange:?}");
    }
}

#[tokio::test]
async fn after_a_wrong_one_a_right_one_is_taken_and_after_the_shutdown_none() {
    let upstream = Upstream::start().await;
    upstream.on("/", Reply::ok("1").after(Duration::from_millis(200)));
    let first = of_x(config::Http::new(upstream.url()));
    let system = System::start(first.clone()).await.unwrap();
    let ask = async || -> Result<u32, Error> { Ok(system.http("x")?.get("/").send().await?.json().await?) };
    let mut wrong = first.clone();
    x(&mut wrong).timeout = Duration::from_millis(50);
    wrong.http.insert("y".into(), config::Http::new("no url"));
    assert!(matches!(system.reload(wrong.clone()), Err(ReloadError::Config(_))));
    assert_eq!(ask().await.unwrap(), 1, "by the old timeout");
    wrong.http.remove("y");
    system.reload(wrong).unwrap();
    let began = Instant::now();
    assert_eq!(reason(ask().await), Reason::TimedOut);
    assert!(began.elapsed() < Duration::from_millis(150), "by the new timeout");
    system.shutdown(Duration::from_secs(1)).await;
    assert!(matches!(system.reload(first), Err(ReloadError::Closed)));
    assert_eq!(reason(ask().await), Reason::Closed);
}

/// Calls on their way go on as they began, to the last of their attempts.
#[tokio::test]
async fn a_call_to_an_api_that_goes_comes_to_its_end() {
    let upstream = Upstream::start().await;
    let slow = |reply: Reply| reply.after(Duration::from_millis(150));
    upstream.on("/once", slow(Reply::ok("1")));
    upstream.on("/twice", [slow(Reply::status(500)), slow(Reply::ok("2"))]);
    let mut whole = of_x(config::Http::new(upstream.url()));
    x(&mut whole).retry.delay = Duration::from_millis(1);
    let system = System::start(whole.clone()).await.unwrap();
    for path in ["/once", "/twice"] {
        let x = system.http("x").unwrap();
        let asked = tokio::spawn(async move { Ok::<_, Error>(x.get(path).send().await?.text().await?) });
        let before = upstream.requests().len();
        while upstream.requests().len() == before {
            sleep(Duration::from_millis(1)).await;
        }
        system.reload(Config::default()).unwrap();
        assert!(matches!(system.http("x"), Err(Error::NotConfigured(_))));
        assert_eq!(asked.await.unwrap().unwrap(), if path == "/once" { "1" } else { "2" });
        system.reload(whole.clone()).unwrap();
        upstream.on("/again", Reply::ok("3"));
        let again = system.http("x").unwrap().get("/again").send().await.unwrap();
        assert_eq!(again.text().await.unwrap(), "3");
    }
}
