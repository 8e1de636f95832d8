//! Parameter names: nanochat's own, and what other exporters call them.

/// nanochat's name of a tensor of the Hugging Face `NanoChatForCausalLM` class (generation G0 only), or the
/// name as it is. Prefixes such as `model.` are stripped by then.
pub(crate) fn native(name: &str) -> String {
    if name == "embed_tokens.weight" {
        return "transformer.wte.weight".to_owned();
    }
    let Some((layer, rest)) = name.strip_prefix("layers.").and_then(|rest| rest.split_once('.')) else {
        return name.to_owned();
    };
    let part = match rest {
        "self_attn.q_proj.weight" => "attn.c_q.weight",
        "self_attn.k_proj.weight" => "attn.c_k.weight",
        "self_attn.v_proj.weight" => "attn.c_v.weight",
        "self_attn.o_proj.weight" => "attn.c_proj.weight",
        "mlp.fc1.weight" => "mlp.c_fc.weight",
        "mlp.fc2.weight" => "mlp.c_proj.weight",
        _ => return name.to_owned(),
    };
    format!("transformer.h.{layer}.{part}")
}

/// What a nanochat parameter name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Parameter {
    /// One per model.
    Global,
    /// One in every layer.
    Layer(usize),
    /// Only in layers with value embeddings: the gate.
    ValueGate(usize),
    /// Only for layers with value embeddings: the table.
    ValueEmbedding(usize),
}

/// Reads a native name; `None` for a parameter that no supported generation has.
pub(crate) fn parse(name: &str) -> Option<Parameter> {
    const GLOBAL: [&str; 7] = [
        "transformer.wte.weight",
        "lm_head.weight",
        "resid_lambdas",
        "x0_lambdas",
        "smear_gate.weight",
        "smear_lambda",
        "backout_lambda",
    ];
    if GLOBAL.contains(&name) {
        return Some(Parameter::Global);
    }
    if let Some(layer) = name.strip_prefix("value_embeds.").and_then(|rest| rest.strip_suffix(".weight")) {
        return layer.parse().ok().map(Parameter::ValueEmbedding);
    }
    let (layer, part) = name.strip_prefix("transformer.h.")?.split_once('.')?;
    let layer = layer.parse().ok()?;
    match part {
        "attn.c_q.weight" | "attn.c_k.weight" | "attn.c_v.weight" | "attn.c_proj.weight"
        | "mlp.c_fc.weight" | "mlp.c_proj.weight" => Some(Parameter::Layer(layer)),
        "attn.ve_gate.weight" => Some(Parameter::ValueGate(layer)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hugging_face_names_become_native_and_strangers_stay_unknown() {
        assert_eq!(native("layers.11.mlp.fc2.weight"), "transformer.h.11.mlp.c_proj.weight");
        assert_eq!(parse(&native("embed_tokens.weight")), Some(Parameter::Global));
        assert_eq!(parse("value_embeds.3.weight"), Some(Parameter::ValueEmbedding(3)));
        for stranger in
            ["transformer.h.0.mlp.router.gate.weight", "value_embed.weight", "v0_lambdas", "layers.1.norm"]
        {
            assert_eq!(parse(&native(stranger)), None, "{stranger}");
        }
    }
}
