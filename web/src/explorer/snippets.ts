/** The same request in other tongues. The key is a name in all of them. */

import type { Operation } from "./document";

export interface Asked {
  operation: Operation;
  /** The address of the service, without a slash at its end. */
  base: string;
  /** The path with its parameters filled in. */
  path: string;
  body: unknown;
}

const INDENT = 2;

export function curl({ operation, base, path, body }: Asked): string {
  const lines = [`curl ${isStream(operation, body) ? "-N " : ""}${base}${path}`];
  if (operation.needsKey) {
    lines.push('-H "X-Internal-API-Key: $KEY"');
  }
  if (body !== undefined) {
    lines.push("-H 'Content-Type: application/json'", `-d '${JSON.stringify(body).replaceAll("'", "'\\''")}'`);
  }
  return lines.join(" \\\n  ");
}

export function python({ operation, base, path, body }: Asked): string {
  const headers = operation.needsKey ? '{"X-Internal-API-Key": KEY}' : "None";
  const streams = isStream(operation, body);
  const parts = [`"${base}${path}"`, `headers=${headers}`];
  if (body !== undefined) {
    parts.push(`json=${pythonValue(body)}`);
  }
  if (streams) {
    parts.push("stream=True");
  }
  const call = `answer = requests.${operation.method}(\n    ${parts.join(",\n    ")},\n)`;
  const rest = streams ? "for line in answer.iter_lines(decode_unicode=True):\n    print(line)" : "print(answer.json())";
  return `import requests\n\n${call}\n${rest}`;
}

export function javascript({ operation, base, path, body }: Asked): string {
  const headers = [
    ...(operation.needsKey ? ['"X-Internal-API-Key": KEY'] : []),
    ...(body === undefined ? [] : ['"Content-Type": "application/json"']),
  ];
  const options = [`method: "${operation.method.toUpperCase()}"`, `headers: { ${headers.join(", ")} }`];
  if (body !== undefined) {
    options.push(`body: JSON.stringify(${JSON.stringify(body, null, INDENT).replaceAll("\n", "\n  ")})`);
  }
  const rest = isStream(operation, body)
    ? "for await (const text of answer.body.pipeThrough(new TextDecoderStream())) {\n  console.log(text);\n}"
    : "console.log(await answer.json());";
  return `const answer = await fetch("${base}${path}", {\n  ${options.join(",\n  ")},\n});\n${rest}`;
}

/** Whether the answer comes bit by bit. */
export function isStream({ path }: Operation, body: unknown): boolean {
  return path === "/generate" || (body as { stream?: unknown } | undefined)?.stream === true;
}

/** A value of JSON as Python writes it. */
function pythonValue(value: unknown): string {
  const names: Record<string, string> = { true: "True", false: "False", null: "None" };
  if (Array.isArray(value)) {
    return `[${value.map(pythonValue).join(", ")}]`;
  }
  if (typeof value === "object" && value !== null) {
    return `{${Object.entries(value)
      .map(([name, inner]) => `${JSON.stringify(name)}: ${pythonValue(inner)}`)
      .join(", ")}}`;
  }
  const text = JSON.stringify(value) ?? "None";
  return names[text] ?? text;
}
