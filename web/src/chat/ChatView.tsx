export function ChatView() {
  return (
    <div class="page">
      <h1>Chat</h1>
    </div>
  );
}
