import "../design.css";
import "../shell/shell.css";

import { render } from "preact";

const root = document.getElementById("app");
if (root) {
  render(<h1>API</h1>, root);
}
