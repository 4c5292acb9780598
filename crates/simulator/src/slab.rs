/// Values with small numbers as names. A number is given again when its value is gone, so memory is bounded by how many
/// there were at one time.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub(crate) fn insert(&mut self, value: T) -> usize {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(value);
        slot
    }

    pub(crate) fn get_mut(&mut self, slot: usize) -> Option<&mut T> {
        self.slots.get_mut(slot)?.as_mut()
    }

    pub(crate) fn remove(&mut self, slot: usize) -> Option<T> {
        let value = self.slots.get_mut(slot)?.take();
        if value.is_some() {
            self.free.push(slot);
        }
        value
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The numbers of all values there are, in ascending order.
    pub(crate) fn occupied(&self) -> impl Iterator<Item = usize> + '_ {
        self.slots.iter().enumerate().filter_map(|(slot, value)| value.is_some().then_some(slot))
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_numbers_again() {
        let mut slab = Slab::default();
        for round in 0..100 {
            let (a, b) = (slab.insert(round), slab.insert(round + 1));
            assert_eq!(
                (slab.len(), slab.remove(a), slab.get_mut(b).copied()),
                (2, Some(round), Some(round + 1))
            );
            assert_eq!(slab.occupied().collect::<Vec<_>>(), [b]);
            assert_eq!((slab.remove(b), slab.remove(b), slab.len()), (Some(round + 1), None, 0));
        }
        assert_eq!(slab.capacity(), 2);
    }
}
