/** The figures of this moment, large enough to be read across a room. */

import { bytes, duration, number } from "../shell/words";
import type { Stats } from "../server/stats";

export function Now({ stats }: { stats: Stats }) {
  const { kv_pages, prefix_cache, queue, limits } = stats;
  const places = limits.running_requests * Math.max(stats.total_workers, 1);
  const figures: [string, string, string][] = [
    ["Tokens per second", number(stats.tokens_per_second["10s"]), `${number(stats.tokens_per_second["60s"])} over a minute`],
    ["Being answered", number(stats.running), `of ${number(places)} places`],
    ["Waiting", number(queue.requests), `${number(queue.tokens)} tokens`],
    ["First token, p95", stats.time_to_first_token_ms ? duration(stats.time_to_first_token_ms.p95) : "–", stats.time_to_first_token_ms ? `median ${duration(stats.time_to_first_token_ms.p50)}` : "nobody asked yet"],
    ["Memory", bytes(stats.memory_bytes["resident"] ?? 0), stats.memory_available_bytes === null ? "" : `${bytes(stats.memory_available_bytes)} free`],
    ["KV pages", `${number(kv_pages.total > 0 ? Math.round((100 * kv_pages.used) / kv_pages.total) : 0)}\u202f%`, `${number(kv_pages.used)} of ${number(kv_pages.total)}`],
    ["Prefix hits", prefix_cache.queries > 0 ? `${number(Math.round(100 * prefix_cache.hit_rate))}\u202f%` : "–", `${number(prefix_cache.pages)} pages kept`],
    ["Up", duration(stats.uptime_s * 1000), `${stats.version} · ${stats.isa} × ${stats.threads}`],
  ];
  return (
    <dl class="now figures">
      {figures.map(([name, value, beside]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
          <dd class="soft small">{beside}</dd>
        </div>
      ))}
    </dl>
  );
}
