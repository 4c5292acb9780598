//! An explanation as a page of text.

use std::{fmt, time::Duration};

use buttress_core::{Setting, SettingValue};

use super::{
    Explanation, Severity,
    explanation::{ExplainedLayer, ExplainedStack, Load},
    layer::{Escaped, Quoted},
    worst::time,
};

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for stack in self.stacks() {
            writeln!(f, "{stack}")?;
        }
        let count = |severity| self.findings().iter().filter(|finding| finding.severity == severity).count();
        let [errors, warnings, notes] = [Severity::Error, Severity::Warning, Severity::Note].map(count);
        write!(f, "findings: {}, ", plural(errors as u64, "error"))?;
        write!(f, "{}, {}", plural(warnings as u64, "warning"), plural(notes as u64, "note"))?;
        self.findings().iter().try_for_each(|finding| write!(f, "\n  {finding}"))
    }
}

impl fmt::Display for ExplainedStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "stack {}, outermost first, with the longest time from each layer inwards",
            Quoted(&self.name)
        )?;
        let names: Vec<String> = self.layers.iter().map(|layer| layer.layer.to_string()).collect();
        let times: Vec<String> = self.layers.iter().map(|layer| until(layer.longest)).collect();
        let width = |texts: &[String]| texts.iter().map(|text| text.chars().count()).max().unwrap_or(0);
        let (name_width, time_width) = (width(&names), width(&times));
        for ((layer, name), time) in self.layers.iter().zip(names).zip(times) {
            let line = format!("  {name:<name_width$}  {time:>time_width$}  {}", settings(layer));
            writeln!(f, "{}", line.trim_end())?;
        }
        writeln!(f, "at worst")?;
        writeln!(f, "  attempts  {}", self.attempts_of())?;
        writeln!(f, "  latency   {}", self.latency_of())?;
        writeln!(f, "  load      {}", self.load.to_text(&self.layers))?;
        writeln!(f, "  waits     {}", self.waits_of())?;
        writeln!(f, "  bounds    {}", self.bounds_of())
    }
}

impl ExplainedStack {
    /// `6 = 3 of retry x 2 of hedge`
    fn attempts_of(&self) -> String {
        let layers = self.layers.iter();
        let inner = layers.clone().skip(1).map(|layer| layer.attempts).chain([1]);
        let factors = layers.zip(inner).filter(|(layer, inner)| layer.attempts != *inner);
        let factors: Vec<String> = factors
            .map(|(layer, inner)| format!("{} by {}", layer.attempts / inner.max(1), layer.layer))
            .collect();
        if factors.is_empty() {
            "1".to_owned()
        } else {
            format!("{} = {}", self.attempts, factors.join(" x "))
        }
    }

    fn latency_of(&self) -> String {
        let Some(longest) = self.longest else { return "nothing in the stack ends a call".to_owned() };
        // The limit that cuts it off, and what it would be without.
        let mut limits =
            self.layers.iter().enumerate().filter(|(_, layer)| layer.layer.limit() == Some(longest));
        match limits.next_back() {
            Some((place, limit)) => {
                let inside = self.layers.get(place + 1).and_then(|layer| layer.longest);
                let without = match inside {
                    Some(inside) if inside > longest => format!("; {} without it", time(inside)),
                    Some(_) => return time(longest).to_string(),
                    None => "; without end otherwise".to_owned(),
                };
                format!("{}, where {} ends it{without}", time(longest), limit.layer)
            }
            None => time(longest).to_string(),
        }
    }

    fn waits_of(&self) -> String {
        let waits = self.waits.iter();
        let waits = waits.map(|wait| format!("{} in {}", time(wait.longest), self.layers[wait.place].layer));
        list(waits.collect(), "none that is told")
    }

    fn bounds_of(&self) -> String {
        let mut texts: Vec<String> = Vec::new();
        let mut last = None;
        for bound in &self.bounds {
            let most = bound.most.map_or("any number of".to_owned(), |most| most.to_string());
            match texts.last_mut().filter(|_| last == Some(bound.place)) {
                Some(text) => *text += &format!(", {most} {}", bound.what),
                None => texts.push(format!("{}: {most} {}", self.layers[bound.place].layer, bound.what)),
            }
            last = Some(bound.place);
        }
        if texts.is_empty() { "none that is told".to_owned() } else { texts.join("\n            ") }
    }
}

impl Load {
    fn to_text(&self, layers: &[ExplainedLayer]) -> String {
        let mut text = if self.worst == 1 {
            "1 attempt a call".to_owned()
        } else {
            format!("{} attempts a call", self.worst)
        };
        #[expect(clippy::cast_precision_loss, reason = "they are compared to be shown")]
        if self.long_run < self.worst as f64 {
            text += &format!("; in the long run {}", short(self.long_run));
            if self.floor > 0.0 {
                text += &format!(", and {} a second", short(self.floor));
            }
        }
        for rate in &self.rates {
            let name = &layers[rate.place].layer;
            text += &format!("; {} in {} by {name}", plural(rate.calls, "call"), time(rate.per));
            if rate.attempts > rate.calls {
                text += &format!(", which are {} attempts", rate.attempts);
            }
        }
        text
    }
}

fn list(texts: Vec<String>, none: &str) -> String {
    if texts.is_empty() { none.to_owned() } else { texts.join("; ") }
}

fn plural(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn until(longest: Option<Duration>) -> String {
    longest.map_or("no end".to_owned(), |longest| time(longest).to_string())
}

/// Two digits, and no zeros at the end.
fn short(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What matters of a known kind, and all of an unknown one; nothing that is off.
fn settings(layer: &ExplainedLayer) -> String {
    let layer = &layer.layer;
    let key: &[&str] = match layer.kind() {
        "telemetry" => &["slow_after", "slow_over_p99"],
        "timeout" => &["limit"],
        "api-client" => &["timeout", "redirects"],
        "rate-limit" => &["limit", "per", "limit_2", "per_2", "algorithm", "wait", "max_wait"],
        "retry" => &["retries", "backoff_first", "backoff_cap", "backoff_factor", "budget_ratio"],
        "hedge" => &["attempts", "delay", "percentile", "delay_min", "delay_max", "budget_ratio"],
        "circuit-breaker" => &["consecutive", "failure_rate", "window", "min_calls", "slow_rate", "open_for"],
        "bulkhead" => &["limit", "algorithm", "limit_min", "limit_max", "queue_capacity", "max_wait"],
        "cache" => &["ttl", "stale_while_revalidate", "stale_if_error", "max_weight"],
        "http-cache" => &["kind", "max_weight", "stale_if_error"],
        "batch" => &["max_size", "in_flight", "linger", "max_waiting", "bisect"],
        "balance" => &["first_wait", "ejection_consecutive_failures", "ejection_time", "max_endpoints"],
        "http" => {
            &["connect_timeout", "first_byte_timeout", "max_connections_per_host", "max_waiting", "http2"]
        }
        "postgres" => &["pool_size", "max_overflow", "wait_timeout", "connect_timeout"],
        "redis" => &["command_timeout", "pool_size", "max_queued"],
        _ => &[],
    };
    let told = layer.settings().iter();
    let told = told.filter(|told| key.is_empty() || key.contains(&told.name));
    let told = told.filter_map(|Setting { name, value, .. }| {
        let value = match value {
            SettingValue::Count(count) => count.to_string(),
            SettingValue::Ratio(ratio) => short(*ratio),
            SettingValue::Duration(duration) => time(*duration).to_string(),
            SettingValue::Word(word) => Escaped(word).to_string(),
            _ => return None,
        };
        Some(format!("{name} {value}"))
    });
    told.collect::<Vec<_>>().join(", ")
}
