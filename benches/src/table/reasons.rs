use std::collections::BTreeMap;

use super::{package, read, targets::Target};

/// Why targets fall short, written by hand: REASONS.md, a heading `## group/row: metric` each.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Reasons(BTreeMap<String, String>);

impl Reasons {
    pub(super) fn read() -> Result<Self, String> {
        Self::parse(&read(&package().join("REASONS.md"))?)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut reasons = BTreeMap::new();
        for section in format!("\n{text}").split("\n## ").skip(1) {
            let (label, reason) = section.split_once('\n').unwrap_or((section, ""));
            let (label, reason) = (label.trim().to_owned(), reason.trim().to_owned());
            if reason.is_empty() {
                return Err(format!("REASONS.md: `{label}` has no text"));
            }
            if reasons.insert(label.clone(), reason).is_some() {
                return Err(format!("REASONS.md: `{label}` stands twice"));
            }
        }
        Ok(Self(reasons))
    }

    /// # Errors
    /// When a heading names no target: it would explain nothing, and nobody would see it.
    pub(super) fn belong_to(&self, targets: &[Target]) -> Result<(), String> {
        match self.0.keys().find(|label| !targets.iter().any(|target| target.label() == **label)) {
            Some(label) => Err(format!(
                "REASONS.md: there is no target `{label}`; a heading reads `group/row: metric`, or `group/row: metric of group/peer`"
            )),
            None => Ok(()),
        }
    }

    pub(super) fn of(&self, target: &Target) -> Option<&str> {
        self.0.get(&target.label()).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::targets::tests::target, *};

    #[test]
    fn each_heading_has_its_text() {
        let reasons = Reasons::parse(
            "# Reasons\n\nIntro.\n\n## a/x: scale2\n\nOne line.\n\nAnother.\n\n## a/x: x of b/y\nShort.\n",
        )
        .unwrap();
        assert_eq!(reasons.of(&target("a|x|scale2|>= 1||")), Some("One line.\n\nAnother."));
        assert_eq!(reasons.of(&target("a|x|x|<= 1|b/y|")), Some("Short."));
        assert_eq!(reasons.of(&target("a|x|allocs|<= 1||")), None);
    }

    #[test]
    fn a_mistake_is_named() {
        assert!(Reasons::parse("## a/x: scale2\n\n## b\ntext").unwrap_err().contains("a/x: scale2"));
        assert!(Reasons::parse("## a\ntext\n## a\ntext").unwrap_err().contains("twice"));
        let stray = Reasons::parse("## a/x: scale3\ntext").unwrap();
        assert!(stray.belong_to(&[target("a|x|scale2|>= 1||")]).unwrap_err().contains("a/x: scale3"));
    }

    #[test]
    fn those_that_are_checked_in_belong_to_targets() {
        Reasons::read().unwrap().belong_to(&Target::all().unwrap()).unwrap();
    }
}
