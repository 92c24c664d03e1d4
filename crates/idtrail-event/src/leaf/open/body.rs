//! Opens a leaf for whoever hands its event on: the body as a text, and the few facts that go with it.
//!
//! It refuses what [`super::OpenLeaf`] refuses. It is a second reading of the same bytes, kept apart because it makes no
//! tree, which is most of what opening costs; a property test holds the two together.

use alloc::vec::Vec;
use core::fmt;

use super::{Content, Leaf, Sealed, end_of_content};
use crate::cbor::{CborError, Reader};
use crate::event::{EVENT_MEMBER, KEY_EVENT, KEY_OUTER, STAFF_MEMBERS};
use crate::id::{EventId, GlobalCustomerId};
use crate::key::{IV_BYTES, LeafKey};
use crate::leaf::LeafError;
use crate::text::BodyText;
use crate::value::Registry;

/// Bytes of text and members of a usual event.
const TEXT_BYTES: usize = 768;
const MEMBERS: usize = 24;

/// An opened leaf whose body is a text. The staff section is closed until [`Self::finish`].
pub struct OpenBody {
    /// Receipt time, milliseconds since 1970.
    pub received_ms: u64,
    /// The customer; `None` in the log's own leaves.
    pub subject: Option<GlobalCustomerId>,
    /// The event's id.
    pub event_id: EventId,
    /// The body up to the last member of the event.
    event: BodyText,
    /// Members beside the event, without braces.
    outer: Option<BodyText>,
    section: Option<Vec<u8>>,
}

impl fmt::Debug for OpenBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenBody(…)")
    }
}

impl Leaf<'_> {
    /// Opens the event's section with its key, without a tree of the event.
    ///
    /// # Errors
    /// As [`Leaf::open`].
    pub fn open_body(&self, key: &LeafKey) -> Result<OpenBody, LeafError> {
        let content = self.sealed.decrypt(key, &self.commitment)?;
        let mut input = Reader::new(&content);
        let mut rest = Content::default();
        let mut event = BodyText::with_capacity(TEXT_BYTES, MEMBERS);
        event.text.push('{');
        event.begin_member(EVENT_MEMBER, 0);
        event.text.push('{');
        let (mut has_event, mut outer) = (false, None);
        input.members(|input| {
            let mut key = *input;
            match key.uint()? {
                KEY_EVENT => {
                    *input = key;
                    has_event = true;
                    event.write_members(input, Registry::Event, 1, 1, &mut true)?;
                }
                KEY_OUTER => {
                    *input = key;
                    let mut beside = BodyText::default();
                    beside.write_members(input, Registry::None, 1, 0, &mut true)?;
                    outer = Some(beside);
                }
                _ => drop(rest.member(input)?),
            }
            Ok(())
        })?;
        end_of_content(&input)?;
        if !has_event {
            return Err(CborError.into());
        }
        let names_event = |text: &BodyText| {
            let mut top = text.members.iter().filter(|member| member.depth == 0);
            top.any(|member| text.part(member.name) == EVENT_MEMBER)
        };
        if outer.as_ref().is_some_and(names_event) {
            return Err(LeafError::Malformed("it holds the event twice"));
        }
        let lacking = LeafError::Malformed("its content lacks a member");
        let complete = rest.system.is_some() && rest.dedupe.is_some() && rest.subject_sequence.is_some();
        let (Some(received_ms), Some(event_id), true) = (rest.received_ms, rest.event_id, complete) else {
            return Err(lacking);
        };
        Ok(OpenBody { received_ms, subject: rest.subject, event_id, event, outer, section: rest.section })
    }
}

impl OpenBody {
    /// Returns the nonce of the staff section, from which its key is derived; `None` if there is no such section.
    ///
    /// # Errors
    /// `Malformed` if the section is not what the format says.
    pub fn staff_iv(&self) -> Result<Option<[u8; IV_BYTES]>, LeafError> {
        self.section.as_deref().map(|section| Sealed::parse(section).map(|sealed| sealed.iv)).transpose()
    }

    /// Returns the body; with the members about staff if their key is given.
    ///
    /// # Errors
    /// As [`super::OpenLeaf::open_staff`].
    pub fn finish(mut self, staff: Option<&LeafKey>) -> Result<BodyText, LeafError> {
        if let (Some(key), Some(section)) = (staff, self.section.take()) {
            self.write_staff(key, &section)?;
        }
        let mut body = self.event;
        body.text.push('}');
        body.end_member(0, 0);
        if let Some(outer) = self.outer.filter(|outer| !outer.members.is_empty()) {
            body.append(&outer);
        }
        body.text.push('}');
        Ok(body)
    }

    fn write_staff(&mut self, key: &LeafKey, section: &[u8]) -> Result<(), LeafError> {
        let content = super::staff_content(key, section)?;
        let mut input = Reader::new(&content);
        let known = self.event.members.len();
        let mut is_first = known == 1;
        self.event.write_members(&mut input, Registry::Event, 0, 1, &mut is_first)?;
        end_of_content(&input)?;
        let (before, staff) = self.event.members.split_at_checked(known).ok_or(CborError)?;
        let name = |member: &crate::text::TextMember| self.event.part(member.name);
        let mut own = staff.iter().filter(|member| member.depth == 1).peekable();
        let is_wrong = own.peek().is_none()
            || own.any(|member| {
                let name_of = name(member);
                !STAFF_MEMBERS.contains(&name_of)
                    || self.event.part(member.value) == "null"
                    || before.iter().any(|other| other.depth == 1 && name(other) == name_of)
            });
        if is_wrong {
            return Err(LeafError::Malformed("its staff section holds other members than it may"));
        }
        Ok(())
    }
}
