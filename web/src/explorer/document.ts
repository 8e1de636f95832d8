/** An OpenAPI document, as far as the explorer reads it: operations with everything that their references name. */

export interface Schema {
  $ref?: string;
  type?: string | string[];
  description?: string;
  properties?: Record<string, Schema>;
  required?: string[];
  additionalProperties?: boolean | Schema;
  items?: Schema;
  enum?: unknown[];
  const?: unknown;
  default?: unknown;
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  format?: string;
  anyOf?: Schema[];
  oneOf?: Schema[];
  allOf?: Schema[];
  examples?: unknown[];
}

interface Content {
  schema?: Schema;
  example?: unknown;
}

interface Response {
  $ref?: string;
  description?: string;
  content?: Record<string, Content>;
}

export interface Parameter {
  name: string;
  in: "header" | "path" | "query";
  required?: boolean;
  description?: string;
  schema?: Schema;
}

interface RawOperation {
  summary?: string;
  description?: string;
  parameters?: Parameter[];
  requestBody?: { content?: Record<string, Content> };
  responses?: Record<string, Response>;
  security?: unknown[];
}

export interface Document {
  info: { title: string; description?: string };
  security?: unknown[];
  paths: Record<string, Record<string, RawOperation>>;
  components?: { schemas?: Record<string, Schema>; responses?: Record<string, Response> };
}

export interface Answer {
  status: string;
  description: string;
  contents: [type: string, schema: Schema | undefined][];
}

export interface Operation {
  /** Of its place on the page, such as `post-models-swap`. */
  id: string;
  method: string;
  path: string;
  summary: string;
  description: string;
  parameters: Parameter[];
  body: Schema | undefined;
  answers: Answer[];
  needsKey: boolean;
}

const METHODS = ["get", "post", "put", "delete"];

/** The operations of a document, in its order. */
export function operations(document: Document): Operation[] {
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods)
      .filter(([method]) => METHODS.includes(method))
      .map(([method, raw]) => operation(document, { method, path, raw })),
  );
}

function operation(document: Document, { method, path, raw }: { method: string; path: string; raw: RawOperation }): Operation {
  const answers = Object.entries(raw.responses ?? {}).map(([status, response]): Answer => {
    const { description = "", content = {} } = response.$ref ? (at(document, response.$ref) as Response) : response;
    return { status, description, contents: Object.entries(content).map(([type, { schema }]) => [type, schema]) };
  });
  return {
    id: `${method}${path.replace(/[^A-Za-z0-9]+/g, "-").replace(/-$/, "")}`,
    method,
    path,
    summary: raw.summary ?? "",
    description: raw.description ?? "",
    parameters: raw.parameters ?? [],
    body: raw.requestBody?.content?.["application/json"]?.schema,
    answers,
    needsKey: (raw.security ?? document.security ?? []).length > 0,
  };
}

/** What a reference within the document names; nothing if it leads nowhere. */
export function at(document: Document, reference: string): unknown {
  const steps = reference.replace(/^#\//, "").split("/");
  return steps.reduce<unknown>((here, step) => (here as Record<string, unknown> | undefined)?.[step.replaceAll("~1", "/").replaceAll("~0", "~")], document) ?? {};
}

/** A schema behind its references. */
export function resolved(document: Document, schema: Schema): Schema {
  let here = schema;
  for (let steps = 0; here.$ref && steps < 16; steps += 1) {
    here = at(document, here.$ref) as Schema;
  }
  return here;
}
