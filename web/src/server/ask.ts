/** One way to ask the service: with the key, and with errors as sentences. */

import { key, refuse } from "./key";

/** What the service says of a refusal (RFC 9457), or what is known if it said nothing. */
export class Problem extends Error {
  constructor(
    /** A sentence. */
    detail: string,
    /** Stable name, such as `queue_full`; `unreachable` if nobody answered. */
    readonly code: string,
    readonly status: number,
    readonly retryable: boolean,
    /** Seconds to wait before it is worth asking again, if the service said so. */
    readonly retryAfter: number | undefined,
    readonly requestId: string | undefined,
  ) {
    super(detail);
  }
}

/** The address of a route, relative to the page, so that the service may stand behind a path of its own. */
export function address(route: string): string {
  return new URL(route.replace(/^\//, ""), document.baseURI).href;
}

/** Asks; throws a Problem for every answer that is none. */
export async function ask(route: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  const asked = key.value;
  if (asked) {
    headers.set("X-Internal-API-Key", asked);
  }
  let response: Response;
  try {
    response = await fetch(address(route), { ...init, headers, cache: "no-store", credentials: "omit" });
  } catch (error) {
    if (init.signal?.aborted) {
      throw error;
    }
    throw unreachable();
  }
  if (response.ok) {
    return response;
  }
  const problem = problemOf(await response.json().catch(() => ({})), response);
  if (problem.status === 401) {
    refuse(asked, asked ? "The service did not take that key." : "");
  }
  throw problem;
}

/** Asks, and reads the answer as JSON. */
export async function read<T>(route: string, init?: RequestInit): Promise<T> {
  return (await ask(route, init)).json() as Promise<T>;
}

export function unreachable(): Problem {
  return new Problem("The service cannot be reached.", "unreachable", 0, true, undefined, undefined);
}

/** A problem from its body, of an answer or of an event in a stream. */
export function problemOf(body: unknown, response?: Response): Problem {
  const fields = (typeof body === "object" && body !== null ? body : {}) as Record<string, unknown>;
  const text = (name: string) => (typeof fields[name] === "string" ? fields[name] : undefined);
  const status = response?.status ?? Number(fields["status"] ?? 500);
  const after = Number(response?.headers.get("Retry-After") ?? fields["retry_after"] ?? NaN);
  return new Problem(
    text("detail") ?? text("error") ?? `The service answered with status ${status} and no reason.`,
    text("code") ?? "unknown",
    status,
    fields["retryable"] === true || status === 503,
    Number.isFinite(after) ? after : undefined,
    text("request_id") ?? response?.headers.get("X-Request-Id") ?? undefined,
  );
}
