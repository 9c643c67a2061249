import { CopyButton, Tooltip } from "@mantine/core";
import { Icon } from "./Icon";

/** A button that copies text and says that it did. */
export function CopyText({ text, label }: { text: string; label: string }) {
  return (
    <CopyButton value={text} timeout={1500}>
      {({ copied, copy }) => (
        <Tooltip label={copied ? "Copied" : label} withArrow>
          <button type="button" className="icon-button" aria-label={copied ? "Copied" : label} onClick={copy}>
            <Icon name={copied ? "check" : "copy"} size={14} />
          </button>
        </Tooltip>
      )}
    </CopyButton>
  );
}
