// An app that believes only what its SDK verifies: 200, or 401.
//
//     node app.cjs telnyx PUBLIC_KEY | standard-webhooks whsec_…|whpk_…
//
// Prints its port, then a line of JSON for each request, with the time before and after it was judged. A
// path that ends in /busy is answered 503 on the first attempt, after it has been verified. A form is only
// verified, since `unwrap` wants JSON; at a path that ends in /unwrap it is unwrapped nevertheless.
'use strict';

const crypto = require('node:crypto');
const http = require('node:http');
const { Webhook } = require('standardwebhooks');
const { Telnyx } = require('telnyx');
const { TelnyxWebhook } = require('telnyx/lib/webhooks');

function telnyx(publicKey) {
  const client = new Telnyx({ apiKey: 'unused', publicKey });
  return (body, headers, unwraps) =>
    unwraps
      ? client.webhooks.unwrap(body.toString(), { headers })
      : new TelnyxWebhook(publicKey).verify(body.toString(), headers);
}

// v1a, which the library does not know, by the text of the standard.
function asymmetric(publicKey) {
  const raw = Buffer.from(publicKey.slice('whpk_'.length), 'base64');
  const key = crypto.createPublicKey({
    key: { kty: 'OKP', crv: 'Ed25519', x: raw.toString('base64url') },
    format: 'jwk',
  });
  return (body, headers) => {
    const timestamp = headers['webhook-timestamp'];
    if (!(Math.abs(Date.now() / 1000 - Number(timestamp)) <= 300)) throw new Error('too old or too new');
    const [version, signature] = headers['webhook-signature'].split(',');
    const message = Buffer.concat([Buffer.from(`${headers['webhook-id']}.${timestamp}.`), body]);
    if (version !== 'v1a' || !crypto.verify(null, message, key, Buffer.from(signature, 'base64'))) {
      throw new Error('no matching signature');
    }
  };
}

function verifier(scheme, key) {
  if (scheme === 'telnyx') return telnyx(key);
  if (key.startsWith('whpk_')) return asymmetric(key);
  const webhook = new Webhook(key);
  return (body, headers) => webhook.verify(body, headers);
}

const verify = verifier(...process.argv.slice(2));

const server = http.createServer(async (request, response) => {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  const isForm = request.headers['content-type'].startsWith('application/x-www-form-urlencoded');
  const unwraps = !isForm || request.url.endsWith('/unwrap');
  let refused = null;
  const before = Date.now() / 1000;
  try {
    await verify(Buffer.concat(pieces), request.headers, unwraps);
  } catch (error) {
    refused = `${error.name}: ${error.message}`;
  }
  const attempt = request.headers['hookward-attempt'];
  const judged = [before, Date.now() / 1000];
  console.log(JSON.stringify({ path: request.url, attempt, refused, judged }));
  const busy = request.url.endsWith('/busy') && attempt === '1';
  response.writeHead(refused ? 401 : busy ? 503 : 200, { 'content-length': '0' }).end();
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
