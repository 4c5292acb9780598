//! Real servers: they start, serve, die and come back.

use std::time::Duration;

use buttress_testkit::{DnsServer, Nginx, PgBouncer, PostgresServer, RedisServer, TestDatabase};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::{Client, Config, NoTls};

async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn number(client: &Client, query: &str) -> i64 {
    client.query_one(query, &[]).await.unwrap().get(0)
}

async fn redis<S>(stream: &mut S, command: &str) -> std::io::Result<String>
where
    S: AsyncReadExt + AsyncWriteExt + Unpin,
{
    stream.write_all(format!("{command}\r\n").as_bytes()).await?;
    let mut buffer = [0; 512];
    match stream.read(&mut buffer).await? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        n => Ok(String::from_utf8_lossy(&buffer[..n]).into_owned()),
    }
}

#[tokio::test]
async fn each_test_gets_an_empty_database_of_its_own() {
    let (a, b) = (TestDatabase::new().await, TestDatabase::new().await);
    assert_ne!(a.name(), b.name());
    connect(&a.config()).await.batch_execute("CREATE TABLE only_in_a (id int)").await.unwrap();
    let here = "SELECT count(*) FROM pg_tables WHERE tablename = 'only_in_a'";
    assert_eq!(number(&connect(&a.config()).await, here).await, 1);
    assert_eq!(number(&connect(&b.config()).await, here).await, 0);
}

#[tokio::test]
async fn url_and_config_lead_to_the_same_database() {
    let database = TestDatabase::new().await;
    connect(&database.config()).await.batch_execute("CREATE TABLE t AS SELECT 7::int8 AS n").await.unwrap();
    let over_tcp: Config = database.url().parse().unwrap();
    assert_eq!(number(&connect(&over_tcp).await, "SELECT n FROM t").await, 7);
}

#[tokio::test]
async fn a_dropped_database_goes_although_it_is_in_use() {
    let database = TestDatabase::new().await;
    let name = database.name().to_owned();
    let observer = TestDatabase::new().await;
    let observer = connect(&observer.config()).await;
    let _still_open = connect(&database.config()).await;
    drop(database);
    let left = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    tokio::time::timeout(Duration::from_secs(10), async {
        while number(&observer, &left).await != 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the database is removed");
}

#[tokio::test]
async fn databases_outlive_the_runtime_that_was_first() {
    let other_test = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let database = TestDatabase::new().await;
            number(&connect(&database.config()).await, "SELECT 1::int8").await
        })
    };
    for _ in 0..2 {
        assert_eq!(tokio::task::spawn_blocking(other_test).await.unwrap(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_paused_clock_stands_still_while_a_server_starts() {
    let started = tokio::time::timeout(Duration::from_millis(1), RedisServer::start()).await;
    assert!(started.is_ok());
}

#[tokio::test]
async fn postgres_killed_in_mid_query_keeps_what_was_committed() {
    let server = PostgresServer::start().await;
    let port = server.port();
    let config: Config = server.url().parse().unwrap();
    let client = connect(&config).await;
    client.batch_execute("CREATE TABLE kept (id int); INSERT INTO kept VALUES (1)").await.unwrap();

    let query = tokio::spawn(async move { client.batch_execute("SELECT pg_sleep(60)").await });
    let observer = connect(&config).await;
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    while number(&observer, asleep).await == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    server.kill().await;

    let error = query.await.unwrap().expect_err("the query is lost");
    assert!(error.code().is_none(), "the server said goodbye: {error}");
    assert!(config.connect(NoTls).await.is_err());
    assert!(server.config().connect(NoTls).await.is_err());
    assert_eq!(server.pid(), None);
    server.kill().await;

    server.restart().await;
    assert_eq!(server.port(), port);
    assert_eq!(number(&connect(&config).await, "SELECT count(*) FROM kept").await, 1);
    assert_eq!(number(&connect(&server.config()).await, "SELECT count(*) FROM kept").await, 1);
}

#[tokio::test]
async fn postgres_stopped_says_goodbye() {
    let server = PostgresServer::start().await;
    let client = connect(&server.config()).await;
    let query = tokio::spawn(async move { client.batch_execute("SELECT pg_sleep(60)").await });
    let observer = connect(&server.config()).await;
    while number(&observer, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'").await == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    server.stop().await;
    let error = query.await.unwrap().expect_err("the query is lost");
    assert_eq!(error.code().map(|code| code.code()), Some("57P01"));
    // A restart of one that runs goes through the same door.
    server.restart().await;
    server.restart().await;
    assert_eq!(number(&connect(&server.config()).await, "SELECT 1::int8").await, 1);
}

#[tokio::test]
async fn a_dropped_postgres_leaves_nothing() {
    let server = PostgresServer::start().await;
    let (dir, pid) = (server.unix_dir().to_owned(), server.pid().unwrap());
    let config = server.config();
    drop(server);
    assert!(!dir.exists());
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert!(config.connect(NoTls).await.is_err());
}

#[tokio::test]
async fn a_killed_postgres_leaves_no_shared_memory() {
    let server = PostgresServer::start().await;
    let file = std::fs::read_to_string(server.unix_dir().join("data/postmaster.pid")).unwrap();
    let segment = file.lines().nth(6).unwrap().split_whitespace().nth(1).unwrap().to_owned();
    let exists = || {
        let list = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
        list.lines().any(|line| line.split_whitespace().nth(1) == Some(&segment))
    };
    assert!(exists());
    server.kill().await;
    drop(server);
    assert!(!exists());
}

#[tokio::test]
async fn a_paused_postgres_hangs_until_it_resumes_and_leaves_nothing() {
    let server = PostgresServer::start().await;
    let (dir, pid) = (server.unix_dir().to_owned(), server.pid().unwrap());
    let client = connect(&server.config()).await;
    assert_eq!(number(&client, "SELECT 1::bigint").await, 1);
    server.pause();
    let mut answer = tokio::spawn(async move { number(&client, "SELECT 2::bigint").await });
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut answer).await.is_err());
    let mut newcomer = tokio::spawn({
        let config = server.config();
        async move { number(&connect(&config).await, "SELECT 3::bigint").await }
    });
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut newcomer).await.is_err());
    server.resume();
    assert_eq!((answer.await.unwrap(), newcomer.await.unwrap()), (2, 3));
    server.pause();
    server.restart().await;
    server.pause();
    drop(server);
    assert!(!dir.exists());
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[tokio::test]
async fn redis_serves_dies_and_restarts_in_place() {
    let server = RedisServer::start().await;
    assert_eq!(server.url(), format!("redis://127.0.0.1:{}", server.port()));
    let mut tcp = TcpStream::connect(server.addr()).await.unwrap();
    let mut unix = UnixStream::connect(server.unix_path()).await.unwrap();
    assert_eq!(redis(&mut tcp, "SET key value").await.unwrap(), "+OK\r\n");
    assert_eq!(redis(&mut unix, "GET key").await.unwrap(), "$5\r\nvalue\r\n");

    server.kill().await;
    assert_eq!(server.pid(), None);
    assert!(redis(&mut tcp, "PING").await.is_err());
    let refused = TcpStream::connect(server.addr()).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

    server.restart().await;
    let mut tcp = TcpStream::connect(server.addr()).await.unwrap();
    let mut unix = UnixStream::connect(server.unix_path()).await.unwrap();
    assert_eq!(redis(&mut tcp, "PING").await.unwrap(), "+PONG\r\n");
    assert_eq!(redis(&mut unix, "GET key").await.unwrap(), "$-1\r\n");
}

#[tokio::test]
async fn a_paused_redis_hangs_until_it_resumes() {
    let server = RedisServer::start().await;
    let mut client = TcpStream::connect(server.addr()).await.unwrap();
    assert_eq!(redis(&mut client, "PING").await.unwrap(), "+PONG\r\n");
    server.pause();
    let mut answer = tokio::spawn(async move { redis(&mut client, "PING").await.unwrap() });
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut answer).await.is_err());
    server.resume();
    assert_eq!(answer.await.unwrap(), "+PONG\r\n");
}

#[tokio::test]
async fn a_dropped_redis_leaves_nothing_even_when_paused() {
    let server = RedisServer::start().await;
    let (dir, pid) = (server.unix_path().parent().unwrap().to_owned(), server.pid().unwrap());
    server.pause();
    drop(server);
    assert!(!dir.exists());
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[tokio::test]
async fn a_server_takes_settings_and_files_of_the_tests_own() {
    let access = "local all all trust\nhost all all 127.0.0.1/32 reject\n";
    let server = PostgresServer::start_with(&["work_mem=7MB"], &[("pg_hba.conf", access)]).await;
    let client = connect(&server.config()).await;
    let row = client.query_one("SELECT current_setting('work_mem')", &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "7MB");
    let over_tcp: Config = server.url().parse().unwrap();
    let error = over_tcp.connect(NoTls).await.err().expect("it is rejected");
    assert_eq!(error.code().unwrap().code(), "28000");
}

#[tokio::test]
async fn a_pooler_gives_transactions_one_connection_and_leaves_nothing() {
    let database = TestDatabase::new().await;
    let bouncer = PgBouncer::start(database.addr(), 1).await;
    let config: Config = bouncer.url_of(database.name()).parse().unwrap();
    let (a, b) = (connect(&config).await, connect(&config).await);
    let pid = async |client: &Client| -> i32 {
        client.query_typed("SELECT pg_backend_pid()", &[]).await.unwrap()[0].get(0)
    };
    assert_eq!(pid(&a).await, pid(&b).await);
    a.batch_execute("BEGIN").await.unwrap();
    let waits = tokio::time::timeout(Duration::from_millis(200), pid(&b)).await;
    assert!(waits.is_err(), "the only connection is taken");
    a.batch_execute("COMMIT").await.unwrap();
    pid(&b).await;
    drop(bouncer);
    assert!(TcpStream::connect(("127.0.0.1", config.get_ports()[0])).await.is_err());
}

#[tokio::test]
async fn nginx_serves_directives_and_files_survives_a_reload_and_leaves_nothing() {
    let nginx = Nginx::start("location = /here { return 200 'directive'; }").await;
    std::fs::write(nginx.dir().join("file"), "of the folder").unwrap();
    let get = async |path: &str| {
        let mut stream = TcpStream::connect(nginx.addr()).await?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map(|_| answer)
    };
    assert!(get("/here").await.unwrap().ends_with("directive"));
    nginx.reload();
    assert!(get("/file").await.unwrap().ends_with("of the folder"));
    let (addr, dir) = (nginx.addr(), nginx.dir().to_owned());
    drop(nginx);
    assert!(TcpStream::connect(addr).await.is_err());
    assert!(!dir.exists());
}

/// What a question for addresses (A) of `stock.test` is answered: the code (3: there is no such name), the TTL and the last
/// byte of each address.
async fn stock(server: std::net::SocketAddr) -> std::io::Result<(u8, Vec<(u32, u8)>)> {
    let question = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x05stock\x04test\0\0\x01\0\x01";
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut answer = [0; 512];
    let length = tokio::time::timeout(Duration::from_secs(5), socket.recv(&mut answer)).await??;
    // Name (2 bytes), type, class, TTL, length, address.
    let records = answer[question.len()..length].chunks_exact(16);
    let mut records: Vec<_> = records
        .map(|record| (u32::from_be_bytes([record[6], record[7], record[8], record[9]]), record[15]))
        .collect();
    records.sort_unstable();
    Ok((answer[3] & 0xf, records))
}

#[tokio::test]
async fn a_dns_server_answers_what_it_was_told_last() {
    let server = DnsServer::start(7).await;
    assert_eq!(stock(server.addr()).await.unwrap(), (3, vec![]));
    server.set("other.test", &["127.0.0.9".parse().unwrap()]).await;
    server.set("stock.test", &["127.0.0.1".parse().unwrap(), "127.0.0.2".parse().unwrap()]).await;
    assert_eq!(stock(server.addr()).await.unwrap(), (0, vec![(7, 1), (7, 2)]));
    server.set("stock.test", &["127.0.0.3".parse().unwrap()]).await;
    assert_eq!(stock(server.addr()).await.unwrap(), (0, vec![(7, 3)]));
    server.kill().await;
    assert!(stock(server.addr()).await.is_err());
    server.set("stock.test", &["127.0.0.4".parse().unwrap()]).await;
    server.restart().await;
    assert_eq!(stock(server.addr()).await.unwrap(), (0, vec![(7, 4)]));
    server.set("stock.test", &[]).await;
    assert_eq!(stock(server.addr()).await.unwrap().0, 3);
}
