/** What `GET /health`, `/stats`, `/stats/history` and `/models` say, as far as the page reads it. */

export interface Health {
  status: "ok" | "loading" | "degraded" | "stalled" | "draining";
  ready: boolean;
  current_model: string | null;
  reason?: string;
}

export interface ModelInfo {
  model_tag: string;
  source: string;
  path: string;
  loaded: boolean;
}

export interface Models {
  current_model: string | null;
  models: ModelInfo[];
}

export interface Percentiles {
  p50: number;
  p95: number;
  p99: number;
}

/** One swap, running or over; `outcome` is `running`, `live` (cut over, the old one still finishes), `ok`, or how it failed. */
export interface Swap {
  swap_id: number;
  target_model: string;
  previous_model: string | null;
  mode: "overlap" | "serial" | null;
  started: number;
  phase: string;
  phase_seconds: Record<string, number>;
  outcome: string;
  reason: string | null;
  identity: string | null;
  download: {
    files_done: number;
    files_total: number;
    bytes_done: number;
    bytes_total: number;
    bytes_resumed: number;
    retries: number;
  } | null;
}

export interface Stream {
  request_id: string;
  operation: string;
  model_tag: string;
  worker: number;
  phase: "queued" | "prefill" | "decode";
  prompt_tokens: number;
  completion_tokens: number;
  max_tokens: number;
  elapsed_ms: number;
  first_token_ms: number | null;
  tokens_per_second: number | null;
}

export interface Model {
  model_tag: string;
  source: string;
  sha256: string;
  step: number | null;
  architecture: string;
  layers: number;
  width: number;
  vocabulary: number;
  sequence_len: number;
  weight_format: string;
  notes: string[];
}

export interface Stats extends Health {
  version: string;
  uptime_s: number;
  isa: string;
  threads: number;
  total_workers: number;
  tokens_per_second: { "10s": number; "60s": number };
  requests: Record<string, number>;
  refusals: Record<string, number>;
  running: number;
  queue: { requests: number; tokens: number };
  time_to_first_token_ms: Percentiles | null;
  inter_token_ms: Percentiles | null;
  kv_pages: { used: number; total: number };
  prefix_cache: { pages: number; queries: number; hits: number; hit_rate: number; evictions: number };
  speculation: { drafted_tokens: number; accepted_tokens: number };
  memory_bytes: Record<string, number>;
  memory_available_bytes: number | null;
  model: Model | null;
  retired_engines: number;
  swap: { current: Swap | null; last: Swap | null; history: Swap[] };
  streams?: { total: number; listed: Stream[] };
  limits: { messages: number; message_chars: number; conversation_chars: number; running_requests: number; queued_requests: number } & Record<string, number | boolean>;
  settings: Record<string, string>;
}

/** The last half hour, a column for each figure; `null` where there was nothing to measure. */
export interface History {
  interval_s: number;
  now: number;
  samples: Record<string, (number | null)[]> & { at: number[] };
  swaps: { swap_id: number; began: number; live: number | null; target_model: string; previous_model: string | null; outcome: string }[];
}
