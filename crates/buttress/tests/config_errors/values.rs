//! Values that are wrong, and what is said of them. `API` stands for the beginning of the table of an API.

/// Times.
pub(super) const DURATIONS: &[(&str, &str)] = &[
    (
        r#"API
timeout = "30""#,
        r#"http.stock.timeout = "30": it has no unit, write "30s""#,
    ),
    ("API\ntimeout = 30", r#"http.stock.timeout = 30: it has no unit, write "30s""#),
    ("API\ntimeout = 1.5", r#"http.stock.timeout = 1.5: write a duration such as "30s", "500ms" or "5m""#),
    (
        r#"API
timeout = "half a minute""#,
        r#"http.stock.timeout = "half a minute": write a duration such as "30s", "500ms" or "5m""#,
    ),
    (
        r#"API
timeout = "-5s""#,
        r#"http.stock.timeout = "-5s": write a duration such as "30s", "500ms" or "5m""#,
    ),
    (
        r#"API
timeout = "0s""#,
        r#"http.stock.timeout = "0s": nothing is done in that time, write at least "1ms""#,
    ),
    (
        r#"API
attempt_timeout = "0""#,
        r#"http.stock.attempt_timeout = "0": nothing is done in that time, write at least "1ms""#,
    ),
    (
        r#"API
attempt_timeout = "31y""#,
        r#"http.stock.attempt_timeout = "31y": write at most "30y""#,
    ),
    (
        r#"[cache]
ttl = "5M""#,
        r#"cache.ttl = "5M": `M` is no unit here, write "5m" for minutes"#,
    ),
    (
        r#"[cache]
ttl = "99999999999999999999y""#,
        r#"cache.ttl = "99999999999999999999y": write a duration such as "30s", "500ms" or "5m""#,
    ),
    (
        r#"[cache]
ttl = "0s""#,
        r#"cache.ttl = "0s": nothing is done in that time, write at least "1ms""#,
    ),
    (
        r#"[cache]
stale_if_error = "40 years""#,
        r#"cache.stale_if_error = "40 years": write at most "30y""#,
    ),
    (
        r#"[health]
interval = "2days""#,
        r#"health.interval = "2days": write "10ms" to "1day""#,
    ),
    (
        "[health]\ninterval = 2026-01-01",
        r#"health.interval = {…}: write a duration such as "30s", "500ms" or "5m""#,
    ),
    (
        r#"[telemetry]
slow_call = """#,
        r#"telemetry.slow_call = "": write a duration such as "30s", "500ms" or "5m""#,
    ),
];

/// Words.
pub(super) const WORDS: &[(&str, &str)] = &[
    (
        r#"[redis]
url = "redis://h"
retry = { jitter = "ful" }"#,
        r#"redis.retry.jitter = "ful": did you mean "full"?"#,
    ),
    (
        r#"[redis]
url = "redis://h"
retry = { jitter = "decorrelated" }"#,
        r#"redis.retry.jitter = "decorrelated": write one of "full", "equal", "none""#,
    ),
    (
        r#"[redis]
url = "redis://h"
retry = { jitter = 1 }"#,
        "redis.retry.jitter = 1: write it in quotes",
    ),
    (
        r#"[redis]
url = "redis://h"
retry = { requests = "idempotent" }"#,
        r#"redis.retry.requests = "idempotent": write one of "repeatable", "all""#,
    ),
    (
        r#"[database]
url = "postgres://h"
statement_mode = "Unnamed""#,
        r#"database.statement_mode = "Unnamed": did you mean "unnamed"?"#,
    ),
    (
        r#"[telemetry]
dashboard = "9900""#,
        r#"telemetry.dashboard = "9900": write an address and a port, such as "127.0.0.1:9900""#,
    ),
    (
        r#"[telemetry]
dashboard = "localhost:9900""#,
        r#"telemetry.dashboard = "localhost:9900": write an address and a port, such as "127.0.0.1:9900""#,
    ),
];

/// Whatever else has bounds.
pub(super) const VALUES: &[(&str, &str)] = &[
    (r#"name = """#, r#"name = "": write 1 to 63 letters, digits, `_`, `-` and `.`"#),
    (r#"name = "my shop""#, r#"name = "my shop": write 1 to 63 letters, digits, `_`, `-` and `.`"#),
    (
        r#"[database]
url = "mysql://u:hunter2@h""#,
        "database.url: the Postgres URL must begin with postgres:// or postgresql://",
    ),
    (
        r#"[database]
url = "postgres://u:hunter@2@h""#,
        "database.url: the Postgres URL has an @ behind its host: an @ in the user, password, database or an option is written %40, and a / in the user or password %2F",
    ),
    (
        r#"[database]
url = "postgres://h?hunter2=1""#,
        "database.url: behind its `?` is an option that Postgres does not know, write it as libpq has it, such as `sslmode=require`",
    ),
    (
        r#"[database]
url = "postgres://h"
pool_size = 0"#,
        "database.pool_size = 0: write a number from 1 to 262143",
    ),
    (
        r#"[database]
url = "postgres://h"
pool_size = 300000"#,
        "database.pool_size = 300000: write a number from 1 to 262143",
    ),
    (
        r#"[database]
url = "postgres://h"
max_overflow = 262143"#,
        "database.max_overflow = 262143: write a number from 0 to 262123",
    ),
    (
        r#"[redis]
url = "rediss://:hunter2@h""#,
        "redis.url: TLS to Redis (rediss) is not supported yet; use redis:// to a local TLS tunnel, or a private network",
    ),
    (
        r#"[redis]
url = "hunter2""#,
        "redis.url: the URL of the Redis server is malformed; write redis://user:password@host:port/0",
    ),
    (
        r#"[redis]
url = "redis://h"
pool_size = 0"#,
        "redis.pool_size = 0: write a number from 1 to 10000",
    ),
    (
        r#"[redis]
url = "redis://h"
pool_size = 100000"#,
        "redis.pool_size = 100000: write a number from 1 to 10000",
    ),
    (
        "[cache]\nshared = true",
        "cache.shared = true: it is shared through Redis, and there is no table `[redis]`: add it with its `url`",
    ),
    ("[cache]\nmax_bytes = 0", "cache.max_bytes = 0: write a number from 1 to 1099511627776"),
    (
        r#"[http.stock]
base_url = "stock""#,
        r#"http.stock.base_url = "stock": it must be absolute, with scheme and host; write it as `https://host/path`"#,
    ),
    (
        r#"[http.stock]
base_url = "ftp://stock""#,
        r#"http.stock.base_url = "ftp://stock": its scheme must be http or https; write it as `https://host/path`"#,
    ),
    (
        r#"[http.stock]
base_url = "http://u:hunter2@stock""#,
        "http.stock.base_url: credentials have no place in it, give them by `bearer`, or by `headers`",
    ),
    (
        r#"[http.stock]
base_url = "http://stock?key=hunter2""#,
        "http.stock.base_url: a query has no place in it: give it with each call; write it as `https://host/path`",
    ),
    (
        r#"[http."my stock"]
base_url = "http://h""#,
        r#"http."my stock": write its name with 1 to 64 letters, digits, `_` and `-`"#,
    ),
    (
        r#"[http.""]
base_url = "http://h""#,
        r#"http."": write its name with 1 to 64 letters, digits, `_` and `-`"#,
    ),
    (
        r#"[http."http://u:hunter2@h"]
base_url = "http://h""#,
        r#"http."…": write its name with 1 to 64 letters, digits, `_` and `-`"#,
    ),
    (
        r#"API
bearer = """#,
        "http.stock.bearer: the token is empty; write it as its issuer gave it",
    ),
    (
        r#"API
bearer = "hunter2\n""#,
        "http.stock.bearer: the token has characters that no token has: blanks, controls or other than ASCII; write it as its issuer gave it",
    ),
    (
        r#"API
headers = { "x key" = "hunter2" }"#,
        "http.stock.headers: the name of a header is malformed, write letters, digits and `-`",
    ),
    (
        r#"API
headers = { x-key = "hunter2\r\nx: y" }"#,
        "http.stock.headers.x-key: its value has characters that no header can have, such as line feeds",
    ),
    (
        r#"API
headers = { Host = "hunter2" }"#,
        "http.stock.headers.Host: it is the connection's own; URL and body say what it should be: remove it",
    ),
    (
        r#"API
headers = { idempotency-key = "hunter2" }"#,
        "http.stock.headers.idempotency-key: each call has one of its own, or the server takes all of them for the same: remove it",
    ),
    (
        r#"API
bearer = "a"
headers = { Authorization = "hunter2" }"#,
        "http.stock.headers.Authorization: the same header is given twice (`bearer` is the header `authorization`), remove one",
    ),
    ("API\nmax_connections = 0", "http.stock.max_connections = 0: write a number from 1 to 1000000"),
    ("API\nredirects = 1000", "http.stock.redirects = 1000: write a number from 0 to 100"),
    ("API\nmax_answer = 0", "http.stock.max_answer = 0: write a number from 1 to 1099511627776"),
    (
        "API\nrate_limit = { limit = 0 }",
        "http.stock.rate_limit.limit = 0: it would refuse every call, write at least 1",
    ),
    (
        r#"API
rate_limit = { per = "0s" }"#,
        r#"http.stock.rate_limit.per = "0s": write at least "1ms""#,
    ),
    (
        r#"API
rate_limit = { per = "2y" }"#,
        r#"http.stock.rate_limit.per = "2y": write at most "366days""#,
    ),
    (
        r#"API
rate_limit = { limit = 1000, per = "1ns" }"#,
        r#"http.stock.rate_limit.per = "1ns": it is more than one call in a nanosecond, write a longer time"#,
    ),
    ("API\nretry = { retries = 1000 }", "http.stock.retry.retries = 1000: write a number from 0 to 100"),
    (
        r#"API
retry = { delay = "0s" }"#,
        r#"http.stock.retry.delay = "0s": nothing is done in that time, write at least "1ms""#,
    ),
    (
        r#"API
retry = { delay = "1m" }"#,
        r#"http.stock.retry.max_delay = "10s": it is below `delay`, write at least "1m""#,
    ),
    ("API\nretry = { factor = 0.5 }", "http.stock.retry.factor = 0.5: write a number of at least 1"),
    ("API\nretry = { factor = nan }", "http.stock.retry.factor = nan: write a number of at least 1"),
    (
        "API\ncircuit_breaker = { failures = 0 }",
        "http.stock.circuit_breaker.failures = 0: it would open before any failure, write at least 1, or `enabled = false` for none",
    ),
    (
        "API\ncircuit_breaker = { failure_rate = 50 }",
        "http.stock.circuit_breaker.failure_rate = 50: write a number above 0 and at most 1, such as 0.5 for half of the calls",
    ),
    (
        r#"API
circuit_breaker = { open_for = "0s" }"#,
        r#"http.stock.circuit_breaker.open_for = "0s": nothing is done in that time, write at least "1ms""#,
    ),
    (
        r#"API
circuit_breaker = { window = "2days" }"#,
        r#"http.stock.circuit_breaker.window = "2days": write "1ms" to "1day""#,
    ),
    (
        r#"API
circuit_breaker = { ramp = "2days" }"#,
        r#"http.stock.circuit_breaker.ramp = "2days": write at most "1day", or "0s" for none"#,
    ),
    ("API\nbulkhead = { limit = 0 }", "http.stock.bulkhead.limit = 0: write a number from 1 to 1000000"),
    (
        "API\nbulkhead = { limit = 1, queue = 2000000 }",
        "http.stock.bulkhead.queue = 2000000: write a number from 0 to 1000000",
    ),
    (
        r#"API
bulkhead = { limit = 1, queue = 1, max_wait = "0s" }"#,
        r#"http.stock.bulkhead.max_wait = "0s": write at least "1ms", or `queue = 0` so that none waits"#,
    ),
];
