//! Environment variables that are wrong, and what is said of them.

/// Over a file with a database and the API `stock`.
pub(super) const VARIABLES: &[(&[(&str, &str)], &str)] = &[
    (
        &[("BUTTRESS_DATABASE__POOL_SIZE", "many")],
        r#"BUTTRESS_DATABASE__POOL_SIZE = "many": write a whole number"#,
    ),
    (&[("BUTTRESS_DATABASE__POOL_SIZE", "")], r#"BUTTRESS_DATABASE__POOL_SIZE = "": write a whole number"#),
    (
        &[("BUTTRESS_DATABASE__POOL_SIZE", " 40")],
        r#"BUTTRESS_DATABASE__POOL_SIZE = " 40": write a whole number"#,
    ),
    (
        &[("BUTTRESS_DATABASE__POOL_SIZE", "-3")],
        r#"BUTTRESS_DATABASE__POOL_SIZE = "-3": it is below zero, write a whole number"#,
    ),
    (
        &[("BUTTRESS_DATABASE__POOL_SIZE", "0")],
        "BUTTRESS_DATABASE__POOL_SIZE = 0: write a number from 1 to 262143",
    ),
    (
        &[("buttress_database__pool_size", "99999999999999999999999")],
        r#"buttress_database__pool_size = "99999999999999999999999": write a whole number"#,
    ),
    (
        &[("BUTTRESS_DATABASE__POOLSIZE", "40")],
        "BUTTRESS_DATABASE__POOLSIZE: unknown key, did you mean `pool_size`?",
    ),
    (
        &[("BUTTRESS_DATABASE__URL", "hunter2")],
        "BUTTRESS_DATABASE__URL: the Postgres URL must begin with postgres:// or postgresql://",
    ),
    (&[("BUTTRESS_DATABASE__URLL", "hunter2")], "BUTTRESS_DATABASE__URLL: unknown key, did you mean `url`?"),
    (
        &[("BUTTRESS_DATABASE", "hunter2")],
        "BUTTRESS_DATABASE: it is a table, set its keys, such as BUTTRESS_DATABASE__URL",
    ),
    (
        &[("BUTTRESS_DATABASE__URL__HOST", "hunter2")],
        "BUTTRESS_DATABASE__URL__HOST: unknown key, `database.url` is no table",
    ),
    (
        &[("BUTTRESS_DATABASE__TIMEOUT", "30")],
        r#"BUTTRESS_DATABASE__TIMEOUT = "30": it has no unit, write "30s""#,
    ),
    (
        &[("BUTTRESS_DATABASE__STATEMENT_MODE", "namd")],
        r#"BUTTRESS_DATABASE__STATEMENT_MODE = "namd": did you mean "named"?"#,
    ),
    (
        &[("BUTTRESS_DATABASE__RETRY__FACTOR", "two")],
        r#"BUTTRESS_DATABASE__RETRY__FACTOR = "two": write a number"#,
    ),
    (
        &[("BUTTRESS_DATABASE__RETRY__FACTOR", "inf")],
        r#"BUTTRESS_DATABASE__RETRY__FACTOR = "inf": write a number"#,
    ),
    (
        &[("BUTTRESS_DATABASE__CIRCUIT_BREAKER__ENABLED", "no")],
        r#"BUTTRESS_DATABASE__CIRCUIT_BREAKER__ENABLED = "no": write true or false"#,
    ),
    (
        &[("BUTTRESS_DATABASE__BULKHEAD__QUEUE", "5")],
        "BUTTRESS_DATABASE__BULKHEAD__QUEUE: database.bulkhead.limit: it is missing, write `limit = 50`",
    ),
    (
        &[("BUTTRESS_CACHE__SHARED", "true")],
        "BUTTRESS_CACHE__SHARED = true: it is shared through Redis, and there is no table `[redis]`: add it with its `url`",
    ),
    (&[("BUTTRESS_CACHE__SHARED", "True")], r#"BUTTRESS_CACHE__SHARED = "True": write true or false"#),
    (
        &[("BUTTRESS_HTTP", "hunter2")],
        "BUTTRESS_HTTP: it is a table, set its keys, such as BUTTRESS_HTTP__NAME__BASE_URL",
    ),
    (
        &[("BUTTRESS_HTTP__STOK__BEARER", "hunter2")],
        r#"BUTTRESS_HTTP__STOK__BEARER: http.stok.base_url: it is missing, write `base_url = "https://host/path"`"#,
    ),
    (
        &[("BUTTRESS_HTTP__STOCK__BEARER", "hunter2 b")],
        "BUTTRESS_HTTP__STOCK__BEARER: the token has characters that no token has: blanks, controls or other than ASCII; write it as its issuer gave it",
    ),
    (
        &[("BUTTRESS_HTTP__STOCK__HEADERS", "x=hunter2")],
        "BUTTRESS_HTTP__STOCK__HEADERS: it is a table, set its keys, such as BUTTRESS_HTTP__STOCK__HEADERS__NAME",
    ),
    (
        &[("BUTTRESS_HTTP__STOCK__HEADERS__X_KEY", "hunter2\n")],
        "BUTTRESS_HTTP__STOCK__HEADERS__X_KEY: its value has characters that no header can have, such as line feeds",
    ),
    (
        &[("BUTTRESS_HTTP__STOCK__BASE_URL", "http://u:hunter2@h")],
        "BUTTRESS_HTTP__STOCK__BASE_URL: credentials have no place in it, give them by `bearer`, or by `headers`",
    ),
    (&[("BUTTRESS__NAME", "a")], "BUTTRESS__NAME: unknown key, did you mean `name`?"),
    (
        &[("BUTTRESS_", "a")],
        "BUTTRESS_: unknown key, there are `cache`, `database`, `health`, `http`, `name`, `redis`, `telemetry`",
    ),
    (
        &[("BUTTRESS_NAME", "a"), ("buttress_Name", "b")],
        "buttress_Name: it is given twice, remove it or BUTTRESS_NAME",
    ),
    (
        &[("BUTTRESS_NAME", "a b")],
        r#"BUTTRESS_NAME = "a b": write 1 to 63 letters, digits, `_`, `-` and `.`"#,
    ),
    (
        &[("BUTTRESS_HUNTER", "2")],
        "BUTTRESS_HUNTER: unknown key, there are `cache`, `database`, `health`, `http`, `name`, `redis`, `telemetry`",
    ),
    (&[("BUTTRESS_NAM\nE", "2")], r#"BUTTRESS_NAM\nE: unknown key, did you mean `name`?"#),
    (
        &[("BUTTRESS_HTTP__A B__BASE_URL", "http://h")],
        "BUTTRESS_HTTP__A B__BASE_URL: write its name with 1 to 64 letters, digits, `_` and `-`",
    ),
];
