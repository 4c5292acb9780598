use buttress::{Config, explain::Severity};

/// Whatever a file holds, it is a configuration or an error of one short line.
#[test]
fn a_hostile_file_is_refused_in_one_short_line() {
    let deep = "[".repeat(100_000);
    let tables = format!("a = {}", "{a=".repeat(100_000));
    let dots = format!("{}a = 1", "a.".repeat(100_000));
    let header = format!("[{}a]", "database.".repeat(100_000));
    let long = format!("name = {:?}", "x".repeat(5_000_000));
    let key = format!("{} = 1", "x".repeat(1_000_000));
    let many: String = (0..20_000).map(|n| format!("[http.a{n}]\nbase_url = 1\n")).collect();
    let headers =
        format!("[http.a]\nbase_url = \"http://h\"\nheaders = {{ {} }}", "\"X\\n\" = \"secret\", \"b\" = 1");
    let files = [
        &*deep,
        &*format!("a = {deep}"),
        &*tables,
        &*dots,
        &*header,
        &*long,
        &*key,
        &*many,
        &*headers,
        "[[http.a]]\nbase_url = \"http://h\"",
        "[[http]]\na = 1",
        "http = []",
        "http = 5",
        "database = []",
        "[http.a]\nbase_url = \"http://h\"\n[http.a]\nbase_url = \"http://h\"",
        "[http.\"a b\"]\nbase_url = \"http://h\"",
        "[http.\"\"]\nbase_url = \"http://h\"",
        "[http.\"\u{430}\"]\nbase_url = \"http://h\"",
        "[d\u{430}tabase]\nurl = \"postgres://h\"",
        "[\"d\u{430}tabase\"]\nurl = \"postgres://u:secret@h\"",
        "[\"data\\u001b[31mbase\"]\nurl = 1",
        "\0",
        "\u{feff}\u{feff}name = 1",
        "name = \"a\\nb\"",
        "health.interval = 1979-05-27T07:32:00Z",
        "telemetry.slow_call = \"99999999999999999999y\"",
        "[database]\nurl = \"postgres://h\"\nretry.factor = nan",
        "[database]\nurl = \"postgres://h\"\nretry.factor = inf",
        "[database]\nurl = \"postgres://h\"\npool_size = 99999999999999999999",
        "[database]\nurl = \"postgres://h\"\npool_size = -9223372036854775808",
        "[database]\nurl = \"postgres://h\"\nbulkhead = { limit = 4294967295, queue = 4294967295, max_wait = \"600years\" }",
        "[database]\nurl = { password = \"secret\" }",
        "[database]\nurl = [\"secret\"]",
        "[redis]\nurl = \"redis://u:secret@h:notaport\"",
        "[redis]\nurl = \"secret\"",
        "[http.a]\nbase_url = \"http://u:secret@h\"",
        "[http.a]\nbase_url = \"http://h\"\nbearer = \"secret\\n\"",
        "[http.a]\nbase_url = \"http://h\"\nbearer = secret",
        "[http.a]\nbase_url = \"http://h\"\nheaders = { Authorization = \"secret\\r\\n\" }",
        "[http.a]\nbase_url = \"http://h\"\nheader = { Authorization = \"secret\" }",
    ];
    for file in files {
        let shown: String = file.chars().take(80).collect();
        let error = Config::from_toml(file).expect_err(&shown);
        let text = error.to_string();
        assert!(text.len() < 1_000 && !text.chars().any(char::is_control), "{shown}: {text:.2000}");
        let debug = format!("{error:?}");
        assert!(!text.contains("secret") && !debug.contains("secret"), "{shown}: {text} / {debug:.500}");
        assert!(debug.len() < 5_000, "{shown}: {}", debug.len());
    }
}

/// The largest numbers that a file may say make no arithmetic overflow.
#[test]
fn the_largest_numbers_are_explained() {
    let file = r#"
        telemetry.slow_call = "30years"
        [http.a]
        base_url = "http://h"
        timeout = "30years"
        attempt_timeout = "29years"
        max_connections = 1000000
        redirects = 100
        rate_limit = { limit = 1, per = "1day", max_wait = "1day" }
        bulkhead = { limit = 100000, queue = 100000, max_wait = "1day" }
        retry = { retries = 100, delay = "1day", factor = 10, max_delay = "1day", requests = "all" }
    "#;
    let told = Config::from_toml(file).unwrap().explain().unwrap().to_string();
    assert!(told.contains("attempts  101") && !told.contains("inf") && !told.contains("NaN"), "{told}");
}

/// The defaults of all parts contradict each other nowhere.
#[test]
fn the_defaults_bring_notes_alone() {
    let file = "[database]\nurl = \"postgres://h\"\n[redis]\nurl = \"redis://h\"\n[cache]\n[http.a]\nbase_url = \"http://h\"";
    let told = Config::from_toml(file).unwrap().explain().unwrap();
    let graver = told.findings().iter().any(|finding| finding.severity != Severity::Note);
    assert!(!graver, "{told}");
}
