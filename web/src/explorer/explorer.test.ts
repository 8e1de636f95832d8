import { expect, test } from "vitest";

import { type Document, operations, type Schema } from "./document";
import { fieldsOf, kindOf } from "./fields";
import { curl, javascript, python } from "./snippets";

const document: Document = {
  info: { title: "t" },
  paths: {
    "/health": { get: { summary: "Health.", responses: { "200": { description: "ok" } } } },
    "/models/swap": {
      post: {
        security: [{ key: [] }],
        requestBody: { content: { "application/json": { schema: { $ref: "#/components/schemas/Node" } } } },
        responses: { default: { $ref: "#/components/responses/Error" } },
      },
    },
  },
  components: {
    schemas: {
      Node: {
        type: "object",
        required: ["name"],
        properties: { name: { type: "string", minLength: 1, maxLength: 9 }, next: { $ref: "#/components/schemas/Node" }, loop: { $ref: "#/components/schemas/Loop" } },
      },
      Loop: { $ref: "#/components/schemas/Loop" },
    },
    responses: { Error: { description: "why", content: { "application/json": { schema: { type: "object" } } } } },
  },
};

test("operations have names, bodies and answers behind references", () => {
  const [health, swap] = operations(document);
  expect([health?.id, health?.needsKey, swap?.id, swap?.needsKey]).toEqual(["get-health", false, "post-models-swap", true]);
  expect(swap?.answers).toEqual([{ status: "default", description: "why", contents: [["application/json", { type: "object" }]] }]);
});

test("fields have bounds, and a schema that holds itself has an end", () => {
  const [name, next] = fieldsOf(document, { $ref: "#/components/schemas/Node" });
  expect(name).toMatchObject({ name: "name", kind: "text", bounds: "1 to 9 characters", isRequired: true });
  let depth = 0;
  for (let here = next; here; here = here.fields[1]) {
    depth += 1;
  }
  expect(depth).toBe(5);
});

test("kinds are words", () => {
  const kind = (schema: Schema) => kindOf(document, schema);
  expect(kind({ type: ["number", "null"] })).toBe("number or null");
  expect(kind({ type: "array", items: { type: "integer" } })).toBe("list of whole numbers");
  expect(kind({ anyOf: [{ type: "string" }, { type: "array", items: { type: "string" } }] })).toBe("text or list of texts");
  expect(kind({ enum: ["a", "b"] })).toBe('"a" or "b"');
  expect(kind({})).toBe("anything");
});

test("snippets ask the same, with the key by name", () => {
  const [, operation] = operations(document);
  const asked = { operation: operation!, base: "http://h", path: "/models/swap", body: { model_tag: "it's", wait: true, none: null } };
  expect(curl(asked)).toBe(
    'curl http://h/models/swap \\\n  -H "X-Internal-API-Key: $KEY" \\\n  -H \'Content-Type: application/json\' \\\n  -d \'{"model_tag":"it\'\\\'\'s","wait":true,"none":null}\'',
  );
  expect(python(asked)).toContain('json={"model_tag": "it\'s", "wait": True, "none": None}');
  expect(javascript(asked)).toContain('"X-Internal-API-Key": KEY');
});
