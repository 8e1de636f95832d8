/** How answers ended, and what was refused, since the service began. */

import type { Stats } from "../server/stats";
import { group } from "../shell/words";

const ENDS: Record<string, string> = {
  stop: "complete",
  length: "cut at their longest length",
  client_gone: "left by their reader",
  slow_client: "read too slowly",
  queue_timeout: "waited too long",
  deadline: "took too long",
  aborted: "ended by a stop of the service",
  error: "failed",
};

export function Counts({ stats }: { stats: Stats }) {
  return (
    <div class="counts">
      <List title="Answers" counts={stats.requests} name={(kind) => ENDS[kind] ?? kind} />
      <List title="Refusals" counts={stats.refusals} name={(code) => code} />
    </div>
  );
}

function List({ title, counts, name }: { title: string; counts: Record<string, number>; name: (kind: string) => string }) {
  const found = Object.entries(counts).filter(([, count]) => count > 0);
  return (
    <section class="card" aria-label={title}>
      <h2>{title}</h2>
      {found.length === 0 ? (
        <p class="soft">None yet.</p>
      ) : (
        <ul class="figures">
          {found.map(([kind, count]) => (
            <li key={kind}>
              <span>{name(kind)}</span>
              <strong>{group(count)}</strong>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}
