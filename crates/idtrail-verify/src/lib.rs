//! Offline verification of evidence packages and receipts; trusts nothing but the pinned policy
