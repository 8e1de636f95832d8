//! `errors.md`: every code with its status, whether it may succeed later, and what to do.

use std::fmt::Write as _;

use server::problem::Code;

use super::keep_page;

const INTRODUCTION: &str = "\
An error is a JSON object of the type `application/problem+json`
([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)):

| member | is |
|---|---|
| `type` | `urn:samosa:problem:` and the code |
| `title` | the status in words |
| `status` | the status of the answer |
| `detail` | one plain sentence with the field, the limit and the value that was seen |
| `code` | a word of the table below, for programs |
| `param` | a JSON pointer to the field, where there is one |
| `retryable` | whether the same request may succeed later |
| `request_id` | the `X-Request-Id` of the answer, which its lines in the log have too |

Where it makes sense, the header `Retry-After` says in seconds when to come back. An error after the first event of a
stream is an event of its own, `{\"error\":{\"code\",\"message\",\"retryable\"}}`, and no done event follows it. OpenAI's
paths tell the same errors in OpenAI's form: `{\"error\":{\"message\",\"type\",\"param\",\"code\"}}`, with status 400 in
place of 422, and OpenAI's own words for codes where it has them.

| code | status | again? | meaning | what to do |
|---|---|---|---|---|
";

#[test]
fn the_page_of_errors_has_every_code() {
    let mut page = INTRODUCTION.to_owned();
    let mut codes = Code::ALL.to_vec();
    codes.sort_by_key(|code| code.status());
    for code in codes {
        let (word, status, advice) = (code.as_str(), code.status(), code.advice());
        let again = if code.retryable() { "yes" } else { "no" };
        let meaning = code.meaning();
        assert!(meaning.ends_with('.') && advice.ends_with('.'), "{word}: {meaning} {advice}");
        let _ = writeln!(page, "| `{word}` | {status} | {again} | {meaning} | {advice} |");
    }
    keep_page("errors", "Errors", &page);
}
