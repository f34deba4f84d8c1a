//! What the formats of members stand for, in both documents.

use utoipa::Number;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, Object, Schema, SchemaFormat, SchemaType, Type};

use crate::dialect::{orders_track, tracking};
use crate::model::decimal::{AMOUNT_PATTERN, MAX_AMOUNT, MAX_QUANTITY, QUANTITY_PATTERN};
use crate::model::id::{MAX_ID, ORDER_ID_PATTERN, USER_ID_PATTERN};
use crate::model::value::TEXT_PATTERN;
use crate::model::{Code, Line, Paragraph};

/// Replaces the formats of fields, such as `line` or `latitude`, by the schemas they stand for.
pub fn constrain(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(object)) => {
            if let Some(SchemaFormat::Custom(format)) = object.format.clone() {
                constrain_value(object, &format);
            }
            object.properties.values_mut().for_each(constrain);
        }
        RefOr::T(Schema::OneOf(choice)) => choice.items.iter_mut().for_each(constrain),
        RefOr::T(Schema::AllOf(all)) => all.items.iter_mut().for_each(constrain),
        RefOr::T(_) | RefOr::Ref(_) => {}
    }
}

fn constrain_value(object: &mut Object, format: &str) {
    let text = |object: &mut Object, min: Option<usize>, max: Option<usize>, pattern: &str| {
        object.format = None;
        object.min_length = object.min_length.or(min);
        object.max_length = object.max_length.or(max);
        object.pattern = Some(pattern.to_owned());
        // Empty text is as good as none.
        if may_be(object, &Type::Null) && object.min_length.is_some_and(|min| min > 0) {
            object.min_length = Some(0);
            object.pattern = Some(format!("^$|{pattern}"));
        }
    };
    let number = |object: &mut Object, min: Number, max: Number| {
        object.format = Some(SchemaFormat::KnownFormat(KnownFormat::Double));
        (object.minimum, object.maximum) = (Some(min), Some(max));
    };
    match format {
        "order_id" | "user_id" => {
            let pattern = if format == "order_id" { ORDER_ID_PATTERN } else { USER_ID_PATTERN };
            text(object, Some(1), Some(MAX_ID), pattern);
            or_be(object, Type::Integer);
            object.minimum = Some(Number::Int(0));
        }
        "code" => {
            text(object, Some(1), Some(Code::MAX), TEXT_PATTERN);
            or_be(object, Type::Integer);
            object.minimum = Some(Number::Int(0));
        }
        "text" => text(object, None, None, TEXT_PATTERN),
        "line" => text(object, Some(Line::MIN), Some(Line::MAX), TEXT_PATTERN),
        "paragraph" => text(object, None, Some(Paragraph::MAX), TEXT_PATTERN),
        "orders_track_status" => text(object, None, None, &one_of(&orders_track_words())),
        "ws_status" => text(object, None, None, &one_of(&orders_track_words()).to_ascii_uppercase()),
        "tracking_status" => text(object, None, None, &one_of(&tracking::WORDS)),
        "latitude" => number(object, Number::Int(-90), Number::Int(90)),
        "longitude" => number(object, Number::Int(-180), Number::Int(180)),
        "amount" => {
            number(object, Number::Int(0), Number::Float(MAX_AMOUNT));
            text(object, Some(1), None, AMOUNT_PATTERN);
            or_be(object, Type::String);
        }
        "quantity" => {
            number(object, Number::Float(0.001), Number::Float(MAX_QUANTITY));
            object.multiple_of = Some(Number::Float(0.001));
            text(object, Some(1), None, QUANTITY_PATTERN);
            or_be(object, Type::String);
        }
        _ => {}
    }
}

fn may_be(object: &Object, what: &Type) -> bool {
    match &object.schema_type {
        SchemaType::Type(one) => one == what,
        SchemaType::Array(several) => several.contains(what),
        SchemaType::AnyValue => true,
    }
}

/// A value may be of one more type.
fn or_be(object: &mut Object, what: Type) {
    let mut types = match &object.schema_type {
        SchemaType::Type(one) => vec![one.clone()],
        SchemaType::Array(several) => several.clone(),
        SchemaType::AnyValue => return,
    };
    types.push(what);
    object.schema_type = SchemaType::Array(types);
}

/// The regular expression of these words.
fn one_of(words: &[&str]) -> String {
    format!("^({})$", words.join("|"))
}

/// All words that `/orders/track` accepts. `/ws` accepts them too, and has them in capitals.
fn orders_track_words() -> Vec<&'static str> {
    [orders_track::words(), vec![orders_track::CANCELED]].concat()
}
