//! Isolation segments: cells that are kept for some organisations or spaces. Pure.

use crate::Timestamp;
use crate::id::SegmentId;
use crate::resource::{CellInfo, Metadata};
use std::collections::BTreeSet;
use uuid::Uuid;

/// The one that is always there. Work in it goes to cells of no other.
pub const SHARED: SegmentId = SegmentId(Uuid::from_u128(0x933b_4c58_120b_499a_b85d_4b6f_c9e2_903b));
/// Longest name.
pub const MAX_NAME: usize = 255;
/// A cell is of a segment by a tag that begins so, and ends with the segment's name.
pub const TAG: &str = "isolation-segment:";

/// An isolation segment.
#[derive(Debug, Clone)]
pub struct Segment {
    pub id: SegmentId,
    /// One of each, whatever its case.
    pub name: String,
    pub metadata: Metadata,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Whether segments may be called this.
///
/// # Errors
/// What is wrong, in CF's words.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.trim().is_empty() {
        Err("Name can't be blank".to_owned())
    } else if name.chars().any(char::is_control) {
        Err("Isolation Segment names can only contain non-blank unicode characters".to_owned())
    } else if name.chars().count() > MAX_NAME {
        Err(format!("Name is too long (maximum is {MAX_NAME} characters)"))
    } else {
        Ok(())
    }
}

/// How segments are compared: their case is of no matter.
#[must_use]
pub fn key(name: &str) -> String {
    name.to_lowercase()
}

/// Segments that a cell is of, by [`key`]; of none it takes what is in the shared one.
#[must_use]
pub fn of_cell(cell: &CellInfo) -> BTreeSet<String> {
    let names = cell.tags.iter().filter_map(|tag| tag.strip_prefix(TAG));
    names.map(|name| key(name.trim())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_without_case_and_checked() {
        assert_eq!(key("Gold"), key("gold"));
        assert_eq!(check_name("gold one"), Ok(()));
        assert!(check_name(" ").is_err());
        assert!(
            check_name("a\nb")
                .unwrap_err()
                .starts_with("Isolation Segment names can only")
        );
        assert!(check_name(&"n".repeat(256)).is_err());
    }
}
