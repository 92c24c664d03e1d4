//! A bounded queue whose reader takes everything that waits.
//!
//! There is no timer: what queues up while the reader is busy is the next group. A full queue refuses, it never
//! blocks an untrusted sender.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};

/// Why nothing was put into the queue.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused<T> {
    /// It is full; the item comes back.
    Full(T),
    /// It was closed; the item comes back.
    Closed(T),
}

/// A queue of at most `limit` items.
#[derive(Debug)]
pub struct Queue<T> {
    limit: usize,
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    closed: bool,
    /// Senders that wait for room; without any, taking items needs no wake-up call to the kernel.
    blocked: usize,
}

impl<T> Queue<T> {
    /// Returns an empty queue for at most `limit` items.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            state: Mutex::new(State { items: VecDeque::new(), closed: false, blocked: 0 }),
            changed: Condvar::new(),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State<T>> {
        // The critical sections below only move items, so a poisoned lock still holds a sound queue.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an item at the end, or refuses at once.
    ///
    /// # Errors
    /// [`Refused`] with the item.
    pub fn try_push(&self, item: T) -> Result<(), Refused<T>> {
        let mut state = self.state();
        if state.closed {
            return Err(Refused::Closed(item));
        }
        if state.items.len() >= self.limit {
            return Err(Refused::Full(item));
        }
        state.items.push_back(item);
        // Readers wait only while the queue is empty, so only the first item needs to wake one.
        let wake = state.items.len() == 1;
        drop(state);
        if wake {
            self.changed.notify_all();
        }
        Ok(())
    }

    /// Puts all items at the end, in order and with nothing between them, or refuses all of them at once.
    ///
    /// # Errors
    /// [`Refused`] with the items.
    pub fn try_push_all(&self, items: Vec<T>) -> Result<(), Refused<Vec<T>>> {
        let mut state = self.state();
        if state.closed {
            return Err(Refused::Closed(items));
        }
        if items.len() > self.limit - state.items.len().min(self.limit) {
            return Err(Refused::Full(items));
        }
        let wake = state.items.is_empty() && !items.is_empty();
        state.items.extend(items);
        drop(state);
        if wake {
            self.changed.notify_all();
        }
        Ok(())
    }

    /// Puts an item at the end, waiting for room: only for senders inside the log.
    ///
    /// # Errors
    /// `Closed` with the item.
    pub fn push(&self, item: T) -> Result<(), Refused<T>> {
        let mut state = self.state();
        while state.items.len() >= self.limit && !state.closed {
            state.blocked += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.blocked -= 1;
        }
        if state.closed {
            return Err(Refused::Closed(item));
        }
        state.items.push_back(item);
        let wake = state.items.len() == 1;
        drop(state);
        if wake {
            self.changed.notify_all();
        }
        Ok(())
    }

    /// Waits until something is there and takes items from the front as long as `admit` says so; always at least
    /// one. Returns `None` once the queue is closed and empty.
    pub fn take(&self, mut admit: impl FnMut(&T) -> bool) -> Option<Vec<T>> {
        let mut state = self.state();
        loop {
            if !state.items.is_empty() {
                break;
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let mut taken = Vec::with_capacity(state.items.len());
        while let Some(item) = state.items.front() {
            if !admit(item) && !taken.is_empty() {
                break;
            }
            taken.extend(state.items.pop_front());
        }
        let wake = state.blocked > 0;
        drop(state);
        if wake {
            self.changed.notify_all();
        }
        Some(taken)
    }

    /// Closes the queue: no more items go in, those inside can still be taken.
    pub fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    /// Returns how many items wait.
    pub fn len(&self) -> usize {
        self.state().items.len()
    }

    /// Tells whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the most items that may wait.
    pub fn limit(&self) -> usize {
        self.limit
    }
}
