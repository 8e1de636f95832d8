/** One streamed answer: `POST /generate`, read event by event. */

import { ask, Problem, unreachable } from "./ask";
import { lines } from "./lines";

export interface Message {
  role: "system" | "user" | "assistant";
  content: string;
}

/** What may be asked for; what is left out is the service's own default. */
export interface Sampling {
  temperature?: number;
  top_k?: number;
  max_tokens?: number;
}

/** The last event of a whole answer. */
export interface Done {
  finish_reason: "stop" | "length";
  model_tag: string;
  weights: string;
  seed: number;
  usage: { prompt_tokens: number; cached_tokens: number; completion_tokens: number };
  timings_ms: { queue: number; prefill: number; decode: number };
  dropped_messages?: number;
}

export interface Question extends Sampling {
  messages: Message[];
  seed?: string;
  signal: AbortSignal;
}

interface Frame {
  token?: string;
  done?: boolean;
  error?: { code: string; message: string; retryable: boolean };
}

/** Streams an answer's text to `heard`, several tokens at once if they came at once. */
export async function generate(question: Question, heard: (text: string, tokens: number) => void): Promise<Done> {
  const { messages, seed, signal, ...sampling } = question;
  const headers = new Headers({ "Content-Type": "application/json", Accept: "text/event-stream" });
  if (seed) {
    headers.set("X-Seed", seed);
  }
  const body = JSON.stringify({ messages, ...sampling });
  const response = await ask("/generate", { method: "POST", headers, body, signal });
  if (!response.body) {
    throw unreachable();
  }
  for await (const batch of batches(response.body, signal)) {
    let text = "";
    let tokens = 0;
    for (const frame of batch) {
      if (frame.error) {
        const { code, message, retryable } = frame.error;
        throw new Problem(message, code, response.status, retryable, undefined, requestId(response));
      }
      if (frame.done) {
        if (tokens > 0) {
          heard(text, tokens);
        }
        return frame as unknown as Done;
      }
      if (frame.token !== undefined) {
        text += frame.token;
        tokens += 1;
      }
    }
    if (tokens > 0) {
      heard(text, tokens);
    }
  }
  throw new Problem("The stream ended before the answer did.", "broken_stream", response.status, true, undefined, requestId(response));
}

function requestId(response: Response): string | undefined {
  return response.headers.get("X-Request-Id") ?? undefined;
}

/** The frames of each piece that the network brings. */
async function* batches(body: ReadableStream<Uint8Array>, signal: AbortSignal): AsyncGenerator<Frame[]> {
  try {
    for await (const batch of lines(body)) {
      yield batch.filter((line) => line.startsWith("data: ")).map((line) => JSON.parse(line.slice(6)) as Frame);
    }
  } catch (error) {
    if (signal.aborted) {
      throw error;
    }
    throw new Problem("The connection broke while the answer was being written.", "broken_stream", 0, true, undefined, undefined);
  }
}
