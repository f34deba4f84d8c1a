//! What is forgotten of a person when their data is erased. Ids, statuses, times and amounts stay.

use serde_json::{Map, Value, json};

use super::{Order, UserId};

/// Stands where a name or an address has to be.
pub const ERASED: &str = "[erased]";

/// Removes a person from a logged event. Returns whether there was anything to remove.
///
/// The columns of an order are in [`keeping`](crate::keeping): what is removed there and here has to be the same.
#[must_use]
pub fn erase(event: &mut Value, user: &UserId) -> bool {
    let is = |id: &Value| id.as_str() == Some(user.as_str());
    let wrote = is(&event["changedBy"]);
    let Some(order) = event.get_mut("order").and_then(Value::as_object_mut) else { return false };
    let party =
        |order: &Map<String, Value>, name: &str| order.get(name).is_some_and(|party| is(&party["id"]));
    let (customer, chef, driver) = (party(order, "customer"), party(order, "chef"), party(order, "driver"));
    if customer {
        rename(order, "customer", &["phone"]);
        order.remove("notes");
        order.insert("delivery".to_owned(), json!({"address": ERASED}));
    }
    if chef {
        rename(order, "chef", &["businessName", "address", "latitude", "longitude"]);
    }
    if driver {
        rename(order, "driver", &["phone"]);
    }
    // Why a driver did not want an order is in their words.
    if wrote && event["kind"] == "unassigned" {
        let _ = event.as_object_mut().and_then(|event| event.remove("reason"));
    }
    let note =
        if customer || wrote { event.as_object_mut().and_then(|event| event.remove("note")) } else { None };
    customer || chef || driver || note.is_some()
}

fn rename(order: &mut Map<String, Value>, party: &str, without: &[&str]) {
    if let Some(party) = order.get_mut(party).and_then(Value::as_object_mut) {
        party.insert("name".to_owned(), json!(ERASED));
        for member in without {
            party.remove(*member);
        }
    }
}

/// A mark for each erased party of an order. It is empty for nearly every order. With the seq it tells versions of an
/// order apart.
#[must_use]
pub fn marks(order: &Order) -> String {
    let driver = order.driver.as_ref().map(|driver| driver.name.as_str());
    let parties =
        [("c", Some(order.customer.name.as_str())), ("k", Some(order.chef.name.as_str())), ("d", driver)];
    parties.into_iter().filter(|(_, name)| *name == Some(ERASED)).map(|(mark, _)| mark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Value {
        json!({
            "kind": "status", "changedBy": "c", "note": "ring twice", "previousStatus": "accepted", "at": "t", "newer": 1,
            "order": {
                "id": "o", "status": "preparing", "seq": 3, "notes": "no nuts", "total": 3.5,
                "customer": {"id": "c", "name": "Clara", "phone": "1"},
                "chef": {"id": "k", "name": "Chiara", "businessName": "Da Chiara", "address": "Market Street", "latitude": 1.5, "longitude": 2.5},
                "driver": {"id": "d", "name": "Dario", "phone": "2"},
                "delivery": {"address": "Linden Lane", "latitude": 3.5, "longitude": 4.5},
            },
        })
    }

    #[test]
    fn each_person_is_forgotten_alone() {
        for (user, gone, stay) in [
            (
                "c",
                &["Clara", "\"1\"", "no nuts", "Linden", "\"latitude\":3.5", "ring twice"][..],
                &["Chiara", "Dario", "Market", "\"2\""][..],
            ),
            ("k", &["Chiara", "Market", "1.5", "2.5"], &["Clara", "Dario", "Linden", "ring twice"]),
            ("d", &["Dario", "\"2\""], &["Clara", "Chiara", "Linden", "ring twice"]),
        ] {
            let mut erased = event();
            assert!(erase(&mut erased, &UserId::stored(user)));
            let text = erased.to_string();
            for word in gone {
                assert!(
                    event().to_string().contains(word) && !text.contains(word),
                    "{user}: {word} in {text}"
                );
            }
            for word in stay.iter().chain(&["preparing", "\"seq\":3", "\"newer\":1", "\"total\":3.5"]) {
                assert!(text.contains(word), "{user}: {word} not in {text}");
            }
            let before = erased.clone();
            let _ = erase(&mut erased, &UserId::stored(user));
            assert_eq!(erased, before, "a second time changes nothing");
        }
        let mut other = event();
        assert!(!erase(&mut other, &UserId::stored("nobody")) && other == event());
    }
}
