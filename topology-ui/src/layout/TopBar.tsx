import { Menu, SegmentedControl, Tooltip } from "@mantine/core";
import { formatWindow } from "../graph/format";
import { Icon } from "../parts/Icon";
import { useServices, useView } from "../state/context";
import { useTheme } from "../state/theme";
import { windows } from "../state/view";
import { SearchBox } from "./SearchBox";

export function TopBar() {
  const { history } = useServices();
  const { windowSeconds, layout } = useView();
  const { scheme, toggle } = useTheme();
  const other = scheme === "dark" ? "light" : "dark";
  return (
    <header className="topbar">
      <a className="brand" href="/" aria-label="telemesh, start page">
        <img src="/favicon.svg" width={26} height={26} alt="" />
        <span>tele<b>mesh</b></span>
      </a>
      <SearchBox />
      <div className="topbar-tools">
        <SegmentedControl
          size="xs"
          aria-label="Window of rates and percentiles"
          value={String(windowSeconds)}
          onChange={(value) => history.change({ windowSeconds: Number(value) })}
          data={windows.map((s) => ({ value: String(s), label: formatWindow(s).replace(" ", "").replace("min", "m") }))}
        />
        <SegmentedControl
          size="xs"
          aria-label="View"
          value={layout}
          onChange={(value) => history.change({ layout: value })}
          data={[
            { value: "graph", label: <span className="with-icon"><Icon name="graph" size={14} />Graph</span> },
            { value: "table", label: <span className="with-icon"><Icon name="table" size={14} />Table</span> },
          ]}
        />
        <Tooltip label={`Use the ${other} theme`} withArrow>
          <button type="button" className="tool" aria-label={`Use the ${other} theme`} onClick={toggle}>
            <Icon name={scheme === "dark" ? "sun" : "moon"} />
          </button>
        </Tooltip>
        <HelpMenu />
      </div>
    </header>
  );
}

const shortcuts: readonly (readonly [string, string])[] = [
  ["/", "search for a request"],
  ["Esc", "close the panel"],
  ["← ↑ ↓ →", "walk along the traffic"],
  ["+ − 0", "zoom, fit to view"],
];

function HelpMenu() {
  return (
    <Menu position="bottom-end" width={270} shadow="md" withArrow>
      <Menu.Target>
        <button type="button" className="tool" aria-label="Help and other views of this data">
          <Icon name="help" />
        </button>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Label>The same data elsewhere</Menu.Label>
        <Menu.Item component="a" href="/metrics" target="_blank">Metrics (Prometheus text)</Menu.Item>
        <Menu.Item component="a" href="/api/mesh/v1/status" target="_blank">Hub status (JSON)</Menu.Item>
        <Menu.Item component="a" href="/api/mesh/v1/policies" target="_blank">Policies in force (JSON)</Menu.Item>
        <Menu.Label>Grafana</Menu.Label>
        <p className="menu-note">Add this hub as a Prometheus data source, URL <code>{window.location.origin}</code>. <code>meshctl dashboard grafana</code> prints every step.</p>
        <Menu.Label>Keys</Menu.Label>
        <dl className="menu-keys">
          {shortcuts.map(([key, what]) => <div key={key}><dt><kbd>{key}</kbd></dt><dd>{what}</dd></div>)}
        </dl>
      </Menu.Dropdown>
    </Menu>
  );
}
