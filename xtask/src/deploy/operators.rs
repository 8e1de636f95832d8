//! The resources of the Prometheus operator, as far as we use them: which fields there are, and of which kind.

use anyhow::{Context as _, bail};
use serde_json::Value;

/// What a value may be.
enum Shape {
    Text,
    /// A duration such as `15s`.
    Time,
    /// A map of texts.
    Texts,
    /// A list of one shape.
    List(&'static Shape),
    /// Fields, and whether each has to be there.
    Fields(&'static [(&'static str, bool, Shape)]),
}

const REQUIRED: bool = true;
const OPTIONAL: bool = false;

const SERVICE_MONITOR: Shape = Shape::Fields(&[
    ("selector", REQUIRED, Shape::Fields(&[("matchLabels", REQUIRED, Shape::Texts)])),
    (
        "endpoints",
        REQUIRED,
        Shape::List(&Shape::Fields(&[
            ("port", REQUIRED, Shape::Text),
            ("path", OPTIONAL, Shape::Text),
            ("scheme", OPTIONAL, Shape::Text),
            ("interval", OPTIONAL, Shape::Time),
            ("scrapeTimeout", OPTIONAL, Shape::Time),
            (
                "relabelings",
                OPTIONAL,
                Shape::List(&Shape::Fields(&[
                    ("targetLabel", REQUIRED, Shape::Text),
                    ("replacement", REQUIRED, Shape::Text),
                ])),
            ),
        ])),
    ),
]);

const RULE: Shape = Shape::Fields(&[
    ("alert", OPTIONAL, Shape::Text),
    ("record", OPTIONAL, Shape::Text),
    ("expr", REQUIRED, Shape::Text),
    ("for", OPTIONAL, Shape::Time),
    ("keep_firing_for", OPTIONAL, Shape::Time),
    ("labels", OPTIONAL, Shape::Texts),
    ("annotations", OPTIONAL, Shape::Texts),
]);

const PROMETHEUS_RULE: Shape = Shape::Fields(&[(
    "groups",
    REQUIRED,
    Shape::List(&Shape::Fields(&[
        ("name", REQUIRED, Shape::Text),
        ("interval", OPTIONAL, Shape::Time),
        ("rules", REQUIRED, Shape::List(&RULE)),
    ])),
)]);

/// Whether a resource has the fields that its operator wants, and no others.
pub(crate) fn check(resource: &Value) -> anyhow::Result<()> {
    let kind = resource["kind"].as_str().unwrap_or_default();
    let shape = match kind {
        "ServiceMonitor" => &SERVICE_MONITOR,
        "PrometheusRule" => &PROMETHEUS_RULE,
        _ => bail!("nobody says what a {kind} looks like"),
    };
    fits(&resource["spec"], shape).with_context(|| format!("{kind}/spec"))
}

fn fits(value: &Value, shape: &Shape) -> anyhow::Result<()> {
    let is_so = match shape {
        Shape::Text => value.is_string(),
        Shape::Time => value.as_str().is_some_and(is_time),
        Shape::Texts => value.as_object().is_some_and(|map| map.values().all(Value::is_string)),
        Shape::List(_) => value.is_array(),
        Shape::Fields(_) => value.is_object(),
    };
    if !is_so {
        bail!("{value} is of another kind");
    }
    match shape {
        Shape::List(shape) => {
            let items = value.as_array().into_iter().flatten();
            items.enumerate().try_for_each(|(i, item)| fits(item, shape).with_context(|| i.to_string()))
        }
        Shape::Fields(fields) => {
            let known = |name: &str| fields.iter().any(|(field, ..)| *field == name);
            if let Some(name) = value.as_object().and_then(|map| map.keys().find(|name| !known(name))) {
                bail!("there is no field {name}");
            }
            fields.iter().try_for_each(|(name, required, shape)| match value.get(name) {
                None if *required => bail!("{name} is missing"),
                None => Ok(()),
                Some(value) => fits(value, shape).with_context(|| (*name).to_owned()),
            })
        }
        Shape::Text | Shape::Time | Shape::Texts => Ok(()),
    }
}

fn is_time(text: &str) -> bool {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    number.parse::<u32>().is_ok() && ["ms", "s", "m", "h", "d"].contains(&&text[number.len()..])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_too_many_too_few_or_of_another_kind_is_found() {
        let rules = |rule: Value| {
            let groups = json!([{ "name": "a", "rules": [rule] }]);
            check(&json!({ "kind": "PrometheusRule", "spec": { "groups": groups } }))
        };
        assert!(rules(json!({ "alert": "A", "expr": "up == 0", "for": "5m" })).is_ok());
        assert!(rules(json!({ "alert": "A" })).is_err());
        assert!(rules(json!({ "alert": "A", "expr": "up == 0", "four": "5m" })).is_err());
        assert!(rules(json!({ "alert": "A", "expr": "up == 0", "for": "five" })).is_err());
        assert!(rules(json!({ "alert": "A", "expr": 1 })).is_err());
    }
}
