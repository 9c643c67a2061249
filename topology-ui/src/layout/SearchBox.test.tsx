import { act, screen } from "@testing-library/react";
import userEvent from "@testing-library/user-event";
import { describe, expect, it } from "vitest";
import { graph, node } from "../test/fixtures";
import { renderPage } from "../test/render";
import { SearchBox } from "./SearchBox";

function box() {
  const { services } = renderPage(<SearchBox />);
  act(() => services.store.setGraph(graph([node("default/reviews-v1"), node("default/reviews-v2"), node("default/ratings-v1")], [])));
  return screen.getByRole("combobox", { name: "Find a request by its ID" });
}

describe("SearchBox", () => {
  it("is reached by a slash and looks an ID up", async () => {
    const input = box();
    await userEvent.keyboard("/");
    expect(document.activeElement).toBe(input);
    await userEvent.keyboard("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01{Enter}");
    expect(window.location.search).toBe("?request=4bf92f3577b34da6a3ce929d0e0e4736");
  });

  it("goes to the one workload that a name can mean", async () => {
    await userEvent.type(box(), "ratings{Enter}");
    expect(window.location.search).toBe("?node=default/ratings-v1");
  });

  it("takes an ambiguous name for an ID, which then explains itself", async () => {
    await userEvent.type(box(), "reviews{Enter}");
    expect(window.location.search).toBe("?request=reviews");
  });
});
