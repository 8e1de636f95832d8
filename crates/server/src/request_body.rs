//! The body of a request: declared as JSON, not encoded, within the limits of size and time.

use axum::body::{Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::fields::short;
use crate::limits::Limits;
use crate::problem::{Code, Problem};

/// A JSON body within the limits of size and time.
pub(crate) async fn read(request: Request, limits: &Limits) -> Result<Bytes, Problem> {
    check_media(request.headers())?;
    let (body, most) = (request.into_body(), limits.body_bytes);
    // Checked before the first read, which would send `100 Continue`.
    let length = body.size_hint().lower();
    if length > most as u64 {
        let detail = format!("The body has {length} bytes, but at most {most} are allowed.");
        return Err(Problem::new(Code::BodyTooLarge, detail));
    }
    let body = Limited::new(body, most).collect();
    match tokio::time::timeout(limits.body_timeout, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let detail = format!("The body has more than {most} bytes, which are allowed at most.");
            Err(Problem::new(Code::BodyTooLarge, detail))
        }
        Ok(Err(_)) => Err(Problem::new(Code::InvalidJson, "The body ended before it was complete.")),
        Err(_) => {
            let seconds = limits.body_timeout.as_secs();
            Err(Problem::new(
                Code::RequestTimeout,
                format!("The body did not arrive within {seconds} seconds."),
            ))
        }
    }
}

/// Refuses bodies that are not declared as JSON, and encoded ones.
fn check_media(headers: &HeaderMap) -> Result<(), Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        let found = if media_type.is_empty() { "nothing".to_owned() } else { short(media_type) };
        let detail = format!("The Content-Type is {found}, but must be application/json.");
        return Err(Problem::new(Code::UnsupportedMediaType, detail));
    }
    let Some(coding) = other_coding(headers, &header::CONTENT_ENCODING, "identity") else { return Ok(()) };
    let detail = format!("The Content-Encoding is {coding}, but must be identity: bodies are not decoded.");
    Err(Problem::new(Code::UnsupportedMediaType, detail))
}

/// The first coding in the list of a header that is not the `supported` one, shortened.
pub(crate) fn other_coding(headers: &HeaderMap, name: &HeaderName, supported: &str) -> Option<String> {
    let other = codings(headers, name).find(|coding| !coding.eq_ignore_ascii_case(supported.as_bytes()))?;
    Some(short(&String::from_utf8_lossy(other)))
}

/// The codings that a header lists, on one line or several.
pub(crate) fn codings<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    let lists = headers.get_all(name).iter();
    let items = lists.flat_map(|list| list.as_bytes().split(|&byte| byte == b',')).map(<[u8]>::trim_ascii);
    items.filter(|coding| !coding.is_empty())
}
