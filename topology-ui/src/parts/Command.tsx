import { CopyText } from "./CopyText";

/** A command line to run next, ready to copy. */
export function Command({ line, label }: { line: string; label: string }) {
  return (
    <span className="command">
      <span className="command-prompt" aria-hidden="true">$</span>
      <code>{line}</code>
      <CopyText text={line} label={label} />
    </span>
  );
}
