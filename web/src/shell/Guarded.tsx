/** A part of the page that may fail by itself: the rest goes on, and its place says what happened. */

import type { ComponentChildren } from "preact";
import { useErrorBoundary, useLayoutEffect, useRef } from "preact/hooks";

/** `of` names what is shown; when that changes it is shown anew. */
export function Guarded({ of, children }: { of: string; children: ComponentChildren }) {
  const failed = useRef<string | null>(null);
  const [error, forget] = useErrorBoundary((error) => {
    failed.current = of;
    console.error(error);
  });
  useLayoutEffect(() => {
    if (failed.current !== null && failed.current !== of) {
      failed.current = null;
      forget();
    }
  }, [of]);
  if (error === undefined) {
    return <>{children}</>;
  }
  return (
    <div class="notice mistake" role="alert">
      <strong>This cannot be shown.</strong>
      <p>The page made a mistake: {error instanceof Error ? error.message : String(error)}. Everything else goes on, and what is kept can be exported.</p>
    </div>
  );
}
