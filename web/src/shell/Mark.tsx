/** The mark: a samosa, crimped at its edge. */
export function Mark({ size = 28 }: { size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 32 32" aria-hidden="true" focusable="false">
      <path
        d="M16 3.5c1.4 0 2.3.8 3.1 2.2l10 17.4c1.5 2.7.2 5.4-2.9 5.4H5.8c-3.1 0-4.4-2.7-2.9-5.4l10-17.4C13.7 4.3 14.6 3.5 16 3.5z"
        fill="var(--turmeric)"
      />
      <path
        d="M6.5 24.5c3 1.2 4.6-1.4 6.3-.6s2.7 1.7 4.4.4 3.3.9 4.8.3 2.6-.7 3.6-.2M16 9.5V16M12.8 17.5l-1.6 2.7M19.2 17.5l1.6 2.7"
        fill="none"
        stroke="#7a3b22"
        stroke-width="1.8"
        stroke-linecap="round"
      />
    </svg>
  );
}
