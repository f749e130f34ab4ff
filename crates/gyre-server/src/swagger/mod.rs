//! The HTTP API described: an OpenAPI document made from the table of methods, and a page that shows it.
//!
//! Spec: OpenAPI 3.1

use ::http::{HeaderValue, Method as HttpMethod, StatusCode, header};
use bytes::Bytes;
use gyre_protocol::api::{
    Method,
    describe::{Field, FieldKind},
};
use gyre_transport::http::{Request, Response, full, status};
use serde_json::{Map, Value, json};

/// What may run in the page: its own script, and nothing from elsewhere.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// The endpoints below `swagger.handler_prefix`.
#[derive(Debug)]
pub struct Swagger {
    prefix: Box<str>,
    document: Bytes,
    page: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint {
    Page,
    Document,
}

impl Swagger {
    /// Describes the API at `api_prefix`, at `prefix`.
    pub fn new(prefix: Box<str>, api_prefix: &str) -> Self {
        let document = openapi(api_prefix).to_string();
        // A script ends at the first `</script`, wherever it stands.
        let page =
            include_str!("page.html").replace("\"<!--document-->\"", &document.replace('<', "\\u003c"));
        Self { prefix, document: document.into(), page: page.into() }
    }

    /// True if one of the endpoints is at that path.
    pub fn is_at(&self, path: &str) -> bool {
        self.endpoint(path).is_some()
    }

    fn endpoint(&self, path: &str) -> Option<Endpoint> {
        match path.strip_prefix(self.prefix.trim_end_matches('/'))? {
            "" | "/" | "/index.html" => Some(Endpoint::Page),
            "/openapi.json" | "/doc.json" | "/swagger.json" => Some(Endpoint::Document),
            _ => None,
        }
    }

    /// Answers a request; `None` if the path is none of its endpoints.
    pub fn answer(&self, request: &Request) -> Option<Response> {
        let endpoint = self.endpoint(request.uri().path())?;
        if !matches!(*request.method(), HttpMethod::GET | HttpMethod::HEAD) {
            return Some(status(StatusCode::METHOD_NOT_ALLOWED, ""));
        }
        let (body, content_type) = match endpoint {
            Endpoint::Page => (&self.page, "text/html; charset=utf-8"),
            Endpoint::Document => (&self.document, "application/json"),
        };
        let mut response = Response::new(full(body.clone()));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        Some(response)
    }
}

/// The document, for an API at that path.
pub fn openapi(api_prefix: &str) -> Value {
    let mut paths: Map<_, _> = Method::ALL.iter().map(|method| path(*method)).collect();
    paths.insert("/batch".into(), batch());
    let keys = json!({
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "authorization": {
            "type": "apiKey", "in": "header", "name": "Authorization",
            "description": "`apikey KEY`",
        },
        "query": {"type": "apiKey", "in": "query", "name": "api_key"},
    });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Gyre server HTTP API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Every request is a POST with a JSON object. Errors come with status 200 in `error`, unless \
                            `http_api.error_mode` or the header `X-Centrifugo-Error-Mode` says `transport`.",
        },
        "servers": [{"url": api_prefix}],
        "security": [{"header": []}, {"authorization": []}, {"query": []}],
        "paths": paths,
        "components": {"securitySchemes": keys, "schemas": {"Error": error()}},
    })
}

fn error() -> Value {
    json!({
        "type": "object",
        "required": ["code", "message"],
        "properties": {
            "code": {"type": "integer", "description": "Code of the error, from 100 on."},
            "message": {"type": "string", "description": "What it means."},
        },
    })
}

fn path(method: Method) -> (String, Value) {
    let name = method.name();
    let (about, request, result) = match method.description() {
        Some(description) => (description.about, description.request, description.result),
        None => ("", &[][..], &[][..]),
    };
    let answer = json!({
        "type": "object",
        "properties": {"result": object(result), "error": {"$ref": "#/components/schemas/Error"}},
    });
    (format!("/{name}"), operation(name, about, &object(request), &answer))
}

/// Many commands in one request.
fn batch() -> Value {
    let of_methods = |fields: fn(Method) -> &'static [Field]| -> Map<String, Value> {
        Method::ALL.iter().map(|method| (method.name().to_owned(), object(fields(*method)))).collect()
    };
    let requests = of_methods(|method| method.description().map_or(&[], |description| description.request));
    let mut results = of_methods(|method| method.description().map_or(&[], |description| description.result));
    results.insert("error".into(), json!({"$ref": "#/components/schemas/Error"}));
    let command = json!({"type": "object", "maxProperties": 1, "properties": requests});
    let request = json!({
        "type": "object",
        "properties": {
            "commands": {"type": "array", "items": command, "description": "Each has the request of one method."},
            "parallel": {"type": "boolean", "description": "They need not be carried out one after another."},
        },
    });
    let reply = json!({"type": "object", "maxProperties": 1, "properties": results});
    let answer = json!({
        "type": "object",
        "properties": {
            "replies": {"type": "array", "items": reply, "description": "One for each command, in the same order."},
        },
    });
    operation("batch", "Carries out many commands.", &request, &answer)
}

fn operation(name: &str, about: &str, request: &Value, answer: &Value) -> Value {
    json!({"post": {
        "operationId": name,
        "summary": about,
        "requestBody": {"required": true, "content": {"application/json": {"schema": request}}},
        "responses": {
            "200": {
                "description": "The result, or an error.",
                "content": {"application/json": {"schema": answer}},
            },
            "400": {"description": "The body is not a JSON object of that form."},
            "401": {"description": "The key is missing or wrong."},
            "413": {"description": "The body is too large."},
        },
    }})
}

fn object(fields: &[Field]) -> Value {
    let required: Vec<_> = fields.iter().filter(|field| field.is_required).map(|field| field.name).collect();
    let mut schema = json!({"type": "object", "properties": properties(fields)});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn properties(fields: &[Field]) -> Map<String, Value> {
    let property = |field: &Field| {
        let mut schema = match field.kind {
            FieldKind::Text => json!({"type": "string"}),
            FieldKind::Bool => json!({"type": "boolean"}),
            FieldKind::Integer => json!({"type": "integer"}),
            FieldKind::Any => json!({}),
            FieldKind::Texts => json!({"type": "array", "items": {"type": "string"}}),
            FieldKind::Tags => json!({"type": "object", "additionalProperties": {"type": "string"}}),
            FieldKind::Object(fields) => object(fields),
            FieldKind::List(fields) => json!({"type": "array", "items": object(fields)}),
            FieldKind::Objects(fields) => json!({"type": "object", "additionalProperties": object(fields)}),
        };
        schema["description"] = field.about.into();
        (field.name.to_owned(), schema)
    };
    fields.iter().map(property).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every method is in the document with its fields, and every reference in it leads somewhere.
    #[test]
    fn the_document_has_every_method() {
        let document = openapi("/api");
        let paths = document["paths"].as_object().unwrap();
        assert_eq!(paths.len(), Method::ALL.len() + 1);
        for method in Method::ALL {
            let post = &paths[&format!("/{}", method.name())]["post"];
            assert!(!post["summary"].as_str().unwrap().is_empty(), "{method:?}");
        }
        let body = &paths["/publish"]["post"]["requestBody"]["content"]["application/json"]["schema"];
        assert_eq!(body["required"], json!(["channel"]));
        assert_eq!(body["properties"]["tags"]["additionalProperties"]["type"], "string");
        let text = document.to_string();
        for (at, _) in text.match_indices("\"$ref\":\"#/") {
            let reference = text[at + 8..].split('"').next().unwrap();
            assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
        }
    }

    /// The endpoints with and without a slash, below whatever prefix, the root included.
    #[test]
    fn endpoints_are_below_the_prefix() {
        let swagger = Swagger::new("/swagger".into(), "/api");
        for path in ["/swagger", "/swagger/", "/swagger/index.html"] {
            assert_eq!(swagger.endpoint(path), Some(Endpoint::Page), "{path}");
        }
        assert_eq!(swagger.endpoint("/swagger/openapi.json"), Some(Endpoint::Document));
        for path in ["/", "/swaggerx", "/swagger/x", "/api"] {
            assert_eq!(swagger.endpoint(path), None, "{path}");
        }
        assert_eq!(Swagger::new("/".into(), "/api").endpoint("/openapi.json"), Some(Endpoint::Document));
    }

    /// The page carries the document and loads nothing.
    #[test]
    fn the_page_stands_alone() {
        let swagger = Swagger::new("/swagger".into(), "/</script>");
        let page = std::str::from_utf8(&swagger.page).unwrap();
        assert!(page.contains("shared_poll_publish") && !page.contains("/</script>"));
        assert_eq!(page.matches("<script").count(), page.matches("</script>").count());
        assert!(!page.contains("src=") && !page.contains("<link") && !page.contains("fetch("));
    }
}
