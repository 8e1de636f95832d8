//! The resources of the Prometheus operator, as far as we use them: which fields there are, and of which kind.

use anyhow::{Context as _, bail};
use serde_json::Value;

/// What a value may be.
enum ResourceShape {
    Text,
    /// A duration such as `15s`.
    Time,
    /// A map of texts.
    Texts,
    /// A list of one shape.
    List(&'static ResourceShape),
    /// Fields, and whether each has to be there.
    Fields(&'static [(&'static str, bool, ResourceShape)]),
}

const REQUIRED: bool = true;
const OPTIONAL: bool = false;

const SERVICE_MONITOR: ResourceShape = ResourceShape::Fields(&[
    ("selector", REQUIRED, ResourceShape::Fields(&[("matchLabels", REQUIRED, ResourceShape::Texts)])),
    (
        "endpoints",
        REQUIRED,
        ResourceShape::List(&ResourceShape::Fields(&[
            ("port", REQUIRED, ResourceShape::Text),
            ("path", OPTIONAL, ResourceShape::Text),
            ("scheme", OPTIONAL, ResourceShape::Text),
            ("interval", OPTIONAL, ResourceShape::Time),
            ("scrapeTimeout", OPTIONAL, ResourceShape::Time),
            (
                "relabelings",
                OPTIONAL,
                ResourceShape::List(&ResourceShape::Fields(&[
                    ("targetLabel", REQUIRED, ResourceShape::Text),
                    ("replacement", REQUIRED, ResourceShape::Text),
                ])),
            ),
        ])),
    ),
]);

const RULE: ResourceShape = ResourceShape::Fields(&[
    ("alert", OPTIONAL, ResourceShape::Text),
    ("record", OPTIONAL, ResourceShape::Text),
    ("expr", REQUIRED, ResourceShape::Text),
    ("for", OPTIONAL, ResourceShape::Time),
    ("keep_firing_for", OPTIONAL, ResourceShape::Time),
    ("labels", OPTIONAL, ResourceShape::Texts),
    ("annotations", OPTIONAL, ResourceShape::Texts),
]);

const PROMETHEUS_RULE: ResourceShape = ResourceShape::Fields(&[(
    "groups",
    REQUIRED,
    ResourceShape::List(&ResourceShape::Fields(&[
        ("name", REQUIRED, ResourceShape::Text),
        ("interval", OPTIONAL, ResourceShape::Time),
        ("rules", REQUIRED, ResourceShape::List(&RULE)),
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

fn fits(value: &Value, shape: &ResourceShape) -> anyhow::Result<()> {
    let is_so = match shape {
        ResourceShape::Text => value.is_string(),
        ResourceShape::Time => value.as_str().is_some_and(is_time),
        ResourceShape::Texts => value.as_object().is_some_and(|map| map.values().all(Value::is_string)),
        ResourceShape::List(_) => value.is_array(),
        ResourceShape::Fields(_) => value.is_object(),
    };
    if !is_so {
        bail!("{value} is of another kind");
    }
    match shape {
        ResourceShape::List(shape) => {
            let items = value.as_array().into_iter().flatten();
            items.enumerate().try_for_each(|(i, item)| fits(item, shape).with_context(|| i.to_string()))
        }
        ResourceShape::Fields(fields) => {
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
        ResourceShape::Text | ResourceShape::Time | ResourceShape::Texts => Ok(()),
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
