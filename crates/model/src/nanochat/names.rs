//! Parameter names: nanochat's own, and those of the Hugging Face `NanoChatForCausalLM` class (version g0 only).
//! Prefixes such as `model.` are stripped by then.

use crate::Parameter;

/// Parameters outside the layers.
const GLOBAL: [(&str, Parameter); 7] = [
    ("transformer.wte.weight", Parameter::Embedding),
    ("lm_head.weight", Parameter::Head),
    ("resid_lambdas", Parameter::ResidualScales),
    ("x0_lambdas", Parameter::EmbeddingScales),
    ("smear_gate.weight", Parameter::SmearGate),
    ("smear_lambda", Parameter::SmearScale),
    ("backout_lambda", Parameter::BackoutScale),
];

/// Parameters of a layer.
const IN_LAYER: [LayerName; 7] = [
    LayerName::both("attn.c_q.weight", "self_attn.q_proj.weight", Parameter::Query),
    LayerName::both("attn.c_k.weight", "self_attn.k_proj.weight", Parameter::Key),
    LayerName::both("attn.c_v.weight", "self_attn.v_proj.weight", Parameter::Value),
    LayerName::both("attn.c_proj.weight", "self_attn.o_proj.weight", Parameter::AttentionOut),
    LayerName::both("mlp.c_fc.weight", "mlp.fc1.weight", Parameter::Up),
    LayerName::both("mlp.c_proj.weight", "mlp.fc2.weight", Parameter::Down),
    LayerName { nanochat: "attn.ve_gate.weight", hugging_face: None, parameter: Parameter::ValueGate },
];

struct LayerName {
    nanochat: &'static str,
    hugging_face: Option<&'static str>,
    /// The parameter of the layer with this index.
    parameter: fn(usize) -> Parameter,
}

impl LayerName {
    const fn both(
        nanochat: &'static str,
        hugging_face: &'static str,
        parameter: fn(usize) -> Parameter,
    ) -> Self {
        Self { nanochat, hugging_face: Some(hugging_face), parameter }
    }
}

/// nanochat's name of a parameter.
pub(crate) fn name(parameter: Parameter) -> String {
    if let Some((name, _)) = GLOBAL.iter().find(|(_, global)| *global == parameter) {
        return (*name).to_owned();
    }
    let layer = parameter.layer().unwrap_or_default();
    match IN_LAYER.iter().find(|name| (name.parameter)(layer) == parameter) {
        Some(name) => format!("transformer.h.{layer}.{}", name.nanochat),
        None => format!("value_embeds.{layer}.weight"),
    }
}

/// The parameter of a name; `None` for one that no version has.
pub(crate) fn parse(name: &str) -> Option<Parameter> {
    if let Some((_, parameter)) = GLOBAL.iter().find(|(global, _)| *global == name) {
        return Some(*parameter);
    }
    if name == "embed_tokens.weight" {
        return Some(Parameter::Embedding);
    }
    if let Some(layer) = name.strip_prefix("value_embeds.").and_then(|rest| rest.strip_suffix(".weight")) {
        return layer.parse().ok().map(Parameter::ValueEmbedding);
    }
    let in_layer = |prefix: &str| name.strip_prefix(prefix)?.split_once('.');
    if let Some((layer, part)) = in_layer("transformer.h.") {
        let name = IN_LAYER.iter().find(|name| name.nanochat == part)?;
        return layer.parse().ok().map(name.parameter);
    }
    let (layer, part) = in_layer("layers.")?;
    let name = IN_LAYER.iter().find(|name| name.hugging_face == Some(part))?;
    layer.parse().ok().map(name.parameter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_both_classes_parse_and_unknown_ones_do_not() {
        assert_eq!(parse("layers.11.mlp.fc2.weight"), Some(Parameter::Down(11)));
        assert_eq!(parse("embed_tokens.weight"), Some(Parameter::Embedding));
        assert_eq!(parse("value_embeds.3.weight"), Some(Parameter::ValueEmbedding(3)));
        for unknown in
            ["transformer.h.0.mlp.router.gate.weight", "value_embed.weight", "v0_lambdas", "layers.1.norm"]
        {
            assert_eq!(parse(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn every_parameter_has_a_name_that_parses_to_it() {
        let of_layer = IN_LAYER.iter().map(|name| (name.parameter)(7));
        let all = GLOBAL.iter().map(|(_, parameter)| *parameter).chain(of_layer);
        for parameter in all.chain([Parameter::ValueEmbedding(7)]) {
            assert_eq!(parse(&name(parameter)), Some(parameter));
        }
    }
}
