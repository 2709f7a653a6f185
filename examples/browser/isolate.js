// Copyright 2026 The hf-longformer authors.
// SPDX-License-Identifier: Apache-2.0
// A service worker that answers with the headers that a plain file server does not send: those that let WebAssembly use
// several threads, and the policy of the page for its worker, which a policy in HTML does not reach.

const HEADERS = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Content-Security-Policy":
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; " +
    "style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'",
};

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  if (new URL(event.request.url).origin !== self.location.origin) return; // which the policy refuses
  event.respondWith(answer(event.request));
});

async function answer(request) {
  const found = await fetch(request);
  if (found.type === "error" || found.type === "opaqueredirect") return found;
  const headers = new Headers(found.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  const { status, statusText } = found;
  return new Response(found.body, { status, statusText, headers });
}
