// Follows the page's function: a line of four fields in base64 (key, timestamp, signature, body), a verdict for each.
while (($line = fgets(STDIN)) !== false) {
    [$key, $timestamp, $signature, $body] = array_map('base64_decode', explode(',', trim($line)));
    $headers = ['telnyx-timestamp' => $timestamp, 'telnyx-signature-ed25519' => $signature];
    try {
        echo verify($key, $headers, $body) ? "true\n" : "false\n";
    } catch (Throwable) {
        echo "error\n";
    }
}
