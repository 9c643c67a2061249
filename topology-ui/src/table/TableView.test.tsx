import { act, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { expect, it } from "vitest";
import { edge, graph, node, signals } from "../test/fixtures";
import { renderPage } from "../test/render";
import { TableView } from "./TableView";

it("lists the edges and sorts them by the chosen column", async () => {
  const { services } = renderPage(<TableView />);
  act(() =>
    services.store.setGraph(
      graph([node("a"), node("b"), node("c")], [edge("1", "a", "b", { signals: signals({ rate: 1 }) }), edge("2", "b", "c", { signals: signals({ rate: 5, p95: 3 }) })]),
    ),
  );
  const sources = () => screen.getAllByRole("row").slice(1).map((r) => r.querySelectorAll("td")[1]?.textContent);
  expect(sources()).toEqual(["b", "a"]);
  await userEvent.click(screen.getByRole("button", { name: "p95" }));
  expect(sources()).toEqual(["a", "b"]);
  expect(screen.getByRole("columnheader", { name: "p95" }).getAttribute("aria-sort")).toBe("descending");
  await userEvent.click(screen.getByRole("button", { name: "Source" }));
  expect(screen.getByRole("columnheader", { name: "Source" }).getAttribute("aria-sort")).toBe("ascending");
});
