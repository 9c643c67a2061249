import { createTheme, MantineProvider } from "@mantine/core";
import { useEffect } from "react";
import { GraphCanvas } from "./canvas/GraphCanvas";
import { Banner } from "./layout/Banner";
import { EmptyState } from "./layout/EmptyState";
import { MeshStrip } from "./layout/MeshStrip";
import { TopBar } from "./layout/TopBar";
import { useSituation } from "./layout/useSituation";
import { SidePanel } from "./panel/SidePanel";
import { useServices, useView } from "./state/context";
import { useTheme } from "./state/theme";
import { TableView } from "./table/TableView";

const theme = createTheme({
  primaryColor: "indigo",
  fontFamily: "'Inter Variable', system-ui, sans-serif",
  fontFamilyMonospace: "'JetBrains Mono Variable', ui-monospace, monospace",
  defaultRadius: "md",
  cursorType: "pointer",
});

// The hub writes a fresh nonce into the page; without one (vite's dev server)
// there is no policy that would ask for it.
function styleNonce(): string {
  return document.querySelector<HTMLMetaElement>('meta[property="csp-nonce"]')?.nonce ?? "";
}

export function App() {
  const { scheme } = useTheme();
  useGraphStream();
  useEscape();
  return (
    <MantineProvider theme={theme} forceColorScheme={scheme} getStyleNonce={styleNonce}>
      <div className="app">
        <TopBar />
        <MeshStrip />
        <Body />
      </div>
    </MantineProvider>
  );
}

function Body() {
  const { layout, selection } = useView();
  const situation = useSituation();
  const empty = situation.kind !== "graph" && situation.kind !== "banner";
  return (
    <div className="body" data-panel={selection.kind}>
      <main className="stage">
        {situation.kind === "banner" && <Banner notice={situation} />}
        {empty ? <EmptyState situation={situation} /> : layout === "table" ? <TableView /> : <GraphCanvas />}
      </main>
      <SidePanel />
    </div>
  );
}

function useGraphStream(): void {
  const { connection } = useServices();
  const { windowSeconds } = useView();
  useEffect(() => {
    connection.open(windowSeconds);
    return () => connection.close();
  }, [connection, windowSeconds]);
}

/** Escape closes the panel, unless it already closed something smaller. */
function useEscape(): void {
  const { history } = useServices();
  useEffect(() => {
    const close = (e: KeyboardEvent) => {
      const typing = e.target instanceof HTMLInputElement;
      if (e.key === "Escape" && !e.defaultPrevented && !typing) {
        history.change({ selection: { kind: "none" } });
      }
    };
    window.addEventListener("keydown", close);
    return () => window.removeEventListener("keydown", close);
  }, [history]);
}
