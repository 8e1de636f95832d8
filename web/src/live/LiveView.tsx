export function LiveView() {
  return (
    <div class="page">
      <h1>Live</h1>
    </div>
  );
}
