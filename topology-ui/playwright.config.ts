import { defineConfig } from "@playwright/test";

// The specs run against any hub that carries Bookinfo: the mock of dev/ or the
// real demo. TELEMESH_URL names it.
export default defineConfig({
  testDir: "e2e",
  timeout: 45_000,
  expect: { timeout: 10_000 },
  // The machines that run this share few cores; a page that animates wants one.
  workers: 1,
  reporter: [["list"]],
  use: {
    baseURL: process.env.TELEMESH_URL ?? "http://127.0.0.1:15080",
    viewport: { width: 1440, height: 900 },
    screenshot: "only-on-failure",
    launchOptions: {
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      args: [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
      ],
    },
  },
});
