//! Offline verification of evidence packages, receipts, bare proofs and certificates of rights requests.
//!
//! In go the bytes of a file and a policy with pinned keys; out comes a [`Report`] with one of four verdicts.
//! The crate also holds the types with which the server writes these files, so that a form has one
//! definition. It is pure: no IO, clock, randomness or threads.
//!
//! What it must never do: trust a key that it finds in a file, or say "verified" about a file of which it
//! could not check a shown member.
//!
//! The formats are normative in `docs/spec/evidence-package.md`, `receipt.md` and `certificate.md`.

mod access;
mod certificate;
mod event;
mod manifest;
mod package;
mod receipt;
mod report;
mod verify;

pub use certificate::{
    CERTIFICATE_FORMAT, Certificate, CertificateBody, CertificateResidual, CertificateShred, CertificateTask,
    DisclosedLeaf, certificate_file, certificate_key, certificate_key_name, sign_certificate,
    verify_certificate,
};
pub use manifest::{
    SignError, access_key, access_origin, evidence_key, evidence_key_name, manifest_text, sign_manifest,
};
pub use package::{
    AccessPart, AsOf, Coverage, Customer, DateRange, EventKeys, EvidenceEvent, FORMAT, Package, Request,
    SignedCheckpoint, StaffState, SystemCoverage, SystemStatus, time_text,
};
pub use receipt::{Receipt, ReceiptStatus, ReceiptWarning, verify_proof, verify_receipt};
pub use report::{Outcome, Place, Report, Step, Verdict};
pub use verify::{verify, verify_package, verify_with_leaf};
