/** A schema as rows to read: names, kinds and bounds. */

import { type Document, resolved, type Schema } from "./document";

export interface Field {
  name: string;
  kind: string;
  bounds: string;
  isRequired: boolean;
  description: string;
  fields: Field[];
}

/** How deep fields are shown; schemas that hold themselves have no end. */
const DEPTH = 5;

/** The fields of an object, or of what an array or one of several holds. */
export function fieldsOf(document: Document, schema: Schema, depth = 0): Field[] {
  const here = resolved(document, schema);
  if (depth >= DEPTH) {
    return [];
  }
  const own = Object.entries(here.properties ?? {}).map(([name, property]): Field => {
    const { description = "" } = { ...resolved(document, property), ...property };
    return {
      name,
      kind: kindOf(document, property),
      bounds: boundsOf(resolved(document, property)),
      isRequired: here.required?.includes(name) ?? false,
      description,
      fields: fieldsOf(document, property, depth + 1),
    };
  });
  const inside = [here.items, ...choices(here), ...(here.allOf ?? [])].filter((one) => one !== undefined);
  return [...own, ...inside.flatMap((one) => fieldsOf(document, one, depth + 1))];
}

function choices(schema: Schema): Schema[] {
  return schema.anyOf ?? schema.oneOf ?? [];
}

/** The kind in words: `text`, `list of numbers`, `text or nothing`. */
export function kindOf(document: Document, schema: Schema, depth = 0): string {
  const here = resolved(document, schema);
  if (here.const !== undefined) {
    return JSON.stringify(here.const);
  }
  if (here.enum) {
    return here.enum.map((value) => JSON.stringify(value)).join(" or ");
  }
  const options = choices(here);
  if (options.length > 0 && depth < DEPTH) {
    return [...new Set(options.map((option) => kindOf(document, option, depth + 1)))].join(" or ");
  }
  const types = [here.type ?? (here.properties ? "object" : "anything")].flat();
  return types.map((type) => word(document, here, { type, depth })).join(" or ");
}

function word(document: Document, schema: Schema, { type, depth }: { type: string; depth: number }): string {
  const words: Record<string, string> = { string: "text", integer: "whole number", boolean: "true or false", null: "null", object: "object" };
  if (type === "array") {
    const inner = schema.items && depth < DEPTH ? kindOf(document, schema.items, depth + 1) : "";
    return inner ? `list of ${/^(text|number|whole number|object)$/.test(inner) ? `${inner}s` : inner}` : "list";
  }
  return words[type] ?? type;
}

function boundsOf(schema: Schema): string {
  const { minimum, maximum, minLength, maxLength, minItems, maxItems } = schema;
  const range = (least: number | undefined, most: number | undefined, unit: string) => {
    if (least === undefined && most === undefined) {
      return [];
    }
    return [least === undefined ? `at most ${most}${unit}` : most === undefined ? `from ${least}${unit}` : `${least} to ${most}${unit}`];
  };
  const usual = schema.default === undefined ? [] : [`${JSON.stringify(schema.default)} by default`];
  return [...range(minimum, maximum, ""), ...range(minLength, maxLength, " characters"), ...range(minItems, maxItems, " items"), ...usual].join(", ");
}
