//! What a panic in user code is called: which operator, which record, what it said.

use std::any::Any;

use crate::data::row::Origin;

/// The message of a panic.
pub fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_string());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without a message".to_string())
}

/// The record at `origin` as people call it: `source payments, a.csv, byte 17`. `split_name` knows
/// the splits' names, if they have been given.
pub fn describe_origin(
    origin: Origin,
    source_names: &[String],
    split_name: impl FnOnce(u32, u32) -> Option<String>,
) -> String {
    if origin == Origin::NONE {
        return "no single record (a timer, a window or the end of the input)".to_string();
    }
    let source = source_names.get(origin.source() as usize).map_or("?", String::as_str);
    let split = split_name(origin.source(), origin.split())
        .unwrap_or_else(|| format!("split {}, position", origin.split()));
    match origin.position() {
        Some(position) => format!("source {source}, {split} {position}"),
        None => format!("source {source}, {split} unknown"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_called_by_its_split() {
        let names = ["payments".to_string()];
        let call = |_, _| Some("a.csv, byte".to_string());
        let text = describe_origin(Origin::new(0, 3, 17), &names, call);
        assert_eq!(text, "source payments, a.csv, byte 17");
        let text = describe_origin(Origin::new(0, 3, 17), &names, |_, _| None);
        assert_eq!(text, "source payments, split 3, position 17");
    }
}
