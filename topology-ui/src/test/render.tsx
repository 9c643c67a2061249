import { MantineProvider } from "@mantine/core";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { render, type RenderResult } from "@testing-library/react";
import type { ReactNode } from "react";
import { GraphStore } from "../graph/store";
import { GraphConnection } from "../live/connection";
import { ServicesContext, type Services } from "../state/context";
import { ViewHistory } from "../state/history";
import { Hover } from "../state/hover";

/** Renders below the providers of main, with an address of its own and a hub that never answers. */
export function renderPage(children: ReactNode, address = "/"): RenderResult & { services: Services } {
  window.history.replaceState(null, "", address);
  const store = new GraphStore();
  const connection = new GraphConnection(store, { fetch: () => new Promise(() => undefined) });
  const services: Services = { store, connection, history: new ViewHistory(window), hover: new Hover() };
  const queries = new QueryClient({ defaultOptions: { queries: { retry: false } } });
  const result = render(
    <ServicesContext value={services}>
      <QueryClientProvider client={queries}>
        <MantineProvider env="test">{children}</MantineProvider>
      </QueryClientProvider>
    </ServicesContext>,
  );
  return { ...result, services };
}

/** A fetch that answers each path (without its query) with JSON, and 404 where nothing is given. */
export function answering(answers: Readonly<Record<string, unknown>>): typeof fetch {
  return (input) => {
    const path = new URL(input instanceof Request ? input.url : input, "http://hub").pathname.replace("/api/mesh/v1", "");
    const body = answers[path];
    return Promise.resolve(
      body === undefined
        ? Response.json({ error: "no request with this ID", hint: "Look at the hub's retention." }, { status: 404 })
        : Response.json(body),
    );
  };
}
