/** Why there is no whole answer, in the service's own words, and when to ask again. */

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";

import { away } from "../server/pulse";
import { Icon } from "../shell/Icon";
import type { Fault } from "./conversation";

const TITLES: Record<string, string> = {
  unreachable: "Nobody answers",
  broken_stream: "The answer broke off",
  unauthorized: "The key was not taken",
  queue_full: "The queue is full",
  queue_timeout: "The queue is too long",
  draining: "The service is stopping",
  no_model: "No model serves",
  prompt_too_long: "The conversation is too long for this model",
};

/** Faults of the way to the service, which say nothing of the service itself. */
const OF_THE_WAY = ["unreachable", "broken_stream"];

export function FaultNotice({ fault, isBusy, again }: { fault: Fault; isBusy: boolean; again: () => void }) {
  const seconds = useSecondsUntil(fault.again_at);
  // What the service refuses for good is not asked again; a new key may mend one refusal.
  const mayHelp = fault.retryable || fault.code === "unauthorized";
  const isBack = OF_THE_WAY.includes(fault.code) && !away.value;
  return (
    <div class="notice" role="alert">
      <p>
        <strong>{TITLES[fault.code] ?? "There is no answer"}.</strong> {fault.detail} {isBack && "The service is there again."}
      </p>
      <div class="actions">
        {mayHelp && (
          <button class="button small" type="button" onClick={again} disabled={isBusy || seconds > 0}>
            <Icon name="again" size={18} />
            {seconds > 0 ? `Try again in ${seconds} s` : "Try again"}
          </button>
        )}
        {fault.request_id && (
          <span class="soft small">
            Request <code>{fault.request_id.slice(0, 12)}</code>
          </span>
        )}
      </div>
    </div>
  );
}

/** Whole seconds until a moment, counted down. */
function useSecondsUntil(moment: number | null): number {
  const left = () => (moment === null ? 0 : Math.max(0, Math.ceil((moment - Date.now()) / 1000)));
  const seconds = useSignal(left());
  useEffect(() => {
    seconds.value = left();
    const timer = setInterval(() => {
      seconds.value = left();
      if (seconds.value === 0) {
        clearInterval(timer);
      }
    }, 250);
    return () => clearInterval(timer);
  }, [moment]);
  return seconds.value;
}
