use std::time::Duration;

use super::{Finding, Layer, Repeats, Severity, Stack, worst, worst::Worst};

/// A stack and its arithmetic, as the rules see it.
pub(super) struct View<'a> {
    stack: &'a Stack,
    worst: Vec<Worst>,
    findings: Vec<Finding>,
}

impl<'a> View<'a> {
    pub(super) fn of(stack: &'a Stack) -> Self {
        Self { stack, worst: worst::of_each(&stack.layers), findings: Vec::new() }
    }

    pub(super) fn layers(&self) -> &'a [Layer] {
        &self.stack.layers
    }

    pub(super) fn repeats(&self) -> Repeats {
        self.stack.repeats
    }

    /// Their places, outermost first.
    pub(super) fn places(&self, wanted: impl Fn(&Layer) -> bool) -> Vec<usize> {
        let found = self.layers().iter().enumerate().filter(|(_, layer)| wanted(layer));
        found.map(|(place, _)| place).collect()
    }

    /// The first one inside of that place.
    pub(super) fn first_inside(&self, place: usize, wanted: impl Fn(&Layer) -> bool) -> Option<usize> {
        self.places(wanted).into_iter().find(|&other| other > place)
    }

    /// What a call does at worst from that layer inwards.
    pub(super) fn worst(&self, place: usize) -> Worst {
        self.worst[place]
    }

    pub(super) fn all_worst(&self) -> &[Worst] {
        &self.worst
    }

    /// How long what is inside of that layer takes at worst.
    pub(super) fn inside(&self, place: usize) -> Option<Duration> {
        self.worst[place + 1].longest
    }

    /// The shortest limit around that layer.
    pub(super) fn limit_around(&self, place: usize) -> Option<(usize, Duration)> {
        let limits = self.layers()[..place].iter().enumerate();
        let limits = limits.filter_map(|(place, layer)| layer.limit().map(|limit| (place, limit)));
        limits.min_by_key(|(_, limit)| *limit)
    }

    pub(super) fn find(&mut self, severity: Severity, layers: &[usize], text: String) {
        let of = |place: &usize| {
            let layer = &self.stack.layers[*place];
            (layer.kind().to_owned(), layer.name().to_owned())
        };
        let layers = layers.iter().map(of).collect();
        self.findings.push(Finding { severity, stack: self.stack.name.clone(), layers, text });
    }

    pub(super) fn into_findings(mut self) -> Vec<Finding> {
        self.findings.sort_by_key(|finding| finding.severity);
        self.findings
    }
}
