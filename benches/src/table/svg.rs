//! Bar charts, drawn by hand: some rectangles and words.

/// A chart: panels below each other, each with a scale of its own.
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    pub(super) note: &'a str,
    pub(super) panels: Vec<Panel>,
}

pub(super) struct Panel {
    pub(super) title: String,
    pub(super) bars: Vec<Bar>,
}

pub(super) struct Bar {
    pub(super) label: String,
    pub(super) nanos: f64,
    pub(super) is_ours: bool,
}

const WIDTH: u32 = 760;
const LABELS: u32 = 250;
/// The longest bar, with room for its figure behind it.
const LONGEST: u32 = 400;
const BAR: u32 = 16;
const STEP: u32 = 21;
const HEADING: u32 = 30;

/// A README is shown on white and on near-black, and a picture in it does not know which. These are told from both.
const TEXT: &str = "#76797d";
const OURS: &str = "#2474d6";
const THEIRS: &str = "#8b8680";

pub(super) fn draw(chart: &Chart<'_>) -> String {
    let mut body = String::new();
    let mut y = 24;
    body += &words(0, y, 16, "bold", chart.title);
    y += 18;
    body += &words(0, y, 12, "normal", chart.note);
    for panel in &chart.panels {
        y += HEADING;
        body += &words(0, y, 13, "bold", &panel.title);
        y += 8;
        let longest = panel.bars.iter().map(|bar| bar.nanos).fold(f64::MIN_POSITIVE, f64::max);
        for bar in &panel.bars {
            let width = (bar.nanos / longest * f64::from(LONGEST)).max(1.0);
            let fill = if bar.is_ours { OURS } else { THEIRS };
            body += &words(12, y + 13, 12, if bar.is_ours { "bold" } else { "normal" }, &bar.label);
            body += &format!(
                "<rect x=\"{LABELS}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\" fill=\"{fill}\"/>\n"
            );
            body += &words(LABELS + width.ceil() as u32 + 6, y + 13, 12, "normal", &duration(bar.nanos));
            y += STEP;
        }
    }
    let height = y + 12;
    let title = escaped(chart.title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         role=\"img\" font-family=\"system-ui, sans-serif\" fill=\"{TEXT}\">\n<title>{title}</title>\n{body}</svg>\n"
    )
}

fn words(x: u32, y: u32, size: u32, weight: &str, text: &str) -> String {
    format!(
        "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" font-weight=\"{weight}\">{}</text>\n",
        escaped(text)
    )
}

/// Text in an element or an attribute. What XML cannot hold at all is left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\u{fffe}' | '\u{ffff}' => {}
            _ if character.is_control() => out.push(' '),
            _ => out.push(character),
        }
    }
    out
}

fn duration(nanos: f64) -> String {
    match nanos {
        ..10.0 => format!("{nanos:.1} ns"),
        ..1_000.0 => format!("{nanos:.0} ns"),
        ..10_000.0 => format!("{:.1} µs", nanos / 1e3),
        ..1_000_000.0 => format!("{:.0} µs", nanos / 1e3),
        _ => format!("{:.1} ms", nanos / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(label: &str, nanos: f64, is_ours: bool) -> Bar {
        Bar { label: label.into(), nanos, is_ours }
    }

    #[test]
    fn the_longest_bar_has_the_whole_width_and_the_others_their_share() {
        let bars = vec![bar("buttress", 50.0, true), bar("peer", 200.0, false)];
        let chart = Chart { title: "Calls", note: "", panels: vec![Panel { title: "breaker".into(), bars }] };
        let drawn = draw(&chart);
        assert!(
            drawn.contains(&format!("width=\"100.0\" height=\"16\" rx=\"2\" fill=\"{OURS}\"")),
            "{drawn}"
        );
        assert!(
            drawn.contains(&format!("width=\"400.0\" height=\"16\" rx=\"2\" fill=\"{THEIRS}\"")),
            "{drawn}"
        );
        assert!(drawn.contains(">50 ns</text>") && drawn.contains(">200 ns</text>"), "{drawn}");
        assert_eq!(drawn.matches("<text").count(), drawn.matches("</text>").count());
    }

    #[test]
    fn text_is_escaped() {
        let bars = vec![bar("a<b>&\"'\u{0}", 1.0, false)];
        let chart = Chart { title: "x < y", note: "", panels: vec![Panel { title: "&".into(), bars }] };
        let drawn = draw(&chart);
        assert!(drawn.contains(">a&lt;b&gt;&amp;&quot;&#39; </text>"), "{drawn}");
        assert!(drawn.contains("<title>x &lt; y</title>") && drawn.contains(">&amp;</text>"), "{drawn}");
    }

    #[test]
    fn times_have_their_unit() {
        let shown = [5.26, 961.4, 4_321.0, 12_345.0, 2_500_000.0].map(duration);
        assert_eq!(shown, ["5.3 ns", "961 ns", "4.3 µs", "12 µs", "2.5 ms"]);
    }

    /// As WCAG reckons it, of 1 to 21.
    fn contrast(one: &str, other: &str) -> f64 {
        let luminance = |colour: &str| {
            let part = |at: usize| {
                let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
                if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
            };
            0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5) + 0.05
        };
        let (one, other) = (luminance(one), luminance(other));
        f64::max(one, other) / f64::min(one, other)
    }

    #[test]
    fn every_colour_is_seen_on_light_and_dark() {
        for background in ["#ffffff", "#0d1117"] {
            assert!(contrast(TEXT, background) >= 4.0, "{background} {}", contrast(TEXT, background));
            for fill in [OURS, THEIRS] {
                assert!(
                    contrast(fill, background) >= 3.0,
                    "{fill} {background} {}",
                    contrast(fill, background)
                );
            }
        }
    }
}
