# Follows the page's function: a line of four fields in base64 (key, timestamp, signature, body), a verdict for each.
$stdout.sync = true
while (line = $stdin.gets)
  key, timestamp, signature, body = line.strip.split(',', -1).map { |field| field.unpack1('m') }
  headers = { 'telnyx-timestamp' => timestamp, 'telnyx-signature-ed25519' => signature }
  begin
    puts verify(key, headers, body)
  rescue StandardError
    puts 'error'
  end
end
