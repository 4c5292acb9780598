//! A Redis cluster: its slots are served, and masters that go are replaced.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use buttress_testkit::RedisCluster;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn ask(addr: SocketAddr, command: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.write_all(format!("{command}\r\n").as_bytes()).await?;
    let mut buffer = [0; 512];
    let length = stream.read(&mut buffer).await?;
    Ok(String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned())
}

/// Sets a key, once every replica has confirmed it.
async fn set(addr: SocketAddr, key: &str, value: &str) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(format!("SET {key} {value}\r\nWAIT 1 5000\r\n").as_bytes()).await.unwrap();
    let mut answers = [0; 9];
    stream.read_exact(&mut answers).await.unwrap();
    assert_eq!(&answers, b"+OK\r\n:1\r\n", "{}", String::from_utf8_lossy(&answers));
}

#[tokio::test]
async fn three_masters_serve_all_slots_and_redirect_what_is_not_theirs() {
    let cluster = RedisCluster::start().await;
    let addrs = cluster.addrs();
    assert_eq!((addrs.len(), cluster.pids().len()), (6, 6));
    assert!(cluster.url().starts_with(&format!("redis-cluster://{}?node={}&node=", addrs[0], addrs[1])));
    let mut masters = Vec::new();
    for number in 0..30 {
        let key = format!("key:{number}");
        let master = cluster.master_of(&key).await;
        set(master, &key, &number.to_string()).await;
        for addr in &addrs {
            let answer = ask(*addr, &format!("GET {key}")).await.unwrap();
            let expected = if *addr == master { "$" } else { "-MOVED" };
            assert!(answer.starts_with(expected), "{answer}");
        }
        masters.push(master);
    }
    masters.sort_unstable();
    masters.dedup();
    assert_eq!(masters.len(), 3, "every master has a part of thirty keys");
}

#[tokio::test]
async fn a_killed_master_is_replaced_with_its_data_and_comes_back_as_a_replica() {
    let cluster = RedisCluster::start().await;
    set(cluster.master_of("key").await, "key", "value").await;
    let killed = cluster.kill_master_of("key").await;
    assert_eq!(cluster.pids().len(), 5);
    assert!(ask(killed, "PING").await.is_err());

    let next = cluster.master_of("key").await;
    assert_ne!(next, killed);
    assert_eq!(ask(next, "GET key").await.unwrap(), "$5\r\nvalue");

    cluster.restart(killed).await;
    assert_eq!(cluster.pids().len(), 6);
    assert_eq!(cluster.master_of("key").await, next);
    assert!(ask(killed, "GET key").await.unwrap().starts_with("-MOVED"));
    assert_eq!(cluster.switch_master_of("key").await, killed, "its data came back");
    assert_eq!(ask(killed, "GET key").await.unwrap(), "$5\r\nvalue");
}

#[tokio::test]
async fn a_paused_master_is_replaced_and_gives_way_when_it_goes_on() {
    let cluster = RedisCluster::start().await;
    let paused = cluster.pause_master_of("key").await;
    let next = cluster.master_of("key").await;
    assert_ne!(next, paused);
    cluster.resume(paused);
    assert_eq!(cluster.master_of("key").await, next);
    assert!(ask(paused, "GET key").await.unwrap().starts_with("-MOVED"));
}

#[tokio::test]
async fn a_dropped_cluster_leaves_nothing() {
    let cluster = RedisCluster::start().await;
    let (pids, addrs) = (cluster.pids(), cluster.addrs());
    drop(cluster);
    for (pid, addr) in pids.iter().zip(addrs) {
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        assert!(TcpStream::connect(addr).await.is_err());
    }
}
