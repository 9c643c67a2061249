import { describe, expect, it } from "vitest";
import { EventParser } from "./sse";

const stream = ': hello\n\nid: 7\nevent: graph\ndata: {"a":1}\n\nid: 8\r\nevent: delta\r\ndata: one\r\ndata: two\r\n\r\ndata\n\n';
const want = [
  { event: "graph", data: '{"a":1}', id: "7" },
  { event: "delta", data: "one\ntwo", id: "8" },
  { event: "message", data: "", id: "8" },
];

describe("EventParser", () => {
  it("reads events, comments, several data lines and any line end", () => {
    expect(new EventParser().push(stream)).toEqual(want);
  });

  it("reads the same however the stream is cut", () => {
    for (let size = 1; size < stream.length; size++) {
      const parser = new EventParser();
      const events = [];
      for (let i = 0; i < stream.length; i += size) events.push(...parser.push(stream.slice(i, i + size)));
      expect(events).toEqual(want);
    }
  });

  it("keeps an event that has not ended", () => {
    expect(new EventParser().push("data: x\n")).toEqual([]);
  });
});
