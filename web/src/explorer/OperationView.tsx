/** One operation: what it wants, what it answers, how it is asked, and a way to ask it. */

import { useSignal } from "@preact/signals";

import { model } from "../server/pulse";
import { address } from "../server/ask";
import { CopyButton } from "../shell/CopyButton";
import type { Document, Operation } from "./document";
import { type Field, fieldsOf } from "./fields";
import { bodyOf, BOUNDS, headersOf } from "./notes";
import { curl, javascript, python } from "./snippets";
import { TryIt } from "./TryIt";

export function OperationView({ document, operation }: { document: Document; operation: Operation }) {
  const { id, method, path, summary, description, body, answers, needsKey, parameters } = operation;
  return (
    <article id={id} class="card operation" aria-labelledby={`${id}-title`}>
      <h2 id={`${id}-title`}>
        <span class={`method ${method}`}>{method}</span> <span class="path">{path}</span>
        {!needsKey && <span class="badge">no key</span>}
      </h2>
      <p>{summary}</p>
      {description && <p class="soft">{description}</p>}
      <h3>Headers</h3>
      <ul class="notes">
        {headersOf(operation).map(({ name, says }) => (
          <li key={name}>
            <code>{name}</code> {says}
          </li>
        ))}
        {parameters.map(({ name, description }) => (
          <li key={name}>
            <code>{`{${name}}`}</code> {description}
          </li>
        ))}
      </ul>
      {body && (
        <>
          <h3>Body</h3>
          <Fields fields={fieldsOf(document, body)} path={path} />
        </>
      )}
      <h3>Answers</h3>
      <ul class="answers">
        {answers.map((answer) => (
          <li key={answer.status}>
            <AnswerView document={document} answer={answer} path={path} />
          </li>
        ))}
      </ul>
      <Examples operation={operation} />
      <TryIt operation={operation} />
    </article>
  );
}

function AnswerView({ document, answer, path }: { document: Document; answer: Operation["answers"][number]; path: string }) {
  const { status, description, contents } = answer;
  const fields = contents.flatMap(([, schema]) => (schema ? fieldsOf(document, schema) : []));
  const head = (
    <>
      <strong class={`status ${/^[2]/.test(status) ? "good" : "bad"}`}>{status}</strong> {description} <span class="soft small">{contents.map(([type]) => type).join(", ")}</span>
    </>
  );
  if (fields.length === 0) {
    return <p>{head}</p>;
  }
  return (
    <details>
      <summary>{head}</summary>
      <Fields fields={fields} path={path} />
    </details>
  );
}

function Fields({ fields, path }: { fields: Field[]; path: string }) {
  return (
    <ul class="fields">
      {fields.map((field, i) => (
        <li key={`${field.name} ${i}`}>
          <p>
            <code>{field.name}</code> <span class="kind">{field.kind}</span>{" "}
            {field.isRequired && <span class="badge busy">required</span>} <span class="soft">{[field.bounds, BOUNDS[`${path} ${field.name}`]].filter(Boolean).join(", ")}</span>
          </p>
          {field.description && <p class="soft small">{field.description}</p>}
          {field.fields.length > 0 && <Fields fields={field.fields} path={path} />}
        </li>
      ))}
    </ul>
  );
}

const TONGUES = { curl, Python: python, JavaScript: javascript };

function Examples({ operation }: { operation: Operation }) {
  const tongue = useSignal<keyof typeof TONGUES>("curl");
  const body = bodyOf(operation, model.value ?? "samosa-mini");
  const path = operation.path.replace("{model}", model.value ?? "samosa-mini");
  const text = TONGUES[tongue.value]({ operation, base: address(".").replace(/\/$/, ""), path, body });
  return (
    <figure class="examples">
      <figcaption>
        <div role="group" aria-label="Language of the example">
          {(Object.keys(TONGUES) as (keyof typeof TONGUES)[]).map((name) => (
            <button key={name} class="button small quiet" type="button" aria-pressed={tongue.value === name} onClick={() => (tongue.value = name)}>
              {name}
            </button>
          ))}
        </div>
        <CopyButton name="Copy example" text={text} />
      </figcaption>
      <pre tabIndex={0}>
        <code>{text}</code>
      </pre>
    </figure>
  );
}
