//! A growing array in pieces of a fixed size: adding an item never moves the others.
//!
//! A plain `Vec` of gigabytes doubles by copying everything, and the resolution that is unlucky enough to trigger it
//! waits for a quarter of a second. Here the largest allocation is one piece.

/// Marks the absence of an index in records that hold indices.
pub(crate) const NONE: u32 = u32::MAX;

const BITS: u32 = 12;
const PIECE: usize = 1 << BITS;

/// The array; items are addressed by the number that [`Arena::push`] gave.
#[derive(Clone)]
pub(crate) struct Arena<T> {
    pieces: Vec<Vec<T>>,
}

impl<T> Arena<T> {
    pub(crate) const fn new() -> Self {
        Self { pieces: Vec::new() }
    }

    pub(crate) fn len(&self) -> u32 {
        let full = self.pieces.len().saturating_sub(1) * PIECE;
        u32::try_from(full + self.pieces.last().map_or(0, Vec::len)).expect("push keeps this under 2^32")
    }

    /// Adds an item and returns its number.
    ///
    /// # Panics
    /// At 2^32 − 1 items.
    pub(crate) fn push(&mut self, item: T) -> u32 {
        let at = self.len();
        assert!(at < NONE - 1, "an arena holds less than 2^32 items");
        match self.pieces.last_mut() {
            Some(piece) if piece.len() < PIECE => piece.push(item),
            _ => {
                let mut piece = Vec::with_capacity(PIECE);
                piece.push(item);
                self.pieces.push(piece);
            }
        }
        at
    }

    /// Takes the last item back.
    pub(crate) fn pop(&mut self) {
        if let Some(piece) = self.pieces.last_mut() {
            piece.pop();
            if piece.is_empty() {
                self.pieces.pop();
            }
        }
    }

    #[inline]
    pub(crate) fn at(&self, at: u32) -> &T {
        let piece = self.pieces.get((at >> BITS) as usize);
        piece.and_then(|piece| piece.get(at as usize & (PIECE - 1))).expect("the arena gave this number")
    }

    #[inline]
    pub(crate) fn at_mut(&mut self, at: u32) -> &mut T {
        let piece = self.pieces.get_mut((at >> BITS) as usize);
        piece.and_then(|piece| piece.get_mut(at as usize & (PIECE - 1))).expect("the arena gave this number")
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pieces.iter().flatten()
    }

    /// Returns the bytes that the items occupy, unused capacity included.
    pub(crate) fn bytes(&self) -> usize {
        self.pieces.len() * PIECE * size_of::<T>()
    }
}

#[cfg(test)]
mod tests {
    use super::Arena;

    #[test]
    fn items_keep_their_numbers_across_pieces() {
        let mut arena = Arena::new();
        let numbers: Vec<u32> = (0..10_000_u32).map(|item| arena.push(item * 3)).collect();
        assert!(numbers.iter().all(|&at| *arena.at(at) == at * 3));
        assert_eq!(arena.len(), 10_000);
        *arena.at_mut(4096) = 7;
        assert_eq!(arena.iter().nth(4096), Some(&7));
    }
}
