//! From the types that are written and read to JSON Schemas.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;

use super::constrain::constrain;

/// Where the document keeps schemas.
const HOME: &str = "#/components/schemas/";

/// Schemas by name.
pub(super) type Schemas = BTreeMap<String, Value>;

/// What a message carries.
#[derive(Clone)]
pub(super) struct Payload {
    /// `None` for what may be anything.
    name: Option<String>,
    schema: Value,
    /// The schemas that it refers to.
    parts: Schemas,
}

impl Payload {
    /// What the server writes. It has no other members than those that are described.
    pub(super) fn written<T: ToSchema>() -> Self {
        let mut payload = Self::of::<T>();
        let parts = payload.parts.clone();
        for schema in payload.parts.values_mut().chain([&mut payload.schema]) {
            merge(schema, &parts);
            close(schema);
        }
        payload
    }

    /// What the server reads. It ignores what it does not know.
    pub(super) fn read<T: ToSchema>() -> Self {
        Self::of::<T>()
    }

    /// Anything.
    pub(super) fn anything() -> Self {
        Self { name: None, schema: json!({}), parts: Schemas::new() }
    }

    fn of<T: ToSchema>() -> Self {
        let mut parts = Vec::new();
        T::schemas(&mut parts);
        let parts = parts.into_iter().map(|(name, schema)| (name, json(schema))).collect();
        Self { name: Some(T::name().into_owned()), schema: json(T::schema()), parts }
    }

    /// The same under another name.
    pub(super) fn named(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// The same with a member more, at its beginning, which is always there.
    fn with(mut self, member: &str, schema: Value) -> Self {
        let Some(object) = self.schema.as_object_mut() else { return self };
        let members = object.entry("properties").or_insert_with(|| json!({}));
        if let Some(members) = members.as_object_mut() {
            members.insert(member.to_owned(), schema);
        }
        let required = object.entry("required").or_insert_with(|| json!([]));
        if let Some(required) = required.as_array_mut()
            && !required.iter().any(|known| known == member)
        {
            required.insert(0, member.into());
        }
        self
    }

    /// The same as a message of a raw WebSocket, whose name is in it.
    pub(super) fn typed(self, name: &str) -> Self {
        self.with("type", json!({ "const": name }))
    }

    /// The same as the answer to a request that succeeded.
    pub(super) fn succeeded(self) -> Self {
        self.with("ok", json!({ "const": true }))
    }

    /// The same as the answer to a request that was refused.
    pub(super) fn refused(self) -> Self {
        self.with("ok", json!({ "const": false }))
    }

    /// The same as a live event: a slow reader gets the newest only.
    pub(super) fn conflated(mut self) -> Self {
        if let Some(members) = self.schema["properties"].as_object_mut() {
            members.entry("conflated").or_insert_with(|| {
                json!({
                    "type": "integer",
                    "minimum": 0,
                    "description": "How many older events it stands for, for a slow reader",
                })
            });
        }
        self
    }

    /// One of these.
    pub(super) fn one_of(name: &str, all: Vec<Self>, schemas: &mut Schemas) -> Self {
        let all: Vec<Value> = all.into_iter().map(|payload| payload.settle(schemas)).collect();
        Self { name: Some(name.to_owned()), schema: json!({ "oneOf": all }), parts: Schemas::new() }
    }

    /// Puts the schema among all others, and returns where it is.
    pub(super) fn settle(self, schemas: &mut Schemas) -> Value {
        for (name, schema) in self.parts {
            put(schemas, &name, &schema);
        }
        match self.name {
            Some(name) => {
                let place = json!({ "$ref": format!("{HOME}{name}") });
                put(schemas, &name, &self.schema);
                place
            }
            None => self.schema,
        }
    }
}

fn put(schemas: &mut Schemas, name: &str, schema: &Value) {
    let known = schemas.entry(name.to_owned()).or_insert_with(|| schema.clone());
    debug_assert_eq!(known, schema, "two schemas are called {name}");
}

fn json(mut schema: RefOr<Schema>) -> Value {
    constrain(&mut schema);
    serde_json::to_value(schema).unwrap_or_default()
}

/// Makes one object of an object and those that are flattened into it.
fn merge(schema: &mut Value, parts: &Schemas) {
    let Some(pieces) = schema.as_object_mut().and_then(|object| object.remove("allOf")) else { return };
    let (mut members, mut required) = (Map::new(), Vec::new());
    for piece in pieces.as_array().into_iter().flatten() {
        let mut piece = refers_to(piece).and_then(|name| parts.get(name)).unwrap_or(piece).clone();
        merge(&mut piece, parts);
        members.extend(piece["properties"].as_object().cloned().unwrap_or_default());
        required.extend(piece["required"].as_array().cloned().unwrap_or_default());
    }
    schema["type"] = "object".into();
    schema["properties"] = members.into();
    schema["required"] = required.into();
}

fn refers_to(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.strip_prefix(HOME)
}

/// Says that an object has no other members than these. A member that may be missing is missing then, and never `null`.
fn close(schema: &mut Value) {
    match schema {
        Value::Array(all) => all.iter_mut().for_each(close),
        Value::Object(object) => {
            let required = object.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
            if let Some(members) = object.get_mut("properties").and_then(Value::as_object_mut) {
                for (name, member) in members {
                    if !required.iter().any(|required| required == name) {
                        never_null(member);
                    }
                    close(member);
                }
            }
            for inside in ["items", "oneOf"] {
                object.get_mut(inside).into_iter().for_each(close);
            }
            if object.get("type").is_some_and(|kind| kind == "object") {
                object.entry("additionalProperties").or_insert(false.into());
            }
        }
        _ => {}
    }
}

fn never_null(schema: &mut Value) {
    if let Some(types) = schema["type"].as_array() {
        let types: Vec<_> = types.iter().filter(|kind| *kind != "null").cloned().collect();
        schema["type"] = if let [one] = types.as_slice() { one.clone() } else { types.into() };
    }
    if let Some(choice) = schema["oneOf"].as_array() {
        let choice: Vec<_> = choice.iter().filter(|one| one["type"] != "null").cloned().collect();
        if let [one] = choice.as_slice() {
            *schema = one.clone();
        } else {
            schema["oneOf"] = choice.into();
        }
    }
}
