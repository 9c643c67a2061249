import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [react()],
  // The hub replaces the placeholder by a fresh nonce in each answer, so that
  // its Content-Security-Policy needs no 'unsafe-inline'.
  html: { cspNonce: "__CSP_NONCE__" },
  build: {
    target: "es2022",
    // .gitkeep keeps the embedded folder in git; nothing else lives there.
    emptyOutDir: true,
    // data: URLs would need a hole in the policy.
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 700,
  },
  server: {
    proxy: { "/api": { target: process.env.TELEMESH_URL ?? "http://127.0.0.1:15080", changeOrigin: true } },
  },
});
