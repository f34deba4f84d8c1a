//! What other systems are told. Pure.

use serde_json::{Value, json};

use crate::base::clock::rfc3339;
use crate::dialect::canonical::OrderView;
use crate::model::{EventKind, OrderEvent, Party};

/// Every type of message.
pub const TYPES: [&str; 13] = [
    "order.created",
    "order.status_changed",
    "order.assigned",
    "order.unassigned",
    "order.payment",
    "order.updated",
    "order.corrected",
    "order.milestone",
    "order.risk",
    "proof.captured",
    "rating.created",
    "notification.failed",
    "webhook.disabled",
];

/// Whether a pattern is a type, `*`, or all types of a group such as `order.*`.
#[must_use]
pub fn is_pattern(pattern: &str) -> bool {
    pattern == "*"
        || TYPES.iter().any(|known| {
            *known == pattern
                || pattern
                    .strip_suffix('*')
                    .is_some_and(|group| group.ends_with('.') && known.starts_with(group))
        })
}

/// Whether one of the patterns stands for the type.
#[must_use]
pub fn wants(patterns: &[String], r#type: &str) -> bool {
    patterns.iter().any(|pattern| {
        pattern == "*"
            || pattern == r#type
            || pattern
                .strip_suffix('*')
                .is_some_and(|group| group.ends_with('.') && r#type.starts_with(group))
    })
}

/// The type by which an endpoint that wants these hears of an event: the event's own, or that of a status which it changed.
#[must_use]
pub fn type_of(event: &OrderEvent, patterns: &[String]) -> Option<&'static str> {
    let own = match event.kind {
        EventKind::Created => "order.created",
        EventKind::Status => "order.status_changed",
        EventKind::Assigned => "order.assigned",
        EventKind::Unassigned => "order.unassigned",
        EventKind::Payment => "order.payment",
        EventKind::Updated => "order.updated",
        EventKind::Corrected => "order.corrected",
        EventKind::Proof => "proof.captured",
        EventKind::Newer => return None,
    };
    let changed = (event.kind != EventKind::Created && event.order.status != event.previous_status)
        .then_some("order.status_changed");
    [Some(own), changed].into_iter().flatten().find(|known| wants(patterns, known))
}

/// The body of a message about an event.
#[must_use]
pub fn body_of(event: &OrderEvent, r#type: &str) -> String {
    let mut data = json!({
        "order": OrderView::new(&event.order, None, Party::Staff),
        "seq": event.order.seq,
        "position": event.position,
    });
    let members = [
        ("previousStatus", (event.kind != EventKind::Created).then(|| event.previous_status.as_str().into())),
        ("changedBy", event.changed_by.as_ref().map(|user| user.as_str().into())),
        ("note", event.note.as_deref().map(Into::into)),
        ("reason", event.reason.as_deref().map(Into::into)),
        ("formerDriverId", event.former_driver.as_ref().map(|user| user.as_str().into())),
        ("changed", (!event.changed.is_empty()).then(|| json!(event.changed))),
        ("proven", (event.kind == EventKind::Proof).then(|| json!(event.order.details.proven))),
    ];
    for (name, value) in members {
        if let Some(value) = value {
            data[name] = value;
        }
    }
    body(r#type, &rfc3339(event.at), data)
}

/// A body.
#[must_use]
pub fn body(r#type: &str, timestamp: &str, data: impl Into<Value>) -> String {
    json!({"type": r#type, "timestamp": timestamp, "data": data.into()}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_types_or_groups() {
        for good in ["*", "order.*", "proof.*", "order.created", "webhook.disabled"] {
            assert!(is_pattern(good), "{good}");
        }
        for bad in ["", "order", "order.", "ord*", "order.c*", "menu.*", "order.cooked", "**"] {
            assert!(!is_pattern(bad), "{bad}");
        }
        let some = ["order.*".to_owned(), "rating.created".to_owned()];
        assert!(
            wants(&some, "order.risk") && wants(&some, "rating.created") && !wants(&some, "proof.captured")
        );
    }
}
