//! The table as the terminal shows it.

use super::{
    layout::{Layout, layout},
    reasons::Reasons,
    record::Measured,
    targets::{Judged, Target},
};

pub(super) fn table(measured: &Measured, targets: &[Target]) -> String {
    let mut out = String::new();
    for (group, rows) in measured.groups() {
        let Layout { headings, lines } = layout(&rows, measured, targets);
        let cells = headings.iter().map(|heading| format!("{heading:>11}")).collect::<String>();
        out += &format!("\n{group:<42}{cells}\n");
        for line in lines {
            let cells = line.cells.iter().map(|cell| format!("{cell:>11}")).collect::<String>();
            out += format!("{:<42}{cells}   {}", line.name, line.beside).trim_end();
            out.push('\n');
        }
    }
    out
}

pub(super) fn verdicts(judged: &[Judged<'_>], reasons: &Reasons) -> String {
    let mut out = format!("\n{}\n", held(judged));
    for Judged { target, value, .. } in judged.iter().filter(|judged| !judged.holds) {
        let is_unexplained = value.is_some() && reasons.of(target).is_none();
        let value = value.map_or_else(|| "not measured".into(), |value| format!("{value:.3}"));
        let reason = if is_unexplained { "; REASONS.md does not say why" } else { "" };
        out += &format!("  short: {} {value}, {}{reason}\n", target.label(), target.bound());
    }
    for judged in judged.iter().filter(|judged| judged.holds && reasons.of(judged.target).is_some()) {
        out += &format!("  holds, and yet REASONS.md excuses it: {}\n", judged.target.label());
    }
    out
}

pub(super) fn held(judged: &[Judged<'_>]) -> String {
    format!("{} of {} targets hold", judged.iter().filter(|judged| judged.holds).count(), judged.len())
}

#[cfg(test)]
mod tests {
    use super::{
        super::{record::tests::measured, targets::tests::target},
        *,
    };

    #[test]
    fn each_row_stands_beside_its_peers() {
        let all = measured(&[("g/buttress x", "ns", 5.0), ("g/other x", "ns", 10.0)]);
        let shown = table(&all, &[]);
        let lines: Vec<&str> = shown.lines().skip(1).collect();
        assert!(lines[0].starts_with("g  ") && lines[0].ends_with("  ns"), "{shown}");
        assert!(lines[1].ends_with("5.00   0.50 of other x"), "{shown}");
        assert!(lines[2].ends_with("10.0"), "{shown}");
    }

    #[test]
    fn what_falls_short_without_a_reason_is_said() {
        let all = measured(&[("a/x", "scale2", 0.5), ("a/x", "allocs", 0.0)]);
        let targets = [target("a|x|scale2|>= 1||"), target("a|x|allocs|<= 0||"), target("a|y|allocs|<= 0||")];
        let judged: Vec<_> = targets.iter().map(|target| target.judge(&all)).collect();
        let said = verdicts(&judged, &Reasons::default());
        assert!(said.starts_with("\n1 of 3 targets hold\n"), "{said}");
        assert!(said.contains("short: a/x: scale2 0.500, at least 1; REASONS.md does not say why"), "{said}");
        assert!(said.contains("short: a/y: allocs not measured, at most 0\n"), "{said}");
    }
}
