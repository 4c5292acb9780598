//! What a server could send at the worst.

use serde_json::{Value, json};

/// A frame in which everything that can be named bears these names.
pub(crate) fn frame_of(names: &[&'static str]) -> Value {
    let latency = json!({ "count": 3, "mean": 0.1, "p50": 0.1, "p95": 0.2, "p99": 0.3, "max": 0.4 });
    let operation = |name: &str| {
        json!({ "operation": name, "success": 3, "failure": 2, "ignored": 0, "throttled": 0, "rejected": 1, "cancelled": 0,
                "panicked": 0, "errors": [{ "kind": name, "count": 2 }], "latency": latency })
    };
    let operations: Vec<_> = names.iter().map(|name| operation(name)).collect();
    let calls: Vec<_> = names
        .iter()
        .map(|name| json!({ "name": name, "in_flight": 1, "total": operation(name), "operations": operations }))
        .collect();
    let slow: Vec<_> = names
        .iter()
        .map(|name| {
            let decision = json!({ "after_seconds": 0.1, "layer": name, "name": name, "what": name, "why": name });
            json!({ "at": 1, "name": name, "operation": name, "seconds": 1.5, "end": name, "error": name, "trace_id": name,
                    "decisions": [decision] })
        })
        .collect();
    let layers: Vec<_> = names
        .iter()
        .map(|name| {
            let figure = json!({ "name": name, "label": [name, name], "kind": "gauge", "unit": name, "value": null });
            let setting = json!({ "name": name, "value": { "word": name } });
            json!({ "layer": name, "name": name, "figures": [figure], "settings": [setting], "actions": [name] })
        })
        .collect();
    let process = json!({ "memory_bytes": 1e18, "cpu_seconds": null, "threads": null, "open_files": null });
    let now = json!({ "at": 1, "seconds": 1e9, "stacks": [{ "name": names[0], "layers": [0, 99] }], "layers": layers,
                      "calls": calls, "slow_calls": 1e15, "process": process });
    json!({ "now": now, "since": null, "recent": null, "slow_calls": slow, "alerts": "none", "every": 30, "control": true })
}
