/** What the documents cannot say: headers that matter, and a request that works as it stands. */

import type { Operation } from "./document";

export interface HeaderNote {
  name: string;
  says: string;
  /** Shown as a field of the form. */
  canBeTried: boolean;
}

const KEY: HeaderNote = { name: "X-Internal-API-Key", says: "A key of the service; Authorization: Bearer takes it too.", canBeTried: false };
const REQUEST_ID: HeaderNote = { name: "X-Request-Id", says: "A name for the request, which the answer and the log repeat.", canBeTried: true };
const SEED: HeaderNote = { name: "X-Seed", says: "Fixes the draw: the same seed gives the same answer. 0 to 18446744073709551615.", canBeTried: true };
const IF_MATCH: HeaderNote = { name: "If-Match", says: 'Swaps only if weights of this identity serve, in quotes; "*" for any.', canBeTried: true };
const PREFER: HeaderNote = { name: "Prefer", says: "wait=N: how many seconds to wait for the end before a 202 says that it goes on.", canBeTried: true };

const HEADERS: Record<string, HeaderNote[]> = {
  "/generate": [SEED],
  "/models/swap": [IF_MATCH, PREFER],
};

/** The headers that an operation heeds. */
export function headersOf({ path, needsKey }: Operation): HeaderNote[] {
  return [...(needsKey ? [KEY] : []), ...(HEADERS[path] ?? []), REQUEST_ID];
}

const HELLO = [{ role: "user", content: "What is samosa chaat?" }];

/** Bodies that work as they stand, with the model that serves. */
export function bodyOf({ path }: Operation, model: string): unknown {
  const bodies: Record<string, unknown> = {
    "/generate": { messages: HELLO, temperature: 0, max_tokens: 64 },
    "/models/swap": { model_tag: model },
    "/v1/chat/completions": { model, messages: HELLO, max_tokens: 64, stream: true },
    "/v1/completions": { model, prompt: "Once upon a time", max_tokens: 32 },
    "/tokenize": { model, prompt: "Once upon a time" },
    "/detokenize": { model, tokens: [72, 105] },
  };
  return bodies[path];
}

/** Fields whose bounds are the service's and not the contract's. */
export const BOUNDS: Record<string, string> = {
  "/generate messages": "1 to 500, 32,000 characters together",
  "/generate content": "1 to 8,000 characters",
  "/generate role": "user and assistant in turn; system may lead",
  "/generate temperature": "0 to 2; 0 takes the likeliest token",
  "/generate top_k": "0 to 200; 0 keeps all",
  "/generate max_tokens": "1 to 4096",
};

/** What changes the service for everybody. */
export const isGrave = ({ path }: Operation): boolean => path === "/models/swap";
