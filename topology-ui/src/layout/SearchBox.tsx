import { Autocomplete } from "@mantine/core";
import { useEffect, useRef, useState, type SubmitEvent } from "react";
import type { Node } from "../api/types_gen";
import { looksLikeID, normaliseID } from "../graph/request";
import { Icon } from "../parts/Icon";
import { useServices, useView } from "../state/context";

/**
 * Finds a request by any of its IDs, or goes to a workload by name. What is in
 * the box follows the URL, so a shared link shows what was asked.
 */
export function SearchBox() {
  const { history, store } = useServices();
  const { selection } = useView();
  const asked = selection.kind === "request" ? selection.id : "";
  const [text, setText] = useState(asked);
  const [shownFor, setShownFor] = useState(asked);
  const input = useRef<HTMLInputElement>(null);
  useSlash(input);
  if (asked !== shownFor) {
    setShownFor(asked);
    setText(asked);
  }
  const nodes = text.trim() === "" || looksLikeID(text) ? [] : store.allNodes().map((n) => n.id);

  const go = (value: string) => {
    const node = nodeNamed(value, store.allNodes());
    if (node !== null) {
      setText("");
      history.change({ selection: { kind: "node", id: node } });
    } else if (value.trim() !== "") {
      history.change({ selection: { kind: "request", id: normaliseID(value) } });
    }
    input.current?.blur();
  };
  const submit = (e: SubmitEvent) => {
    e.preventDefault();
    go(text);
  };
  return (
    <form className="search" role="search" onSubmit={submit}>
      <Autocomplete
        ref={input}
        size="sm"
        aria-label="Find a request by its ID"
        placeholder="request ID, trace ID or traceparent"
        leftSection={<Icon name="search" />}
        rightSection={<kbd className="search-key">/</kbd>}
        value={text}
        onChange={setText}
        onOptionSubmit={go}
        data={nodes}
        limit={8}
        spellCheck={false}
        autoComplete="off"
        comboboxProps={{ shadow: "md" }}
      />
    </form>
  );
}

/** The node that the text can only mean: its ID, or part of the name of exactly one. */
function nodeNamed(text: string, nodes: readonly Node[]): string | null {
  const name = text.trim();
  if (name === "" || looksLikeID(name)) return null;
  const exact = nodes.find((n) => n.id === name || n.workload === name);
  const partly = nodes.filter((n) => n.id.includes(name));
  return exact?.id ?? (partly.length === 1 ? (partly[0]?.id ?? null) : null);
}

/** "/" moves to the box from anywhere but another field. */
function useSlash(input: React.RefObject<HTMLInputElement | null>): void {
  useEffect(() => {
    const focus = (e: KeyboardEvent) => {
      const typing = e.target instanceof HTMLInputElement || e.target instanceof HTMLTextAreaElement;
      if (e.key === "/" && !typing && !e.ctrlKey && !e.metaKey) {
        e.preventDefault();
        input.current?.focus();
        input.current?.select();
      }
    };
    window.addEventListener("keydown", focus);
    return () => window.removeEventListener("keydown", focus);
  }, [input]);
}
