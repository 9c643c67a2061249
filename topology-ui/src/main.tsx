import "@fontsource-variable/inter/index.css";
import "@fontsource-variable/jetbrains-mono/index.css";
import "@mantine/core/styles.css";
import "uplot/dist/uPlot.min.css";
import "./styles/tokens.css";
import "./styles/app.css";
import "./styles/canvas.css";
import "./styles/panel.css";
import "./styles/request.css";
import "./styles/table.css";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./App";
import { GraphStore } from "./graph/store";
import { GraphConnection } from "./live/connection";
import { ServicesContext, type Services } from "./state/context";
import { ViewHistory } from "./state/history";
import { Hover } from "./state/hover";

const store = new GraphStore();
const services: Services = {
  store,
  connection: new GraphConnection(store),
  history: new ViewHistory(window),
  hover: new Hover(),
};
const queries = new QueryClient({
  defaultOptions: { queries: { retry: false, staleTime: 1_000, refetchOnWindowFocus: false } },
});

const root = document.getElementById("root");
if (root === null) throw new Error("index.html lacks #root");
createRoot(root).render(
  <StrictMode>
    <ServicesContext value={services}>
      <QueryClientProvider client={queries}>
        <App />
      </QueryClientProvider>
    </ServicesContext>
  </StrictMode>,
);
