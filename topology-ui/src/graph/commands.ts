/** The same question for the command line. Kept in one place because meshctl's words are a contract. */

export const commands = {
  demo: () => "meshctl demo",
  status: () => "meshctl status",
  hub: () => "mesh-hub",
  join: () => "meshctl run --service NAME --port P -- CMD",
  request: (id: string) => `meshctl trace ${quote(id)}`,
  serviceTap: (service: string) => `meshctl tap --service ${quote(service)}`,
} as const;

/** Quotes for a POSIX shell; what needs no quotes gets none. */
function quote(word: string): string {
  return /^[\w./:-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
