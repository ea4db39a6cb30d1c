// A site on Node's own server: prints its port, and answers with what it was asked for and the header
// that says who verified it.
const server = require("node:http").createServer((request, response) => {
  const header = (name) => request.headers[name] ?? null;
  response.setHeader("Content-Type", "application/json");
  response.end(
    JSON.stringify({
      path: decodeURIComponent(new URL(request.url, "http://site").pathname),
      verified: header("hookward-verified"),
      moved: header("x-forwarded-prefix") ?? header("script-name"),
    }),
  );
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
