//! Keys and types that are wrong, and what is said of them. `API` stands for the beginning of the table of an API.

/// Keys that there are not.
pub(super) const KEYS: &[(&str, &str)] = &[
    (
        r#"[database]
url = "postgres://h"
pool_sise = 40"#,
        "database.pool_sise = 40: unknown key, did you mean `pool_size`?",
    ),
    (
        r#"[database]
urll = "postgres://u:hunter2@h""#,
        "database.urll: unknown key, did you mean `url`?",
    ),
    (
        r#"[databas]
url = "postgres://u:hunter2@h""#,
        "databas: unknown key, did you mean `database`?",
    ),
    (
        "hunter2 = 1",
        "hunter2: unknown key, there are `cache`, `database`, `health`, `http`, `name`, `redis`, `telemetry`",
    ),
    (
        r#"[redis]
url = "redis://h"
max_overflow = 3"#,
        "redis.max_overflow: unknown key, there are `bulkhead`, `circuit_breaker`, `command_timeout`, `connect_timeout`, `pool_size`, `rate_limit`, `retry`, `timeout`, `url`",
    ),
    (
        r#"API
bearer_token = "hunter2""#,
        "http.stock.bearer_token: unknown key, there are `attempt_timeout`, `base_url`, `bearer`, `bulkhead`, `circuit_breaker`, `connect_timeout`, `headers`, `max_answer`, `max_connections`, `rate_limit`, `redirects`, `retry`, `timeout`",
    ),
    ("API\nbearrer = 2222", "http.stock.bearrer: unknown key, did you mean `bearer`?"),
    (
        r#"[http.stock]
base_uri = "http://h""#,
        "http.stock.base_uri: unknown key, did you mean `base_url`?",
    ),
    (
        "API\nrate_limit = { limits = 10 }",
        "http.stock.rate_limit.limits = 10: unknown key, did you mean `limit`?",
    ),
    (
        "API\nretry = { attempts = 3 }",
        "http.stock.retry.attempts: unknown key, there are `delay`, `factor`, `jitter`, `max_delay`, `requests`, `retries`",
    ),
    (
        r#"[cache]
"postgres://u:hunter2@h" = "url""#,
        r#"cache."…": unknown key, there are `max_bytes`, `shared`, `stale_if_error`, `stale_while_revalidate`, `ttl`"#,
    ),
    (
        r#"[cache]
"a\nb" = 1"#,
        r#"cache."a\nb": unknown key, there are `max_bytes`, `shared`, `stale_if_error`, `stale_while_revalidate`, `ttl`"#,
    ),
    (
        r#"[telemetry]
dash-board = "127.0.0.1:1""#,
        "telemetry.dash-board: unknown key, did you mean `dashboard`?",
    ),
];

/// Values of another type.
pub(super) const TYPES: &[(&str, &str)] = &[
    ("name = 3", "name = 3: write it in quotes"),
    ("[database]\nurl = 22222", "database.url: write it in quotes"),
    (
        r#"[database]
url = ["hunter2"]"#,
        "database.url: write it in quotes",
    ),
    (
        r#"database = "postgres://u:hunter2@h""#,
        "database: it is a table, write `[database]` and below it its keys, such as `url`",
    ),
    (
        r#"[database]
url = "postgres://h"
pool_size = "40""#,
        r#"database.pool_size = "40": write a whole number, without quotes"#,
    ),
    (
        r#"[database]
url = "postgres://h"
pool_size = 40.0"#,
        "database.pool_size = 40.0: write a whole number, without quotes",
    ),
    (
        r#"[database]
url = "postgres://h"
pool_size = -1"#,
        "database.pool_size = -1: it is below zero, write a whole number",
    ),
    (
        r#"[database]
url = "postgres://h"
pool_size = true"#,
        "database.pool_size = true: write a whole number, without quotes",
    ),
    (
        r#"[database]
url = "postgres://h"
retry = 3"#,
        "database.retry = 3: it is a table, write `[database.retry]` and below it its keys, such as `delay`",
    ),
    (
        r#"[database]
url = "postgres://h"
retry = { retries = 4294967296 }"#,
        "database.retry.retries = 4294967296: it is too large, write a smaller number",
    ),
    (
        r#"[database]
url = "postgres://h"
retry = { factor = "2" }"#,
        r#"database.retry.factor = "2": write a number, without quotes"#,
    ),
    (
        r#"[database]
url = "postgres://h"
circuit_breaker = { enabled = "no" }"#,
        r#"database.circuit_breaker.enabled = "no": write true or false, without quotes"#,
    ),
    (
        r#"[database]
url = "postgres://h"
bulkhead = 50"#,
        "database.bulkhead = 50: it is a table, write `[database.bulkhead]` and below it its keys, such as `limit`",
    ),
    ("[cache]\nshared = 1", "cache.shared = 1: write true or false, without quotes"),
    (
        r#"[cache]
max_bytes = "64MB""#,
        r#"cache.max_bytes = "64MB": write a whole number, without quotes"#,
    ),
    (
        r#"http = "http://h""#,
        r#"http = "http://h": write `[http.NAME]` with a name of yours, and below it `base_url`"#,
    ),
    (
        r#"[http]
base_url = "http://h""#,
        r#"http.base_url = "http://h": write it below `[http.NAME]`, with a name of yours for the API"#,
    ),
    (
        r#"API
headers = "x-key: hunter2""#,
        r#"http.stock.headers: write `headers = { name = "value" }`"#,
    ),
    ("API\nheaders = { x-key = 22222 }", "http.stock.headers.x-key: write it in quotes"),
    ("API\nbearer = true", "http.stock.bearer: write it in quotes"),
    (
        r#"[[http.stock]]
base_url = "http://h""#,
        "http.stock = […]: it is a table, write `[http.stock]` and below it its keys, such as `base_url`",
    ),
];

/// What has no default.
pub(super) const MISSING: &[(&str, &str)] = &[
    ("[database]", r#"database.url: it is missing, write `url = "postgres://user@host/database"`"#),
    ("[redis]\npool_size = 3", r#"redis.url: it is missing, write `url = "redis://host"`"#),
    (
        r#"[http.stock]
bearer = "hunter2""#,
        r#"http.stock.base_url: it is missing, write `base_url = "https://host/path"`"#,
    ),
    ("API\nbulkhead = {}", "http.stock.bulkhead.limit: it is missing, write `limit = 50`"),
];

/// What is no TOML.
pub(super) const SYNTAX: &[(&str, &str)] = &[
    (
        "[database]\nurl = postgres://u:hunter2@h",
        "line 2, column 7: this is no number and no date, write it in quotes",
    ),
    (
        r#"[database]
url = "postgres://u:hunter2@h"#,
        "line 2, column 30: this string has no end, or a character that has to be escaped",
    ),
    (
        r#"[database]
url = "postgres://u:hunter2\@h""#,
        r#"line 2, column 30: `\` begins an escape here, write `\\`, or put the string into single quotes"#,
    ),
    (
        r#"[database
url = "postgres://u:hunter2@h""#,
        "line 1, column 10: this is not TOML (invalid table header, expected `.`, `]`)",
    ),
    ("hunter2", "line 1, column 8: this is not TOML (expected `.`, `=`)"),
    (
        r#"name = "a"
name = "b""#,
        "line 2, column 1: this key or table is there already, remove one of the two",
    ),
    (
        r#"[redis]
url = "redis://a"
[redis]
url = "redis://b""#,
        "line 3, column 1: this key or table is there already, remove one of the two",
    ),
    (
        r#"name = "a"
name.b = "c""#,
        "line 2, column 1: this key is below one that is no table",
    ),
    ("name = 007", "line 1, column 9: this is not TOML (expected newline, `#`)"),
    (
        "[database]\npool_size = 99999999999999999999",
        "line 2, column 13: this is not TOML (number too large to fit in target type)",
    ),
    (
        r#"name = "a\u0000b"#,
        "line 1, column 17: this string has no end, or a character that has to be escaped",
    ),
    (
        r#"name = """
ü"#,
        "line 2, column 2: this is not TOML (invalid multiline basic string)",
    ),
    ("name = \"\u{1}\"", "line 1, column 9: this string has no end, or a character that has to be escaped"),
];
