//! How problems are written: as the answer to a request, and as the last event of a stream.

use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::{Code, ErrorShape, Problem, path};
use crate::openai::error;
use crate::request_ids::RequestIds;
use crate::sse::data;

/// What a caller without a key is asked for.
const CHALLENGE: &str = "ApiKey header=\"X-Internal-API-Key\"";

#[derive(Serialize)]
struct ProblemBody<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    param: Option<&'a str>,
    retryable: bool,
    request_id: &'a str,
}

impl Problem {
    /// The body of the answer to a request.
    pub(crate) fn body(&self, request_id: &str) -> String {
        let status = self.code.status();
        let body = ProblemBody {
            r#type: format!("urn:samosa:problem:{}", self.code.as_str()),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: &self.detail,
            code: self.code.as_str(),
            param: self.param.as_deref(),
            retryable: self.code.retryable(),
            request_id,
        };
        // Texts and numbers can always be written.
        serde_json::to_string(&body).unwrap_or_default()
    }

    /// The answer to a request.
    pub(crate) fn response(&self, ids: &RequestIds) -> Response {
        let (status, json, media_type, challenge) = match ids.shape {
            ErrorShape::Details => {
                (self.code.status(), self.body(&ids.request), "application/problem+json", CHALLENGE)
            }
            ErrorShape::OpenAi => (error::status(self.code), error::body(self), "application/json", "Bearer"),
        };
        let mut response = (status, json).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code == Code::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response.extensions_mut().insert(self.code);
        response
    }

    /// The event of a stream that ends with it.
    pub(crate) fn frame(&self, shape: ErrorShape, out: &mut Vec<u8>) {
        let Self { code, detail, .. } = self;
        match shape {
            ErrorShape::Details => {
                let (code, retryable) = (code.as_str(), code.retryable());
                data(out, &ErrorFrame { error: ErrorFields { code, message: detail, retryable } });
            }
            ErrorShape::OpenAi => data(out, &error::ErrorBody::of(self)),
        }
    }
}

#[derive(Serialize)]
struct ErrorFrame<'a> {
    error: ErrorFields<'a>,
}

#[derive(Serialize)]
struct ErrorFields<'a> {
    code: &'static str,
    message: &'a str,
    retryable: bool,
}

/// No such path.
pub(crate) async fn not_found(request: Request) -> Response {
    // The path is not repeated: a key may have slipped into it.
    let detail = format!("There is nothing at this path{}", path::advice(request.uri().path()));
    Problem::new(Code::NotFound, detail).response(&RequestIds::of(&request))
}

/// The path exists; `Allow` is added by the router.
pub(crate) async fn method_not_allowed(request: Request) -> Response {
    let detail = format!("This path does not take {} requests; see the Allow header.", request.method());
    Problem::new(Code::MethodNotAllowed, detail).response(&RequestIds::of(&request))
}
