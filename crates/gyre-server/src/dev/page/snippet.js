// The `centrifuge` package as it is, made to trust the certificate of this server by its hash.
const { hashes } = await (await fetch("http://localhost:8000/connection/webtransport/hashes")).json();
const bytes = (base64) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
const serverCertificateHashes = hashes.map(({ algorithm, value }) => ({ algorithm, value: bytes(value) }));
const Native = WebTransport;
globalThis.WebTransport = function (url, options) {
  return new Native(url, { ...options, serverCertificateHashes });
};

const centrifuge = new Centrifuge([
  { transport: "webtransport", endpoint: "https://localhost:8000/connection/webtransport" },
  { transport: "websocket", endpoint: "ws://localhost:8000/connection/websocket" },
]);
const news = centrifuge.newSubscription("demo:news");
news.on("publication", ({ data }) => console.log(data));
news.subscribe();
centrifuge.connect();
