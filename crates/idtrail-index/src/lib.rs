//! Derived state: dedupe, identity decision, subject and interaction index, and the trail's state machine
