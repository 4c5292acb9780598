//! RESULTS.md.

use super::{
    about::About,
    chart,
    layout::{Layout, layout},
    reasons::Reasons,
    record::Measured,
    targets::{Judged, Target},
    text::held,
};

const REPEAT: &str = "\
```sh
cargo xtask setup                                                            # the servers, and valgrind
cargo bench -p buttress-benches                                              # everything; writes this file and its charts
cargo bench -p buttress-benches -- --json target/rows.json                   # and a file for scripts
cargo bench -p buttress-benches -- --filter \"breaker/buttress count closed\"  # a single row, printed only
cargo bench -p buttress-benches -- --filter breaker --quick                  # a group beside its peers, in a minute
cargo bench -p buttress-benches --bench calls -- --filter breaker            # its times and allocations alone
```
";

const LEGEND: &str = "\
`ns`: wall time of a call (of an item, in the groups on real servers), the median. `x bare`: the same over a call of the service \
without any layer. `instr.`: instructions of a call, counted by callgrind. `allocs`, `bytes`: heap allocations of a call. `scale2`: \
throughput of two threads over that of one; 2 is perfect. `B/key`: what the heap holds for a key. `p99 us`: of all calls, in \
microseconds. `beside`: our `ns` over the peer's; below 1 ours is faster. [README.md](README.md) says how each is measured.
";

pub(super) fn results(
    about: &About,
    measured: &Measured,
    targets: &[Target],
    judged: &[Judged<'_>],
    reasons: &Reasons,
) -> String {
    let mut out = String::from(
        "# What a call costs\n\nOur layers and adapters beside their peers, measured in one run. \
         `cargo bench -p buttress-benches` writes this file: what is changed by hand is lost.\n\n",
    );
    out += &machine(about);
    out += &format!("\n## To repeat it\n\n{REPEAT}\nMeasure on a machine that does nothing else.\n");
    for (file, alt) in chart::FILES {
        out += &format!("\n![{}](svg/{file})\n", escaped(alt));
    }
    out += &format!("\n## Targets\n\n{}. The bounds are in [targets.tsv](targets.tsv).\n\n", held(judged));
    out += "| row | what | bound | measured | | note |\n|---|---|---|---:|---|---|\n";
    for Judged { target, value, holds } in judged {
        let value = value.map_or_else(|| "not measured".into(), |value| format!("{value:.3}"));
        let verdict = if *holds { "holds" } else { "**short**" };
        let fields = [&target.row, &target.measure(), &target.bound(), &value].map(|field| escaped(field));
        out += &format!("| {} | {verdict} | {} |\n", fields.join(" | "), escaped(&target.why));
    }
    out += &shortfalls(judged, reasons);
    out += &format!("\n## Every row\n\n{LEGEND}");
    for (group, rows) in measured.groups() {
        let Layout { headings, lines } = layout(&rows, measured, targets);
        let beside = lines.iter().any(|line| !line.beside.is_empty());
        let last = if beside { " beside |" } else { "" };
        let rule = if beside { "---|" } else { "" };
        out += &format!(
            "\n### {}\n\n| row | {} |{last}\n|---|{}{rule}\n",
            escaped(group),
            headings.join(" | "),
            "---:|".repeat(headings.len())
        );
        for line in lines {
            let last = if beside { format!(" {} |", escaped(&line.beside)) } else { String::new() };
            out += &format!("| {} | {} |{last}\n", escaped(line.name), line.cells.join(" | "));
        }
    }
    out
}

fn machine(about: &About) -> String {
    let mut out = String::new();
    if about.quick {
        out += "**These are the figures of a quick run: a few slices a row. Take none of them for granted.**\n\n";
    }
    let cores = if about.cores == 1 { "1 core".into() } else { format!("{} cores", about.cores) };
    out += "| | |\n|---|---|\n";
    for (what, value) in [
        ("date", &about.date),
        ("processor", &format!("{}, {cores}", about.cpu)),
        ("memory", &format!("{} GiB", about.memory_gib)),
        ("a cache line from one core to the other", &format!("{:.0} ns", about.hand_over_nanos)),
        ("kernel", &format!("Linux {}", about.kernel)),
        ("compiler", &about.rustc),
        ("servers", &[&*about.postgres, &about.redis, &about.nginx].join("; ")),
        (
            "crates",
            &about
                .peers
                .iter()
                .map(|(peer, version)| format!("{peer} {version}"))
                .collect::<Vec<_>>()
                .join(", "),
        ),
    ] {
        out += &format!("| {what} | {} |\n", escaped(value));
    }
    out
}

fn shortfalls(judged: &[Judged<'_>], reasons: &Reasons) -> String {
    let mut out = String::new();
    for Judged { target, value, .. } in judged.iter().filter(|judged| !judged.holds) {
        let value = value.map_or_else(|| "Not measured".into(), |value| format!("Measured: {value:.3}"));
        let reason = reasons.of(target).unwrap_or("**It falls short, and nobody has said why.**");
        out += &format!(
            "\n### {}\n\n{value}, wanted {}.\n\n{reason}\n",
            escaped(&target.label()),
            target.bound()
        );
    }
    if out.is_empty() { out } else { format!("\n## What falls short, and why\n{out}") }
}

/// Plain text in a table's cell or a heading.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' | '|' | '<' | '>' | '*' | '_' | '`' | '[' | ']' | '#' => out.extend(['\\', character]),
            '\n' | '\r' => out.push(' '),
            _ => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{
        super::{record::tests::measured, targets::tests::target},
        *,
    };

    fn written(reasons: &Reasons) -> String {
        let all =
            measured(&[("a|b/buttress x", "ns", 5.0), ("a|b/other x", "ns", 10.0), ("c/y", "allocs", 2.0)]);
        let targets = [target("c|y|allocs|<= 1||")];
        let judged: Vec<_> = targets.iter().map(|target| target.judge(&all)).collect();
        let about = About { cpu: "CPU | <b>".into(), cores: 2, quick: true, ..About::default() };
        results(&about, &all, &targets, &judged, reasons)
    }

    #[test]
    fn it_holds_machine_targets_reasons_and_every_group() {
        let text = written(&Reasons::default());
        for expected in [
            "CPU \\| \\<b\\>, 2 cores",
            "quick run",
            "0 of 1 targets hold",
            "| c/y | allocs | at most 1 | 2.000 | **short** |",
            "### c/y: allocs\n\nMeasured: 2.000, wanted at most 1.\n\n**It falls short, and nobody has said why.**",
            "### a\\|b\n\n| row | ns | beside |\n|---|---:|---|\n| buttress x | 5.00 | 0.50 of other x |",
            "### c\n\n| row | allocs |\n|---|---:|\n| y | 2.00 |\n",
        ] {
            assert!(text.contains(expected), "{expected}\n---\n{text}");
        }
    }

    #[test]
    fn markup_in_a_name_stays_text() {
        assert_eq!(escaped("a|b *c* <i>\nd"), "a\\|b \\*c\\* \\<i\\> d");
    }
}
