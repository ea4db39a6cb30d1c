// Follows the page's function: a line of four fields in base64 (key, timestamp, signature, body), a verdict for each.
const lines = require('node:readline').createInterface({ input: process.stdin });
lines.on('line', (line) => {
  const [key, timestamp, signature, body] = line.split(',').map((field) => Buffer.from(field, 'base64'));
  const headers = { 'telnyx-timestamp': `${timestamp}`, 'telnyx-signature-ed25519': `${signature}` };
  try {
    console.log(`${verify(`${key}`, headers, body)}`);
  } catch {
    console.log('error');
  }
});
