//! Additions to the `OpenAPI` document that many operations and values share.

use utoipa::openapi::path::Operation;
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder};

use super::admission::UNLIMITED;
use crate::describe::constrain::constrain;

/// Adds shared refusals to each operation: they depend on its token, path, query and body.
pub(super) fn finish(mut document: OpenApi) -> OpenApi {
    for (path, item) in &mut document.paths.paths {
        let named = path.contains('{');
        let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete]
            .into_iter()
            .flatten();
        for operation in operations {
            if !UNLIMITED.contains(&path.as_str()) {
                refuses(operation, "429", "Too many requests; see Retry-After");
            }
            share(operation, named);
            for parameter in operation.parameters.iter_mut().flatten() {
                if let RefOr::T(parameter) = parameter {
                    parameter.schema.iter_mut().for_each(constrain);
                }
            }
        }
    }
    let schemas = document.components.iter_mut().flat_map(|components| components.schemas.values_mut());
    for schema in schemas {
        constrain(schema);
    }
    document
}

fn share(operation: &mut Operation, named: bool) {
    if operation.security.is_none() {
        return;
    }
    let body = operation.request_body.is_some();
    let refusals = [
        (true, "401", "No token, or one that does not verify"),
        (true, "403", "Not for this caller"),
        (named, "404", "No such thing, or none that the caller may see"),
        (body, "400", "The body is not JSON"),
        (body, "408", "The body arrives too slowly"),
        (body, "413", "The body is too large"),
        (body, "415", "The body is not application/json"),
        (true, "422", "A member of the input is wrong; `member` names it"),
        (true, "503", "Not available right now; see Retry-After"),
    ];
    for (applies, status, description) in refusals {
        if applies {
            refuses(operation, status, description);
        }
    }
}

fn refuses(operation: &mut Operation, status: &str, description: &str) {
    let responses = &mut operation.responses.responses;
    responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(problem(description)));
}

fn problem(description: &str) -> Response {
    let schema = RefOr::Ref(Ref::from_schema_name("Problem"));
    let content = ContentBuilder::new().schema(Some(schema)).build();
    ResponseBuilder::new().description(description).content("application/problem+json", content).build()
}
