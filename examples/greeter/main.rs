//! A gRPC server and its client with layers on both sides: in one program, over a real socket.
//!
//! ```sh
//! cargo run --example greeter
//! ```
//!
//! The client's layers are in `app/client.rs`, the server's in `app/server.rs`; both say why they stand where they do.

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

mod app;

use std::{
    error::Error,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use buttress_core::Deadline;
use buttress_telemetry::Registry;
use tokio::{net::TcpListener, time::sleep};
use tonic::Status;

use self::app::{Client, Hall, Limits, Patience, Running};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let registry = Registry::new();
    let hall = Arc::new(Hall::default());
    let limits = Limits { rate: 20, ..Limits::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let server = Running::start(listener, Arc::clone(&hall), limits, &registry)?;
    let client = Client::new(server.address, Patience::default(), &registry)?;
    println!("A greeter on {}.", server.address);

    println!("\nA greeting: {}", client.greet("Ada").await?);

    hall.unavailable.store(1, Relaxed);
    let before = hall.calls.load(Relaxed);
    let text = client.greet("Grace").await?;
    println!("UNAVAILABLE at first: {text} It took {} attempts.", hall.calls.load(Relaxed) - before);

    hall.takes_millis.store(1_000, Relaxed);
    let late = Deadline::after(Duration::from_millis(300)).scope(client.greet("Edsger")).await;
    println!("A deadline of 300 ms: {}", told(late));

    hall.takes_millis.store(150, Relaxed);
    println!("A stream, which takes longer than an attempt may until it begins:");
    let mut greetings = client.greet_many("Barbara", 4).await?;
    while let Some(greeting) = greetings.message().await? {
        println!("  {}", greeting.text);
    }

    hall.takes_millis.store(0, Relaxed);
    let mut asked = 1;
    let refusal = loop {
        match client.greet("Alan").await {
            Ok(_) => asked += 1,
            Err(refusal) => break refusal,
        }
    };
    let after = refusal.metadata().get("grpc-retry-pushback-ms").and_then(|value| value.to_str().ok());
    println!("Greeting {asked} of a hurry: in {} ms at the earliest", after.unwrap_or("?"));
    println!("  {}", told(Err(refusal)));
    sleep(Duration::from_secs(1)).await;
    println!("A second later: {}", client.greet("Alan").await?);

    let stats = registry.snapshot().performance_stats();
    server.stop().await?;
    println!("\nStatistics:");
    for calls in stats.calls {
        let median = calls.p50.unwrap_or_default() * 1e3;
        println!("  {}: {} calls, half of them within {median:.1} ms", calls.name, calls.calls);
        calls.errors.iter().for_each(|error| println!("    {}: {}", error.kind, error.count));
    }
    for layer in stats.layers {
        for rejection in layer.rejections {
            println!("  {} {}: {} {}", layer.layer, layer.name, rejection.count, rejection.kind);
        }
    }
    Ok(())
}

fn told(result: Result<String, Status>) -> String {
    match result {
        Ok(text) => text,
        Err(status) => format!("{:?}: {}", status.code(), status.message()),
    }
}
